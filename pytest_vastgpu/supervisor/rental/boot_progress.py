"""Signs that a booting instance gets on, read from their meaning. Pure; times are seconds since create.

A status text may stand still for ten minutes on a healthy host, while layers are unpacked: then its disk or its log
grows. The other way round, a text that changes is no sign where it says the same again, or an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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


_GETS_ON = FailureClass.WARMUP
"""The class of a status text that tells of progress."""


class BootHistory:
    """What a boot has shown so far, and when it last got on.

    It gets on with a status text never seen before that tells of progress, a disk that is fuller than ever, a line of
    the container's log that was never there before. Numbers in a line do not make it a new one: counters of the same
    complaint are no news.

    :param judge_status: Verdict on a status text. Asked once for each text.
    """

    def __init__(self, judge_status: Callable[[str], Verdict]) -> None:
        self.samples: list[StatusSample] = []
        """All answers so far, oldest first."""
        self.got_on = False
        """Whether it ever got on."""
        self.last_s = 0.0
        """When it last got on; that of the first answer where it never did."""
        self.judge = functools.cache(judge_status)
        self._told: set[str] = set()
        self._logged: set[str] = set()
        self._disk_gb = 0.0
        self._log_at_s = 0.0

    def add(self, sample: StatusSample) -> None:
        """Take one more answer."""
        if not self.samples:
            self.last_s = sample.at_s
        self.samples.append(sample)
        if self._gets_on(sample):
            self.last_s, self.got_on = sample.at_s, True
        if sample.log:
            self._log_at_s = sample.at_s

    def wants_log(self, now_s: float) -> bool:
        """Whether it is time to ask for the container's log."""
        return bool(self.samples) and now_s - max(self._log_at_s, self.last_s) >= LOG_AFTER_S

    def _gets_on(self, sample: StatusSample) -> bool:
        news = set(_kinds(sample.log)) - self._logged
        self._logged |= news
        if (status := sample.status) is None:
            return bool(news)
        texts = {text for text in _kinds(status.message) if text not in self._told}
        self._told |= texts
        news |= {text for text in texts if self.judge(text).failure_class is _GETS_ON}
        if status.disk_usage_gb >= self._disk_gb + DISK_STEP_GB:
            self._disk_gb = status.disk_usage_gb
            news.add("disk")
        return bool(news)


@functools.lru_cache(maxsize=256)  # a status text stays the same for many answers
def _kinds(text: str) -> tuple[str, ...]:
    return tuple(found for line in text.splitlines() if (found := kind(line)))
