"""How long a whole life of an instance takes on the virtual clock, from the search to the last destroy.

``python -m tests.benchmarks.lives``: provider and connections are in memory; see :mod:`tests.support.lives`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pytest_vastgpu.core.text.redaction import KNOWN
from tests.benchmarks import report
from tests.support.lives import Life
from tests.support.lives import any_key
from tests.support.memory import Script

GOAL_S = 1 / 200
SCRIPTS = (
    (Script(),),
    (Script(refuses_key_s=60),),
    (Script(boot_s=120),),
    (Script(offline_s=(5, 20)),),
    (Script(vanishes_after_s=15), Script()),
)


def rows(quick: bool) -> list[report.Row]:
    """Seconds of the processor, since other programs may be running."""
    key, count = any_key(), 5 if quick else 500
    virtual_s = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        began = time.process_time()
        for number in range(count):
            life = Life(Path(scratch), SCRIPTS[number % len(SCRIPTS)], key)
            if life.live() is not None or life.provider.instances:
                raise report.Failed("a life did not go as scripted")
            virtual_s += life.clock.now
            KNOWN.forget()
        took = (time.process_time() - began) / count
    return [report.Row("a scripted life on the virtual clock", took, most=GOAL_S, facts={"virtual_s": virtual_s})]


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
