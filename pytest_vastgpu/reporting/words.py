"""How the lines of a run name what an instance does: it serves, or it is a host for tests, without a server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Workload


@dataclass(frozen=True)
class Words:
    """Parts of sentences. ``{}`` in some stands for why, or for how it ended."""

    launched: str = "server launched"
    begins_again: str = "starting the server again{}; what it had in memory is lost"
    again: str = "server started again, since the one before {}; what that had in memory is lost"
    """Empty: it is told as ready, as the first time."""
    ended: str = "the server {}"
    no_look: str = "its server cannot be looked at, or not started again"
    then: str = "the next test that needs it gets the server started again, on the same instance"
    last_lines: str = "the server's last lines"
    not_ready: str = "no instance became ready for {}"
    failed_while: Mapping[State, str] = field(default_factory=dict)
    """What went on in a state, where its name does not say it."""


_SERVER = Words()
_HOST = Words(
    launched="environment set up",
    begins_again="making it ready again{}",
    again="",
    ended="our process there {}",
    no_look="it cannot be looked at, or not made ready again",
    then="it is made ready again for the next tests",
    last_lines="the last lines of its set-up",
    not_ready="{} did not become ready",
    failed_while={State.CHECKED: "set up", State.WARMING: "set up"},
)


def words(workload: Workload) -> Words:
    """The words for instances of a workload."""
    return _HOST if workload.adapter == HOST else _SERVER


def whose(workload: Workload, name: str, instance_id: int, nth: int) -> str:
    """What a line about an attempt begins with: ``instance 17``, ``host 1 (instance 17)``, ``attempt 2``.

    :param name: The workload's name.
    :param instance_id: 0 before the create.
    :param nth: 1 for the first attempt of the workload.
    """
    which = f"instance {instance_id}" if instance_id else f"attempt {nth}"
    return f"{name} ({which})" if workload.adapter == HOST else which
