"""Whether an instance that was ready has gone away, and whose fault that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.ssh.login import ConnectFailed

if TYPE_CHECKING:
    from pytest_vastgpu.providers.base import Provider
    from pytest_vastgpu.supervisor.rental.rental import Rental


def confirm_lost(rental: Rental, client: Provider) -> Verdict | None:
    """Ask SSH, then the market, whether it went away. None where it is alive, or where nobody can say."""
    if rental.link is not None:
        try:
            if rental.link.run("true", timeout_s=10).ok:
                return None
        except ConnectFailed as failed:
            seen = str(failed)
        else:
            seen = "commands over SSH get no answer"
    else:
        seen = "no SSH connection"
    try:
        status = client.show(rental.instance_id)
    except MarketError:
        return None  # neither answers: our own network may be down, and nobody is blamed for that
    if status is None and rental.heartbeat is not None and rental.heartbeat.gave_up:
        return Verdict(
            FailureClass.OWN_FAULT,
            "lease_over",
            f"{seen}; it has not heard of us for {rental.heartbeat.silent_s:.0f} s, and so it ended itself",
            "keep this machine awake and connected, or raise --vast-lease",
        )
    state = "the market no longer knows it" if status is None else status.explanation
    return rental.fair(
        Verdict(
            FailureClass.RUNTIME_LOST,
            "instance_lost",
            f"{seen}; {state}",
            "the next test that needs it gets a new instance; run the lost test again; what was left of it is in "
            f"{rental.directory}",
        )
    )
