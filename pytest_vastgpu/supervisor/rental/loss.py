"""Decides whether a ready instance was lost, and whose fault that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.give_up import LOOKS
from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat


@dataclass(frozen=True)
class Seen:
    """What is known of an instance that may be lost."""

    instance_id: int
    connection: ReconnectingConnection | None
    heartbeat: Heartbeat | None
    directory: Path
    """Where its evidence is kept."""
    attribute_fault: Callable[[Verdict], Verdict]
    """Checks our own side before the machine is blamed; see :mod:`~pytest_vastgpu.supervisor.rental.self_check`."""


def confirm_lost(seen: Seen, provider: Provider, wait: Callable[[], None]) -> Verdict | None:
    """Ask SSH, then the market, whether the instance was lost. None: it is alive, or neither can tell.

    Both are asked twice: one answer alone may be a gap.

    :param wait: Waits between the two looks.
    """
    for look in range(LOOKS):
        if look:
            wait()
        ssh = _why_silent(seen.connection)
        if not ssh:
            return None
        try:
            status = provider.show(seen.instance_id)
        except MarketError:
            return None  # neither answers: our own network may be down, and no machine is blamed for that
    if status is None and seen.heartbeat is not None and seen.heartbeat.gave_up:
        return Verdict(
            FailureClass.OWN_FAULT,
            "lease_over",
            f"{ssh}; it has not heard of us for {seen.heartbeat.silent_s:.0f} s, and so it ended itself",
            "keep this machine awake and connected, or raise --vast-lease",
        )
    state = "the market no longer knows it" if status is None else status.explanation
    return seen.attribute_fault(
        Verdict(
            FailureClass.RUNTIME_LOST,
            "instance_lost",
            f"{ssh}; {state}",
            "the next test that needs it gets a new instance; run the lost test again; what was left of it is in "
            f"{seen.directory}",
        )
    )


def lifetime_over(max_lifetime_s: float) -> Verdict:
    """The verdict on an instance that was given back at the end of its life."""
    text = f"it was given back after {max_lifetime_s:g} s (--vast-max-lifetime), while the test used it"
    return Verdict(FailureClass.OWN_FAULT, "lifetime_over", text, "raise --vast-max-lifetime")


def became_too_dear(price: Verdict | None) -> Verdict:
    """The verdict on an instance that was given back before the budget was passed.

    :param price: The verdict on its price.
    """
    reason, evidence = (price.reason, price.evidence) if price is not None else ("price_above_limit", "")
    text = f"it was given back while the test used it, before the budget was passed: {evidence}"
    return Verdict(FailureClass.OWN_FAULT, reason, text, "raise --vast-budget and --vast-max-price")


def _why_silent(connection: ReconnectingConnection | None) -> str:
    """Why SSH gives no answer; empty where it does."""
    if connection is None:
        return "no SSH connection"
    try:
        return "" if connection.run("true", timeout_s=10).ok else "commands over SSH get no answer"
    except ConnectFailed as failed:
        return str(failed)
