"""Signs that a booting instance gets on, read from their meaning. Pure; times are seconds since create.

A status text may stand still for ten minutes on a healthy host, while layers are unpacked: then its disk or its log
grows. The other way round, a text that changes is no sign where it says the same again, or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.diagnosis.lines import kind
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus

DISK_STEP_GB = 0.01
"""Growth that is more than a log file's."""
LOG_AFTER_S = 120.0
"""Without a sign for so long, the container's log is asked for, and again after as long."""


@dataclass(frozen=True)
class StatusSample:
    """One answer of the market."""

    at_s: float
    status: InstanceStatus | None
    """None: the market says that there is no such instance."""
    log: str = ""
    """The end of the container's log where it was asked for."""


@dataclass(frozen=True)
class BootProgress:
    """What a boot has shown so far."""

    last_s: float
    """When it last got on; that of the first look where it never did."""
    any: bool
    """Whether it ever did."""


_GETS_ON = FailureClass.WARMUP
"""The class of a status text that tells of progress."""


def read(looks: Sequence[StatusSample], judge_status: Callable[[str], Verdict]) -> BootProgress:
    """The signs in what was seen.

    News are: a status text never seen before that tells of progress, a disk that is fuller than ever, a line of the
    container's log that was never there before. Numbers in a line do not make it a new one: counters of the same
    complaint are no news.
    """
    told: set[str] = set()
    logged: set[str] = set()
    disk_gb = 0.0
    last_s = looks[0].at_s
    found = False
    for look in looks:
        news = set(_kinds(look.log)) - logged
        logged |= news
        status = look.status
        for text in _kinds(status.message) if status is not None else ():
            if text not in told and judge_status(text).failure_class is _GETS_ON:
                news.add(text)
            told.add(text)
        if status is not None and status.disk_usage_gb >= disk_gb + DISK_STEP_GB:
            disk_gb = status.disk_usage_gb
            news.add("disk")
        if news:
            last_s, found = look.at_s, True
    return BootProgress(last_s, found)


def wants_log(looks: Sequence[StatusSample], now_s: float, judge_status: Callable[[str], Verdict]) -> bool:
    """Whether it is time to ask for the container's log."""
    if not looks:
        return False
    asked_s = max((look.at_s for look in looks if look.log), default=0.0)
    return now_s - max(asked_s, read(looks, judge_status).last_s) >= LOG_AFTER_S


def _kinds(log: str) -> list[str]:
    return [found for line in log.splitlines() if (found := kind(line))]
