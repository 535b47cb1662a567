"""The watcher's program, run by each shell that instances may have, and what is made of what it tells."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.supervisor.rental.server.job import KILLED_EXIT_CODE
from pytest_vastgpu.supervisor.rental.server.monitor import program
from pytest_vastgpu.supervisor.rental.server.state import LogPiece
from pytest_vastgpu.supervisor.rental.server.state import ProcessState
from pytest_vastgpu.supervisor.rental.server.state import ServerUpdate
from pytest_vastgpu.supervisor.rental.server.state import parse
from tests.support.looks import free_port
from tests.support.looks import until
from tests.support.quick import only

LONG_S = 30.0
SHELLS = {
    "dash": ["dash"],
    "bash": ["bash"],
    "bash as sh": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
}


class Watcher:
    """The program at work on a home directory."""

    def __init__(
        self, home: Path, shell: str, path: str, probes: list[Probe], offset: int, more: Sequence[str], ignores: str
    ) -> None:
        script = home / ".vastgpu" / "watch.sh"
        script.write_text(program(probes))
        self._probes = probes
        self.news: queue.Queue[ServerUpdate] = queue.Queue()
        line = [str(shutil.which(SHELLS[shell][0])), *SHELLS[shell][1:], str(script), str(offset), *more]
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"trap '' {ignores}; exec \"$@\"", "sh", *line] if ignores else line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=home,
            env={"HOME": str(home), "PATH": path, "SECRET": "s3cret"},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            news = parse(line.decode().rstrip("\n"), self._probes)
            assert news is not None, line
            self.news.put(news)

    def next(self) -> ServerUpdate:
        return self.news.get(timeout=LONG_S)

    def until(self, wanted: Callable[[ServerUpdate], bool]) -> ServerUpdate:
        while not wanted(news := self.next()):
            pass
        return news

    def answer(self, name: str, wanted: Callable[[ProbeResult], bool] = lambda _: True) -> ProbeResult:
        found = self.until(lambda news: isinstance(news, ProbeResult) and news.name == name and wanted(news))
        assert isinstance(found, ProbeResult)
        return found

    def log(self, size: int) -> bytes:
        """The first bytes of the log, joined."""
        log = b""
        while len(log) < size:
            piece = self.until(lambda news: isinstance(news, LogPiece))
            assert isinstance(piece, LogPiece)
            log += piece.data
        return log

    def end(self) -> int:
        """Its stdin ends, as it does when the SSH channel is closed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self._reader.join(LONG_S)
        self.process.stdout.close()
        return self.process.wait(LONG_S)


Watch = Callable[..., Watcher]


@pytest.fixture(params=only(["dash"], SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"no {name} on this machine")
    return name


@pytest.fixture
def watch(home: Path, shell: str, tmp_path: Path) -> Iterator[Watch]:
    """Starts watchers; sees that they leave nothing behind."""
    ours = home / ".vastgpu"
    ours.mkdir()
    (ours / "server.log").touch()
    path = os.environ["PATH"]
    if shell == "busybox":  # nothing but busybox
        subprocess.run(["busybox", "--install", "-s", str(tmp_path)], check=True)
        path = str(tmp_path)
    started: list[Watcher] = []

    def start(*probes: Probe, offset: int = 0, more: Sequence[str] = (), ignores: str = "", first: str = "") -> Watcher:
        started.append(Watcher(home, shell, f"{first}:{path}".lstrip(":"), list(probes), offset, more, ignores))
        return started[-1]

    yield start
    for each in started:
        each.end()
        until_gone(each.process.pid)
    assert list(ours.glob("watch.[0-9]*")) == []


def processes_of(group: int) -> list[str]:
    """What lives of a process group."""
    done = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return [args for pgid, stat, args in rows if int(pgid) == group and not stat.startswith("Z")]


def until_gone(group: int) -> None:
    """Wait until nothing lives of a process group: what was killed is on its way out for a moment."""
    until(lambda: processes_of(group), lambda left: not left)


def put(home: Path, name: str, data: bytes) -> None:
    with (home / ".vastgpu" / name).open("ab") as file:
        file.write(data)


def test_the_log_is_told_as_it_grows_whatever_is_in_it(watch: Watch, home: Path) -> None:
    everything = bytes(range(256)) * 3
    put(home, "server.log", everything)
    watcher = watch()
    assert watcher.next() == LogPiece(0, everything)
    assert watcher.next() == ProcessState(None)
    put(home, "server.log", b"no end of line")
    assert watcher.next() == LogPiece(len(everything), b"no end of line")
    again = watch(offset=len(everything) + 3)
    assert again.next() == LogPiece(len(everything) + 3, b"end of line")


def test_a_long_log_comes_in_pieces_and_the_end_of_its_server_after_it(watch: Watch, home: Path) -> None:
    log = os.urandom(600_000)
    put(home, "server.log", log)
    put(home, "exit_code", b"3\n")
    watcher = watch()
    pieces = [watcher.next() for _ in range(3)]
    assert all(isinstance(piece, LogPiece) and len(piece.data) <= 1 << 18 for piece in pieces)
    assert b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece)) == log
    assert watcher.next() == ProcessState(3)


def test_of_a_huge_log_the_end_is_told(watch: Watch, home: Path) -> None:
    size = 30_000_000
    with (home / ".vastgpu" / "server.log").open("wb") as log:
        log.truncate(size - 4)
    put(home, "server.log", b"last")
    first = watch().next()
    assert isinstance(first, LogPiece)
    assert first.offset == size - (1 << 21)
    watcher = watch(offset=size - 3)
    assert watcher.next() == LogPiece(size - 3, b"ast")


def test_while_tests_use_the_server_its_log_and_its_end_are_told_all_the_same(watch: Watch, home: Path) -> None:
    put(home, "server.log", b"one\n")
    watcher = watch(more=["quiet"])
    assert [watcher.next(), watcher.next()] == [LogPiece(0, b"one\n"), ProcessState(None)]
    put(home, "server.log", b"two\n")
    assert watcher.next() == LogPiece(4, b"two\n")
    put(home, "server.log", b"last\n")
    put(home, "exit_code", b"3 0.50\n")
    assert watcher.next() == LogPiece(8, b"last\n")
    end = watcher.next()
    assert isinstance(end, ProcessState)
    assert end.exit_code == 3
    assert end.age_s > 0.5


# Only bash can wait for a pipe and a time at once.
@pytest.mark.parametrize("shell", only(["bash"], ["bash", "bash as sh"]), indirect=True)
@pytest.mark.parametrize(("end", "code"), [("echo 3 > .vastgpu/exit_code", 3), ("kill -9 $$", KILLED_EXIT_CODE)])
def test_the_end_of_a_server_in_use_is_seen_where_nothing_collects_its_process(
    watch: Watch, home: Path, end: str, code: int
) -> None:
    os.mkfifo(home / ".vastgpu" / "alive")
    script = f"exec 9<>.vastgpu/alive; echo open; read -r _; {end}"
    with subprocess.Popen(["sh", "-c", script], cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"open\n"
        put(home, "pid", b"%d\n" % server.pid)
        watcher = watch(more=["quiet"])
        assert watcher.next() == ProcessState(None)
        assert server.stdin is not None
        server.stdin.close()
        assert watcher.next() == ProcessState(code)


def test_a_server_that_is_killed(watch: Watch, home: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as server:
        put(home, "pid", b"%d\n" % server.pid)
        watcher = watch()
        assert watcher.next() == ProcessState(None)
        server.kill()
    assert watcher.next() == ProcessState(KILLED_EXIT_CODE)


def test_probes_are_told_when_they_change(watch: Watch, home: Path) -> None:
    put(home, "out", b"one \n")
    watcher = watch(
        Probe("changes", 'cat .vastgpu/out; echo "it\'s $SECRET" >&2; exit $(cat .vastgpu/code 2>/dev/null)'),
        Probe("stays", "echo the same"),
    )
    first = watcher.answer("changes")
    assert (first.stdout, first.stderr, first.exit_code) == ("one \n", "it's s3cret\n", 0)
    assert first.failure is ProbeFailure.NONE
    put(home, "out", b"\xff\n\n")
    assert watcher.answer("changes").stdout == "one \n\ufffd\n\n"
    put(home, "code", b"7\n")
    last = watcher.answer("changes")
    assert (last.failure, last.exit_code) == (ProbeFailure.COMMAND, 7)
    watcher.end()
    assert sum(isinstance(news, ProbeResult) and news.name == "stays" for news in watcher.news.queue) <= 1


@pytest.mark.slow
def test_a_probe_that_hangs_is_ended_with_its_children_and_holds_up_nobody(watch: Watch, home: Path) -> None:
    watcher = watch(
        Probe("hangs", "echo $$; echo waiting >&2; sleep 1000 & wait", timeout_s=1.0),
        Probe("answers", "cat .vastgpu/server.log"),
    )
    put(home, "server.log", b"hello\n")
    assert watcher.answer("answers", lambda result: result.stdout == "hello\n").ok
    for _ in range(2):  # it is tried again
        late = watcher.answer("hangs")
        assert (late.failure, late.exit_code, late.stderr) == (ProbeFailure.TIMEOUT, None, "waiting\n")
        until_gone(int(late.stdout))


def test_a_probe_without_end_is_cut(watch: Watch) -> None:
    result = watch(Probe("floods", "yes")).answer("floods")
    assert result.failure is ProbeFailure.COMMAND
    assert result.stdout == "y\n" * (1 << 17)


def test_a_running_probe_ends_with_the_watcher(watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> None:
    fifo = tmp_path_factory.mktemp("fifo") / "pid"
    os.mkfifo(fifo)
    watcher = watch(Probe("long", f"echo $$ > {fifo}; sleep 1000 & wait"))
    pid = int(fifo.read_text())
    watcher.end()
    until_gone(pid)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells what listens")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"] if Path("/proc/net/tcp6").exists() else ["127.0.0.1"])
def test_a_probe_waits_for_its_port(watch: Watch, home: Path, host: str) -> None:
    port = free_port()
    watcher = watch(Probe("answers", "echo x >> .vastgpu/runs; cat .vastgpu/server.log", port=port, every_s=1000))
    assert watcher.answer("answers").stdout == ""
    put(home, "server.log", b"hello\n")
    watcher.log(6)
    assert (home / ".vastgpu" / "runs").read_text() == "x\n"
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
        assert watcher.answer("answers").stdout == "hello\n"


def test_a_watcher_that_is_told_to_end(watch: Watch) -> None:
    watcher = watch(Probe("answers", "echo yes"))
    watcher.answer("answers")
    watcher.process.send_signal(signal.SIGTERM)
    assert watcher.process.wait(LONG_S) == 0


@pytest.mark.parametrize("shell", only(["bash"], SHELLS), indirect=True)
def test_a_probe_that_was_started_just_before_the_end_ends_too(watch: Watch, home: Path) -> None:
    """The end came between its start and the line that notes it; bash goes on where a file cannot be written."""
    watcher = watch(Probe("answers", "echo yes"))
    watcher.answer("answers")
    (lanes,) = (home / ".vastgpu").glob("watch.*[0-9]/lanes")
    lanes.write_text("")
    watcher.end()
    until_gone(watcher.process.pid)


def test_a_probe_ends_with_the_watcher_also_where_its_loop_came_to_nothing_after_its_start(
    watch: Watch, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a busy machine gives it no time before it is killed."""
    fifo = tmp_path_factory.mktemp("fifo") / "pid"
    os.mkfifo(fifo)
    text_of, started = program, "6<&- &\n"

    def slow(probes: Sequence[Probe]) -> str:
        text = text_of(probes)
        assert text.count(started) == 1
        return text.replace(started, f"{started}read -r _ <&6\n")

    monkeypatch.setattr(f"{__name__}.program", slow)
    watcher = watch(Probe("long", f"echo $$ > {fifo}; sleep 1000 & wait"))
    pid = int(fifo.read_text())
    watcher.end()
    until_gone(pid)


def test_what_a_probe_writes_while_the_notes_are_removed_keeps_nothing_alive(watch: Watch, home: Path) -> None:
    remove = home / "bin" / "rm"
    remove.parent.mkdir()
    remove.write_text('#!/bin/sh\nshift\nfor each; do /bin/rm -f "$each"/*; done\nsleep 1\nrmdir "$@"\n')
    remove.chmod(0o700)
    watcher = watch(Probe("answers", "echo yes"), first=str(remove.parent))
    watcher.answer("answers")
    (lanes,) = (home / ".vastgpu").glob("watch.[0-9]*/lanes")
    lanes.write_text("")
    watcher.end()
    until_gone(watcher.process.pid)


@pytest.mark.slow
def test_a_watcher_that_cannot_be_told_to_end_ends_with_its_connection(
    watch: Watch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A shell cannot trap a signal that whoever started it has ignored."""
    fifo = tmp_path_factory.mktemp("fifo") / "pid"
    os.mkfifo(fifo)
    watcher = watch(Probe("long", f"echo $$ > {fifo}; sleep 1000 & wait"), ignores="TERM HUP INT PIPE")
    pid = int(fifo.read_text())
    watcher.end()
    until_gone(watcher.process.pid)
    until_gone(pid)


def test_nothing_to_watch_is_told(watch: Watch, home: Path) -> None:
    (home / ".vastgpu" / "server.log").unlink()
    assert watch().process.wait(LONG_S) != 0
