"""The offers of the market: the newest of each machine, and the machines of older ones."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_vastgpu.local.fleet.fleet import Host
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import offer_row

_FIRST_OFFER = 1_000_001


@dataclass
class _Listing:
    host: Host
    row: Row
    rented: int
    """How many instances the machine holds."""


class Listings:
    """The offers of a market.

    :param now: Epoch seconds.
    """

    def __init__(self, hosts: Iterable[Host], now: float) -> None:
        self._now = now
        self._by_machine: dict[int, _Listing] = {}
        self._by_offer: dict[int, _Listing] = {}
        for host in hosts:
            self._put(host, 0)

    def rows(self) -> Iterator[Row]:
        """Return all offers, also rented ones. Each machine keeps its place."""
        return (listing.row for listing in self._by_machine.values())

    def host(self, offer_id: int) -> Host | None:
        """Return the host whose offer this is or was; None for an unknown id."""
        listing = self._by_offer.get(offer_id)
        return listing.host if listing else None

    def is_current(self, offer_id: int) -> bool:
        """Whether this is still the newest offer of its machine; it may be rented."""
        listing = self._by_offer[offer_id]
        return self._by_machine[listing.host.machine.machine_id] is listing and listing.host.machine.rentable

    def has_room(self, host: Host) -> bool:
        """Whether one more instance fits on a machine."""
        return self._by_machine[host.machine.machine_id].rented < host.machine.slots

    def take(self, host: Host) -> None:
        """Count one more instance on a machine."""
        listing = self._by_machine[host.machine.machine_id]
        listing.rented += 1
        if not self.has_room(host):
            listing.row = {**listing.row, "rented": True, "rentable": False}

    def give_back(self, host: Host) -> None:
        """Count one instance less. A machine that was full gets another offer id, as on the real market."""
        listing = self._by_machine[host.machine.machine_id]
        listing.rented -= 1
        if listing.row["rented"]:
            self._put(host, listing.rented)

    def _put(self, host: Host, rented: int) -> None:
        offer_id = _FIRST_OFFER + len(self._by_offer)
        listing = _Listing(host, offer_row(host.machine, offer_id, self._now), rented)
        self._by_machine[host.machine.machine_id] = self._by_offer[offer_id] = listing
