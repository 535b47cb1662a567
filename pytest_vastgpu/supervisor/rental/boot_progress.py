"""Keeps what the market reports of a boot, and detects progress in status text, disk use and the container's log.

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
from pytest_vastgpu.ssh.address import SshAddress

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
    :param machine_id: The machine that was rented; 0: any.
    :param anonymous: Whether the image is pulled without a login at its registry.
    """

    def __init__(self, judge_status: Callable[[str], Verdict], machine_id: int = 0, *, anonymous: bool = False) -> None:
        self.anonymous = anonymous
        self.machine_id = machine_id
        self.seen = False
        """Whether the market has ever reported the instance."""
        self._addresses: dict[str, SshAddress] = {}
        self.published: dict[int, str] = {}
        """``host:port`` by the container's TCP port, as last reported: a report may lack what an earlier one had."""
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

    @property
    def doubted(self) -> bool:
        """Whether the newest answer shows another machine or an impossible price: it may be a gap in the data."""
        status = self.samples[-1].status if self.samples else None
        return status is not None and (bool(status.incredible) or not self.concerns(status))

    def add(self, sample: StatusSample) -> None:
        """Add the newest answer."""
        if not self.samples:
            self.last_s = sample.at_s
        self.samples.append(sample)
        if sample.status is not None:
            self.seen = True
            if self.concerns(sample.status):
                self._addresses |= {address.kind: address for address in sample.status.ssh}
                self.published |= sample.status.published
        if self._makes_progress(sample):
            self.last_s, self.got_on = sample.at_s, True
        if sample.log:
            self._log_at_s = sample.at_s

    @property
    def ssh(self) -> tuple[SshAddress, ...]:
        """Addresses of its SSH server, the best first; of each kind the one that was reported last."""
        return tuple(self._addresses[kind] for kind in ("direct", "proxy") if kind in self._addresses)

    def concerns(self, status: InstanceStatus) -> bool:
        """Whether a report is one on the machine that was rented."""
        return not (self.machine_id and status.machine_id) or status.machine_id == self.machine_id

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
