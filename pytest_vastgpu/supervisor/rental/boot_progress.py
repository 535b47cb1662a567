"""Detects that a boot makes progress, from status text, disk use and the container's log.

On a healthy host the status text may stay the same for ten minutes while image layers are unpacked; the disk or the log
grows meanwhile. Conversely, a changed text is no progress where it repeats an earlier one or reports an error.
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
"""Least growth of the disk that counts as progress: a growing log file alone stays below it."""
LOG_AFTER_S = 120.0
"""The container's log is read after each period of this length without progress."""


@dataclass(frozen=True)
class StatusSample:
    """One answer of the market about an instance."""

    at_s: float
    status: InstanceStatus | None
    """None: the market reports that the instance does not exist."""
    log: str = ""
    """The end of the container's log; empty where it was not read."""


_PROGRESS = FailureClass.WARMUP
"""The class of a status text that reports progress."""


class BootHistory:
    """All answers of the market during a boot, and the time of the last progress.

    Progress is: a new status text that reports progress, a disk that is fuller than before, or a new line in the
    container's log. Lines that differ only in their numbers count as the same line, so that a counter in a repeated
    error message is no progress.

    :param judge_status: Returns the verdict on a status text. Called once for each distinct text.
    :param anonymous: Whether the image is pulled without a login at its registry.
    """

    def __init__(self, judge_status: Callable[[str], Verdict], *, anonymous: bool = False) -> None:
        self.anonymous = anonymous
        self.samples: list[StatusSample] = []
        """All answers so far, oldest first."""
        self.got_on = False
        """Whether the boot has made any progress."""
        self.last_s = 0.0
        """Time of the last progress; before any progress, time of the first answer."""
        self.judge = functools.cache(judge_status)
        self._told: set[str] = set()
        self._logged: set[str] = set()
        self._disk_gb = 0.0
        self._log_at_s = 0.0

    def add(self, sample: StatusSample) -> None:
        """Add the newest answer."""
        if not self.samples:
            self.last_s = sample.at_s
        self.samples.append(sample)
        if self._makes_progress(sample):
            self.last_s, self.got_on = sample.at_s, True
        if sample.log:
            self._log_at_s = sample.at_s

    def wants_log(self, now_s: float) -> bool:
        """Whether it is time to read the container's log."""
        return bool(self.samples) and now_s - max(self._log_at_s, self.last_s) >= LOG_AFTER_S

    def _makes_progress(self, sample: StatusSample) -> bool:
        new = set(_kinds(sample.log)) - self._logged
        self._logged |= new
        if (status := sample.status) is None:
            return bool(new)
        texts = {text for text in _kinds(status.message) if text not in self._told}
        self._told |= texts
        new |= {text for text in texts if self.judge(text).failure_class is _PROGRESS}
        if status.disk_usage_gb >= self._disk_gb + DISK_STEP_GB:
            self._disk_gb = status.disk_usage_gb
            new.add("disk")
        return bool(new)


@functools.lru_cache(maxsize=256)  # consecutive answers mostly carry the same status text
def _kinds(text: str) -> tuple[str, ...]:
    return tuple(found for line in text.splitlines() if (found := kind(line)))
