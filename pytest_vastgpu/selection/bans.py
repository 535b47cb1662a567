"""Which ban is in force: the one place that says what wins over what. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pytest_vastgpu.model import Reputation


class BanInForce(NamedTuple):
    """Why a machine must not be rented now."""

    of: str
    """What is banned: ``machine 4242`` or ``host 7``."""
    reason: str
    until: float
    """Epoch seconds; ``inf`` for good."""


def ban_in_force(reputation: Reputation, machine_id: int, host_id: int, now: float) -> BanInForce | None:
    """The ban that keeps a machine from being rented; None where nothing forbids it.

    What is said of the machine decides before what is said of its operator, and the allow-list before a ban.

    :param now: Epoch seconds.
    """
    machine = reputation.machines.get(machine_id)
    if machine and machine.allowed:
        return None
    if machine and machine.banned_until > now:
        return BanInForce(f"machine {machine_id}", machine.ban_reason, machine.banned_until)
    host = reputation.hosts.get(host_id)
    if host and host.banned_until > now and not host.allowed:
        return BanInForce(f"host {host_id}", host.ban_reason, host.banned_until)
    return None
