"""Finds the descendants of a process."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def descendants(ancestor: int) -> list[int]:
    """Return the process ids of all present descendants of a process."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, parent in _parents():
        children[parent].append(pid)
    found: list[int] = []
    level = [ancestor]
    while level:
        level = [child for pid in level for child in children[pid]]
        found += level
    return found


def _parents() -> list[tuple[int, int]]:
    if sys.platform != "linux":
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return [(int(pid), int(parent)) for pid, parent in map(str.split, listing.splitlines())]
    pairs = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has just ended
                continue
            pairs.append((int(entry.name), int(stat.rpartition(")")[2].split()[1])))
    return pairs
