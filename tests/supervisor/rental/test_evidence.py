from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.supervisor.rental import evidence


def test_whoever_fails_or_is_late_is_noted_and_the_rest_is_kept() -> None:
    end = threading.Event()

    def late() -> Mapping[str, str]:
        end.wait(30)
        return {"late.txt": "too late"}

    def broken() -> Mapping[str, str]:
        raise OSError("the line is cut")

    class Ending(CancelToken):
        """Ends the wait when two have answered."""

        answered = threading.Semaphore(0)

        def nudge(self) -> None:
            self.answered.release()

        def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
            assert all(self.answered.acquire(timeout=30) for _ in range(2))
            assert not until()

    files = evidence.gather({"good": lambda: {"good.txt": "here"}, "late": late, "broken": broken}, 0.2, Ending())
    end.set()
    assert files == {
        "good.txt": "here",
        "missing.txt": "late: no answer within 0.2 s\nbroken: OSError: the line is cut\n",
    }


def test_nobody_is_waited_for_when_all_have_answered() -> None:
    sources: dict[str, evidence.Source] = {"one": lambda: {"a": "1"}, "two": lambda: {"b": "2"}}
    assert evidence.gather(sources, 3600.0, CancelToken()) == {"a": "1", "b": "2"}


def test_the_end_of_the_run_ends_the_wait() -> None:
    ending, asked, end = CancelToken(), threading.Event(), threading.Event()

    def late() -> Mapping[str, str]:
        asked.set()
        ending.cancel()
        end.wait(30)
        return {}

    files = evidence.gather({"late": late, "good": lambda: {"good.txt": "here"}}, 3600.0, ending)
    end.set()
    assert asked.is_set()
    assert files["missing.txt"].startswith("late: no answer")


def test_a_probe_that_failed_says_so_and_keeps_what_came() -> None:
    results = {
        "ss.txt": ProbeResult("ss.txt", ProbeFailure.TIMEOUT, None, "half a tab", "", 4.0),
        "df.txt": ProbeResult("df.txt", ProbeFailure.NONE, 0, "10 GB", "", 0.1),
        "nvidia-smi.txt": ProbeResult("nvidia-smi.txt", ProbeFailure.COMMAND, 127, "", "not found", 0.1),
        # Without it, what was read of the log before stays.
        "server.log": ProbeResult("server.log", ProbeFailure.COMMAND, 1, "", "no such file", 0.1),
    }
    assert evidence.probe_files(results) == {
        "ss.txt": "half a tab\n[timeout, exit code None] \n",
        "df.txt": "10 GB",
        "nvidia-smi.txt": "\n[command, exit code 127] not found\n",
    }


def test_every_probe_has_a_limit_below_that_of_the_whole() -> None:
    assert all(0 < probe.timeout_s < DEFAULTS.evidence_s for probe in evidence.PROBES)
