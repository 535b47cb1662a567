"""What is on offer: each machine's newest offer, and who has had an older one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_vastgpu.local.fleet.fleet import Host
from pytest_vastgpu.local.market.column_index import ColumnIndex
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import offer_row

_FIRST_OFFER = 1_000_001


@dataclass
class _Listing:
    host: Host
    row: Row
    rented: int
    position: int
    """In the table."""


class Listings:
    """The offers of a market.

    :param now: Epoch seconds.
    """

    def __init__(self, hosts: Iterable[Host], now: float) -> None:
        self._now = now
        self.table = ColumnIndex()
        """All offers, rented ones too."""
        self._by_machine: dict[int, _Listing] = {}
        self._by_offer: dict[int, _Listing] = {}
        for host in hosts:
            self._put(host, 0)

    def host(self, offer_id: int) -> Host | None:
        """Whose offer this is or was; None for an id that never was one."""
        listing = self._by_offer.get(offer_id)
        return listing.host if listing else None

    def stands(self, offer_id: int) -> bool:
        """Whether this is still the machine's offer; it may be rented."""
        listing = self._by_offer[offer_id]
        return self._by_machine[listing.host.machine.machine_id] is listing and listing.host.machine.rentable

    def free(self, host: Host) -> bool:
        """Whether one more instance fits on a machine."""
        return self._by_machine[host.machine.machine_id].rented < host.machine.slots

    def take(self, host: Host) -> None:
        """One instance more on a machine."""
        listing = self._by_machine[host.machine.machine_id]
        listing.rented += 1
        if not self.free(host):
            listing.row = {**listing.row, "rented": True, "rentable": False}
            self.table.replace(listing.position, listing.row)

    def give_back(self, host: Host) -> None:
        """One less. A machine that was full comes back under another offer id, as on the real market."""
        listing = self._by_machine[host.machine.machine_id]
        listing.rented -= 1
        if listing.row["rented"]:
            self._put(host, listing.rented)

    def _put(self, host: Host, rented: int) -> None:
        offer_id = _FIRST_OFFER + len(self._by_offer)
        row = offer_row(host.machine, offer_id, self._now)
        before = self._by_machine.get(host.machine.machine_id)
        if before is None:
            position = self.table.append(row)
        else:
            position = before.position
            self.table.replace(position, row)
        listing = _Listing(host, row, rented, position)
        self._by_machine[host.machine.machine_id] = self._by_offer[offer_id] = listing
