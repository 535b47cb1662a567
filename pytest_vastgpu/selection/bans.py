"""Which ban is in force: the one place that decides between a machine's and its operator's. Pure.

Either has one ban at most: :mod:`pytest_vastgpu.reputation.scoring` decides between a ban by hand and an earned one.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_vastgpu.model import Reputation


class BanInForce(NamedTuple):
    """Why a machine must not be rented now."""

    of: str
    """The banned machine or host: ``machine 4242`` or ``host 7``."""
    reason: str
    until: float
    """Epoch seconds; ``inf`` for a ban without end."""


def ban_in_force(reputation: Reputation, machine_id: int, host_id: int, now: float) -> BanInForce | None:
    """The ban that keeps a machine from being rented; None if there is none.

    An entry for the machine takes precedence over one for its operator, and the allow-list over a ban.

    :param now: Epoch seconds.
    """
    machine = reputation.machines.get(machine_id)
    if machine and machine.allowed:
        return None
    if machine and machine.banned_until > now:
        return BanInForce(f"machine {machine_id}", machine.ban_reason, machine.banned_until)
    return operator_ban(reputation, host_id, now)


def operator_ban(reputation: Reputation, host_id: int, now: float) -> BanInForce | None:
    """The ban that keeps an operator's machines from being rented; None where none is in force.

    The allow-list decides before a ban.

    :param now: Epoch seconds.
    """
    host = reputation.hosts.get(host_id)
    if host and host.banned_until > now and not host.allowed:
        return BanInForce(f"host {host_id}", host.ban_reason, host.banned_until)
    return None
