"""The suite is a user's: runs of :mod:`.test_suite` collect it, and ours does not."""

from __future__ import annotations

collect_ignore = ["suite"]
