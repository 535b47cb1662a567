"""The seed of this run's kills."""

from __future__ import annotations

import os
import random

# Chosen here, in the process that starts the workers, so that all of them collect the same.
SEED = int(os.environ.setdefault("VASTGPU_KILL_SEED", str(random.SystemRandom().randrange(10**6))))


def pytest_report_header() -> str:
    return f"kills: repeat them with VASTGPU_KILL_SEED={SEED}"
