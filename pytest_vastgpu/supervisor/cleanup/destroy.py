"""Destroys an instance: idempotent, retried, and done only when the market no longer lists the instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_vastgpu.core.backoff import backoff_s
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.reporting.alive import destroys

if TYPE_CHECKING:
    from pytest_vastgpu.providers.base import Provider

_CHECKS = 5
_LONGEST_PAUSE_S = 10.0


class NotDestroyed(MarketError):
    """An instance could not be destroyed, or not verified gone: it may go on costing money.

    :param instance: Its id, or its label where the id is not known.
    :param what: Words for what could not be destroyed, where that is not this one instance.
    """

    def __init__(self, instance: int | str, cause: str, *, what: str = "") -> None:
        self.alive = Alive(Why.RESISTS, what or f"instance {instance}", destroys(instance), cause=cause)
        super().__init__(self.alive.problem)
        self.instance = instance


def cause_of(error: Exception) -> str:
    """Why something failed, for people: also for an error that should not have happened."""
    return str(error) if isinstance(error, VastGpuError) else f"{type(error).__name__}: {error}"


def destroy(
    client: Provider,
    instance_id: int,
    wait: Callable[[float], None],
    timeouts: Timeouts = DEFAULTS,
    clock: Clock = SYSTEM_CLOCK,
    resists: Callable[[str], None] = lambda _: None,
) -> None:
    """Destroy an instance and verify that it is gone; success also where it is gone already.

    The market may report success and not destroy the instance; the call is then repeated. A stopped instance is not
    gone. Nothing but the end of its time ends the tries: even a refused key may be a mistake of the market.

    :param wait: Waits for a number of seconds. :class:`~pytest_vastgpu.core.clock.Cancelled` passes through.
    :param resists: Called with the reason, after each try that has failed.
    :raises NotDestroyed: if the instance is still there in the end, or the market does not answer.
    """
    deadline = Deadline.after(timeouts.destroy_within_s, clock)
    cause = "no time to ask"
    failures = 0
    while not deadline.passed:
        try:
            client.destroy(instance_id)
            for _ in range(_CHECKS):
                if _is_gone(client, instance_id):
                    return
                wait(timeouts.destroy_pause_s)
            cause = "the market said yes and still lists it"
            resists(cause)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the instance costs money until it is gone
            cause = cause_of(error)
            resists(cause)
            failures += 1
            wait(min(backoff_s(timeouts.destroy_pause_s, failures, _LONGEST_PAUSE_S), deadline.remaining_s))
    raise NotDestroyed(instance_id, cause)


def _is_gone(client: Provider, instance_id: int) -> bool:
    """Check two endpoints of the market, since each has been seen to lag behind."""
    if client.show(instance_id) is not None:
        return False
    return all(status.id != instance_id for status in client.list_instances())
