"""What is fetched from which host, when, and how long that may take; and what a worker says for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import SupervisorGone
from pytest_vastgpu.plugin.on_host.fetch import Fetching
from pytest_vastgpu.plugin.on_host.on_worker import TMP_PATH
from pytest_vastgpu.plugin.on_host.on_worker import serve
from pytest_vastgpu.plugin.options import TIMEOUTS
from pytest_vastgpu.plugin.options import resolve_hosts
from tests.support.looks import PATIENCE_S

RUN = "run-1"
Answer = Callable[[socket.socket, PipeRequest], object]


def run_it(sock: socket.socket, asked: PipeRequest) -> None:
    """What a supervisor does: the command, on a host."""
    subprocess.run(["sh", "-c", asked.command], stdin=sock.fileno(), stdout=sock.fileno(), check=True)


class Home:
    """A run's root directory, with a host whose files are on this machine, and what is done on it."""

    def __init__(self, folder: Path, answer: Answer = run_it, fetch: str = "*.json", **limits: float) -> None:
        self.root, self.work = folder / "home", folder / "work"
        self.root.mkdir()
        (self.work / "project").mkdir(parents=True)
        self._answer = answer
        self.told: list[str] = []
        stash = pytest.Stash()
        stash[TIMEOUTS] = Timeouts(**limits)  # type: ignore[arg-type] # all are seconds
        given = {"vast_fetch": [fetch] if fetch else None, "vast_fetch_tmp": "yes"}
        settings = resolve_hosts(given.get, lambda _: None, {})
        config: Any = SimpleNamespace(rootpath=self.root, stash=stash)
        self.fetching = Fetching(config, settings, self._connect, self.told.append)
        self.node: Any = SimpleNamespace(gateway=SimpleNamespace(id="gw0"), workerinput={"testrunuid": RUN})
        self.node.workerinput["vastgpu_host"] = {
            "place": "host 1",
            "work": str(self.work),
            "basetemp": f"{self.work}/t",
        }
        self.fetching.pytest_configure_node(self.node)
        serve(config, {**self.node.workerinput["vastgpu_host"]["fetch"], "tmp_path": False})
        self.ready("host 1")

    def ready(self, name: str) -> None:
        lease: Any = SimpleNamespace(label="label")
        host: Any = SimpleNamespace(name=name, lease=lease, python=sys.executable, work=PurePosixPath(self.work))
        self.fetching.ready(host)

    def _connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()

        def serves() -> None:
            with theirs:
                self._answer(theirs, decode(PipeRequest, messages.receive(theirs)))

        threading.Thread(target=serves, daemon=True).start()
        return ours

    def fails(self, test: str, when: str = "call", **attributes: object) -> None:
        report: Any = pytest.TestReport(test, ("", 0, ""), {}, "failed", "bad", when, node=self.node, **attributes)  # type: ignore[arg-type] # xdist has a phase of its own
        self.fetching.pytest_runtest_logreport(report)

    @property
    def summary(self) -> list[str]:
        lines: list[str] = []
        reporter: Any = SimpleNamespace(write_line=lines.append)
        self.fetching.pytest_terminal_summary(reporter)
        return lines

    def ends(self) -> None:
        """What pytest does at the end of the session."""
        hook = self.fetching.pytest_sessionfinish()
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(None)

    def write(self, name: str, text: str = "x") -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def arrived(self) -> set[str]:
        folder = self.root / "vast-fetched"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".gitignore"}


def raised(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    with pytest.raises(type(error)) as info:
        raise error
    return info


def test_files_and_the_tmp_path_of_failed_tests_come_once_and_are_told_of(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.write("project/r.json")
    for name in ("test_x0", "test_y0", "test_y1", "test_crash_p_0"):
        home.write(f"t/{name}/out")
    home.fails("tests/test_a.py::test_x[p/q-ä]", **{TMP_PATH: f"{home.work}/t/test_x0"})
    home.fails("test_b.py::test_y", **{TMP_PATH: f"{home.work}/t/test_y0"})
    home.fails("test_b.py::test_y", **{TMP_PATH: f"{home.work}/t/test_y1"})  # tried again
    home.fails("test_b.py::test_y]", **{TMP_PATH: f"{home.work}/t/test_y0"})  # of nearly the same name
    home.fails("test_b.py::test_crash[p]", when="???")
    home.fails("test_b.py::test_has_none")
    home.fetching.fetch("host 1")
    home.fetching.fetch("host 1")
    home.ends()
    assert home.arrived == {
        "host-1/r.json",
        "host-1/tmp_path/tests_test_a.py_test_x_p_q/out",
        "host-1/tmp_path/test_b.py_test_y/out",
        "host-1/tmp_path/test_b.py_test_y-2/out",
        "host-1/tmp_path/test_b.py_test_crash_p/out",
    }
    assert home.told == ["host 1: fetching *.json, tmp_path of 4 failed tests"]
    assert home.summary == ["vastgpu: host 1: fetched 5 files (5 bytes) into vast-fetched/host-1"]


def test_what_is_left_at_the_end_of_the_session_is_fetched_from_all_hosts(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.ready("host 2")
    home.write("project/r.json")
    home.ends()
    assert home.arrived == {"host-1/r.json", "host-2/r.json"}


def test_who_asks_for_a_host_s_files_a_second_time_waits_until_they_are_there(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def late(sock: socket.socket, request: PipeRequest) -> None:
        asked.set()
        go_on.wait()
        run_it(sock, request)

    home = Home(tmp_path, late)
    home.write("project/r.json")

    def fetch() -> None:
        home.fetching.fetch("host 1")
        done.append(home.summary[0])

    first, second = threading.Thread(target=fetch), threading.Thread(target=fetch)
    first.start()
    asked.wait()
    second.start()
    second.join(0.1)  # it has had the time to be wrong
    assert done == []
    go_on.set()
    first.join()
    second.join()
    assert done == ["vastgpu: host 1: fetched 1 file (1 byte) into vast-fetched/host-1"] * 2


def test_nothing_is_asked_of_a_host_without_a_pattern_and_a_failed_test(tmp_path: Path) -> None:
    home = Home(tmp_path, lambda *_: pytest.fail("asked"), fetch="")
    home.ends()
    assert (home.told, home.summary, list(home.root.iterdir())) == ([], [], [])


def test_a_host_that_is_lost_is_told_in_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.fetching.lost("host 1")
    home.fetching.lost("host 2")
    home.ends()
    assert home.summary == ["vastgpu: host 1 was lost, and with it what its tests had written: nothing fetched"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [({"fetch_still_s": 0.0}, "nothing came for 0 s"), ({"fetch_most_s": 0.0}, "0 s are over")],
)
def test_a_host_that_says_nothing_is_not_waited_for(tmp_path: Path, limits: dict[str, float], why: str) -> None:
    over = threading.Event()
    home = Home(tmp_path, lambda *_: over.wait(), "*.json", **limits)
    home.ends()
    over.set()
    assert home.summary == [f"vastgpu: host 1: nothing fetched: {why}"]


def test_once_a_person_has_interrupted_the_run_there_is_less_time(tmp_path: Path) -> None:
    over = threading.Event()
    home = Home(tmp_path, lambda *_: over.wait(), fetch_interrupted_s=0.0)
    home.fetching.pytest_keyboard_interrupt(raised(KeyboardInterrupt()))
    home.ends()
    over.set()
    assert home.summary == ["vastgpu: host 1: nothing fetched: 0 s are over"]


def test_an_end_by_minus_x_leaves_all_the_time(tmp_path: Path) -> None:
    home = Home(tmp_path, fetch_interrupted_s=0.0)
    home.write("project/r.json")
    home.fetching.pytest_keyboard_interrupt(raised(pytest.Session.Interrupted()))
    home.ends()
    assert home.arrived == {"host-1/r.json"}


def test_ctrl_c_while_files_come_ends_that_alone(tmp_path: Path) -> None:
    over = threading.Event()

    def interrupts(sock: socket.socket, asked: PipeRequest) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        over.wait()

    home = Home(tmp_path, interrupts, leave_s=PATIENCE_S)
    home.ends()
    over.set()
    assert home.summary == ["vastgpu: host 1: nothing fetched: interrupted"]


def test_a_supervisor_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def gone() -> socket.socket:
        raise SupervisorGone("the supervisor has ended")

    home.fetching._connect = gone
    home.ends()
    assert home.summary == ["vastgpu: host 1: nothing fetched: the supervisor has ended"]


def test_a_folder_of_somebody_else_is_told_in_one_line_and_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.root / "vast-fetched").write_text("a file")
    home.ends()
    [line] = home.summary
    assert line.startswith("vastgpu: host 1: nothing fetched: [Errno 17] File exists: ")


SUITE = """
import pytest, unittest

@pytest.fixture
def through(tmp_path):
    return tmp_path

@pytest.fixture
def breaks(tmp_path):
    raise OSError("broken")

@pytest.fixture
def late(tmp_path):
    yield
    raise OSError("late")

@pytest.mark.parametrize("n", [1, 2])
def test_param(n, tmp_path): assert n == 1
def test_through(through): assert 0
def test_setup(breaks): pass
def test_teardown(late): pass
def test_asks(request):
    request.getfixturevalue("tmp_path")
    assert 0
def test_old(tmpdir): assert 0
def test_none(): assert 0
@pytest.mark.xfail
def test_expected(tmp_path): assert 0
def test_factory(tmp_path_factory):
    tmp_path_factory.mktemp("own")
    assert 0
class TestOld(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def has(self, tmp_path): pass
    def test_it(self): assert 0
"""


def test_the_report_of_a_failed_test_says_its_tmp_path_and_the_junit_file_does_not(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SUITE)

    class OnHost:
        def pytest_configure(self, config: pytest.Config) -> None:
            serve(config, {"since": str(pytester.path / "hosts" / "since"), "tmp_path": True})

    pytester.inline_run("--junitxml=home.xml", "-p", "no:randomly")
    run = pytester.inline_run("--junitxml=there.xml", "-p", "no:randomly", plugins=[OnHost()])
    reports = [call.report for call in run.getcalls("pytest_runtest_logreport")]
    found = {
        report.nodeid.rpartition("::")[2]: Path(getattr(report, TMP_PATH)).name
        for report in reports
        if hasattr(report, TMP_PATH)
    }
    assert found == {
        "test_param[2]": "test_param_2_0",
        "test_through": "test_through0",
        "test_setup": "test_setup0",
        "test_teardown": "test_teardown0",
        "test_asks": "test_asks0",
        "test_old": "test_old0",
        "test_it": "test_it0",
    }
    shape = [
        sorted(
            (each.tag, tuple(sorted(set(each.attrib) - {"time", "timestamp"})), each.get("name"))
            for each in tree.iter()
        )
        for tree in (ET.parse(pytester.path / name).getroot() for name in ("home.xml", "there.xml"))  # noqa: S314 - our own
    ]
    assert shape[0] == shape[1]


def test_the_second_worker_of_a_host_does_not_move_the_beginning_of_its_run(tmp_path: Path) -> None:
    since = tmp_path / "tmp" / "since"
    config: Any = None
    serve(config, {"since": str(since), "tmp_path": False})
    os.utime(since, ns=(1, 1))
    serve(config, {"since": str(since), "tmp_path": False})
    assert since.stat().st_mtime_ns == 1
