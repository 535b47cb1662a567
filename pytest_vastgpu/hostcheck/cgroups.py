"""Reads a container's limits on cores and memory, in both versions of cgroups. Pure."""

from __future__ import annotations

import re

SCRIPT = """\
cd /sys/fs/cgroup 2>/dev/null &&
for name in cpu.max memory.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us memory/memory.limit_in_bytes; do
  [ -r "$name" ] && echo "$name $(cat "$name")"
done
"""
"""POSIX shell text that prints the limits; it prints nothing if it can read none."""
_NO_LIMIT = 1 << 60
"""Version 1 of cgroups represents no limit as the largest number of whole pages."""


def cores(limits: str) -> float | None:
    """Cores that the container's quota grants; None without a quota.

    :param limits: The output of :data:`SCRIPT`.
    """
    quota = _number(r"cpu\.max (\d+) \d+", limits) or _number(r"cpu\.cfs_quota_us (\d+)", limits)
    period = _number(r"cpu\.max \d+ (\d+)", limits) or _number(r"cpu\.cfs_period_us (\d+)", limits)
    return quota / period if quota and period else None


def memory_mb(limits: str) -> float | None:
    """MB of RAM that the container may use; None without a limit.

    :param limits: The output of :data:`SCRIPT`.
    """
    found = _number(r"memory\.(?:max|limit_in_bytes) (\d+)", limits)
    return found / 1e6 if found and found < _NO_LIMIT else None


def _number(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else None
