"""Decides which ban is in force: the one place that defines the precedence of bans. Pure."""

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
    host = reputation.hosts.get(host_id)
    if host and host.banned_until > now and not host.allowed:
        return BanInForce(f"host {host_id}", host.ban_reason, host.banned_until)
    return None
