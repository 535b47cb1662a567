"""The supervisor's handle on its guard."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_vastgpu.core import child
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.supervisor.cleanup.guard import Guard
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from tests.support.looks import until

WITHIN_S = 30.0


@pytest.mark.slow
def test_the_end_of_a_run_does_not_wait_for_a_guard_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "pid"
    never = f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    monkeypatch.setattr(child, "command", lambda *_: [sys.executable, "-c", never])
    ledger = Ledger(tmp_path / "abcd1234")
    guard = Guard(tmp_path / "abcd1234", Secret("key"), ledger)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(guard.ensure)
        pid = int(until(lambda: told.read_text() if told.exists() else "", lambda text: text.endswith("\n")))
        try:
            guard.let_go()
            with pytest.raises(Cancelled):
                waiting.result(WITHIN_S)
        finally:
            os.kill(pid, signal.SIGKILL)
            ledger.close()
    for thread in threading.enumerate():
        if thread.name == "vastgpu-guard":
            thread.join(WITHIN_S)
