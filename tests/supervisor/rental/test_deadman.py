"""The dead man's switch as a real process of real shells, against a market that writes down who called."""

from __future__ import annotations

import itertools
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.local.market.create_body import LONGEST_ONSTART
from pytest_vastgpu.providers.vast.client import self_destruct
from pytest_vastgpu.ssh.keys import LONGEST_LINE
from pytest_vastgpu.supervisor.rental.deadman import NAME
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.deadman import HeartbeatReply
from pytest_vastgpu.supervisor.rental.deadman import heartbeat_command
from pytest_vastgpu.supervisor.rental.deadman import onstart
from pytest_vastgpu.supervisor.rental.deadman import parse_heartbeat_reply
from pytest_vastgpu.supervisor.rental.heartbeat import arming
from pytest_vastgpu.supervisor.rental.server.job import HOME
from tests.support.looks import PATIENCE_S
from tests.support.looks import until

KEY, INSTANCE = "a-key-of-the-container", "4711"
BASICS = ("chmod", "date", "grep", "mkdir", "rm", "sed", "setsid", "sleep", "tail", "touch", "tr")
SHELLS, CLIENTS = ("dash", "bash", "busybox"), ("curl", "python3", "wget")
QUICK = {("dash", "python3"), ("bash", "curl"), ("busybox", "wget")}
PAIRS = [
    pytest.param(
        *pair,
        marks=[
            *([] if pair in QUICK else [pytest.mark.slow]),
            pytest.mark.skipif(None in map(shutil.which, pair), reason="it is not installed here"),
        ],
    )
    for pair in itertools.product(SHELLS, CLIENTS)
]
GET, DELETE = [(method, f"/api/v0/instances/{INSTANCE}/", f"Bearer {KEY}") for method in ("GET", "DELETE")]


def test_the_longest_start_script_leaves_room_below_the_market_s_limit() -> None:
    longest_url = f"https://{'m' * 63}.{'a' * 63}.{'r' * 63}.{'k' * 61}:65535"
    century_s = 100 * 365 * DAY_S
    script = onstart(self_destruct(longest_url), lease_s=century_s, boot_timeout_s=century_s, lifetime_s=century_s)
    assert len(script) <= LONGEST_ONSTART - 900


class Market:
    """An HTTP server that knows one instance and answers as it is told."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[str, str, str | None]] = queue.SimpleQueue()
        self.status = 200
        calls, market = self.calls, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.put((self.command, self.path, self.headers["Authorization"]))
                self.send_response(market.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_DELETE = do_GET  # noqa: N815 - the library's own way to name them

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Market:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self) -> tuple[str, str, str | None]:
        """The next call."""
        return self.calls.get(timeout=PATIENCE_S)


@pytest.fixture
def market() -> Iterator[Market]:
    with Market() as market:
        yield market


class Box:
    """What an instance is to its start script: a home, an environment and some programs.

    :param clients: The programs that speak HTTP, which it has besides the basic ones.
    """

    def __init__(self, folder: Path, shell: str, clients: Sequence[str], *, key: bool = True) -> None:
        self.home = folder / "home"
        self.programs = folder / "bin"
        self.home.mkdir(parents=True)
        self.programs.mkdir()
        program = str(shutil.which(shell))
        self._link("sh", program)
        for name in BASICS:
            self._link(name, program if shell == "busybox" else str(shutil.which(name)))
        for name in clients:
            self._link(name, os.path.realpath(sys.executable) if name == "python3" else str(shutil.which(name)))
        self.environment = {"HOME": str(self.home), "PATH": str(self.programs), "CONTAINER_ID": INSTANCE}
        if key:
            self.environment["CONTAINER_API_KEY"] = KEY

    def _link(self, name: str, program: str) -> None:
        (self.programs / name).symlink_to(program)

    def run(self, script: str) -> str:
        """What a script prints, run as over SSH or at the container's start."""
        command = [str(self.programs / "sh"), "-c", script]
        done = subprocess.run(
            command, cwd="/", env=self.environment, capture_output=True, timeout=PATIENCE_S, check=True
        )
        return done.stdout.decode()

    def beat(self, lease_s: float, end_s: float | None = None) -> HeartbeatReply:
        beat = parse_heartbeat_reply(self.run(heartbeat_command(lease_s, end_s)))
        assert beat is not None
        return beat

    def settled(self) -> DeadmanState:
        """The switch, once waiting does not change it."""
        return until(lambda: self.beat(60).switch, lambda seen: seen.settled)

    @property
    def pid(self) -> int:
        written = until(lambda: self.switch.read_text() if self.switch.exists() else "", bool)
        return int(written.split()[0])

    @property
    def switch(self) -> Path:
        return self.home / HOME / "switch"


@contextmanager
def killed(box: Box) -> Iterator[None]:
    """In the end the container is gone, with the switch that is in it."""
    try:
        yield
    finally:
        os.killpg(box.pid, signal.SIGKILL)
        box.switch.unlink()  # else the next start of this container would be taken for this one


def script(market: Market, *, lease_s: float = 5, boot_timeout_s: float = 60, lifetime_s: float = 3600) -> str:
    return onstart(self_destruct(market.url), lease_s=lease_s, boot_timeout_s=boot_timeout_s, lifetime_s=lifetime_s)


@pytest.mark.parametrize(("shell", "client"), PAIRS)
def test_it_ends_its_own_instance_when_the_lease_is_over(
    tmp_path: Path, market: Market, shell: str, client: str
) -> None:
    box = Box(tmp_path, shell, [client])
    box.run(script(market))
    with killed(box):
        assert box.settled() == DeadmanState(True, True, client)
        assert market.asked() == GET
        assert market.calls.empty()
        box.beat(0)
        assert market.asked() == DELETE
        assert KEY not in "".join(path.read_text() for path in (box.home / HOME).iterdir())


@pytest.mark.slow
def test_the_hard_end_comes_while_the_lease_goes_on(tmp_path: Path, market: Market) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    box.run(script(market))
    with killed(box):
        box.settled()
        assert box.beat(300, 0).end_s == 0
        assert market.asked() == GET
        assert market.asked() == DELETE
        assert box.beat(300).lease_s == 300


@pytest.mark.slow
def test_it_ends_an_instance_that_nobody_ever_reached_and_needs_neither_a_disk_nor_setsid(
    tmp_path: Path, market: Market
) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    (box.programs / "setsid").unlink()
    box.environment["HOME"] = "/dev/null"
    command = [str(box.programs / "sh"), "-c", script(market, boot_timeout_s=0, lease_s=1)]
    with subprocess.Popen(command, env=box.environment, stderr=subprocess.DEVNULL, start_new_session=True) as container:
        try:
            assert market.asked() == GET
            assert market.asked() == DELETE
        finally:
            os.killpg(container.pid, signal.SIGKILL)


@pytest.mark.slow
def test_an_image_with_another_home_than_ssh_sessions_have(tmp_path: Path, market: Market) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    box.environment["HOME"] = str(tmp_path / "home of the image")
    box.run(script(market).replace(f"R=/root/{HOME}", f"R={box.home / HOME}"))
    box.environment["HOME"] = str(box.home)
    assert box.settled() == DeadmanState(True, True, "curl")
    with killed(box):
        box.beat(0)
        assert market.asked() == GET
        assert market.asked() == DELETE


def test_a_restart_arms_it_again_and_prolongs_nothing(tmp_path: Path, market: Market) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    box.run(script(market))
    with killed(box):
        box.settled()
        box.beat(60, 90)
        ends = [(box.home / HOME / name).read_text() for name in ("lease", "end")]
    assert market.asked() == GET
    box.run(script(market))
    with killed(box):
        assert market.asked() == GET
        assert [(box.home / HOME / name).read_text() for name in ("lease", "end")] == ends
        assert box.settled().armed
        (box.home / HOME / "lease").write_text("1\n")  # it was off for longer than the lease
        assert market.asked() == DELETE


@pytest.mark.slow
def test_of_two_the_newer_one_stays(tmp_path: Path, market: Market) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    box.run(script(market))
    box.settled()
    older = os.pidfd_open(box.pid)
    box.run(script(market))
    until(box.settled, lambda seen: seen.armed)
    with killed(box):
        assert select.select([older], [], [], PATIENCE_S) == ([older], [], [])
        assert box.settled().armed
    os.close(older)


@pytest.mark.parametrize(
    ("clients", "key", "status", "why"),
    [
        (["curl"], False, 200, "the container has no key of its own (CONTAINER_API_KEY)"),
        ([], True, 200, "the image has neither curl nor python3 nor wget"),
        (["curl"], True, 401, "the market answers HTTP 401 to the container's own key (curl)"),
        (["python3"], True, 404, "the market answers HTTP 404 to the container's own key (python3)"),
        (["wget"], True, 308, "the market answers HTTP 308 to the container's own key (wget)"),
    ],
)
def test_where_it_cannot_be_armed_it_says_why(
    tmp_path: Path, market: Market, clients: list[str], key: bool, status: int, why: str
) -> None:
    market.status = status
    box = Box(tmp_path, "dash", clients, key=key)
    assert box.beat(60).switch.text == "its start script has not been run"
    box.run(script(market))
    assert box.settled() == DeadmanState(False, True, why)
    if clients and key:
        os.killpg(box.pid, signal.SIGKILL)
        gone = DeadmanState(False, True, "its process is gone")
        assert until(lambda: box.beat(60).switch, lambda seen: seen.text != why) == gone


@pytest.mark.parametrize("shell", ["dash", pytest.param("busybox", marks=pytest.mark.slow)])
def test_a_line_that_changes_while_it_is_read_is_never_half_old_and_half_new(tmp_path: Path, shell: str) -> None:
    box = Box(tmp_path, shell, [])
    box.beat(60)
    lines = ["4242 starting 0", "4242 curl 401"]
    box.switch.write_text(lines[0])
    read, written = threading.Event(), itertools.cycle(f"{line}\n".encode() for line in lines)

    def write() -> None:
        with box.switch.open("r+b", buffering=0) as file:
            while not read.wait(0.0002):
                file.seek(0)
                file.write(next(written))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        printed = box.run(f"i=0; while [ $i -lt 400 ]; do i=$((i+1)); ({heartbeat_command(60)}); done")
    finally:
        read.set()
        writer.join()
    assert {line.partition(" gone ")[2] for line in printed.splitlines()} == {"starting 0", "curl 401"}


def test_a_heartbeat_that_got_the_number_of_a_switch_that_is_gone_does_not_take_itself_for_it(tmp_path: Path) -> None:
    box = Box(tmp_path, "dash", [])
    box.beat(60)
    beat = parse_heartbeat_reply(box.run(f'echo "$$ curl 200" >{box.switch}; {heartbeat_command(60)}'))
    assert beat is not None
    assert beat.switch == DeadmanState(False, True, "its process is gone")


def test_what_it_says_last_is_heard_though_it_ends_while_the_heartbeat_looks(tmp_path: Path) -> None:
    box = Box(tmp_path, "dash", [])
    box.beat(60)
    box.switch.write_text("4242 starting 0\n")
    ends = f'kill() {{ echo "$2 none 0" >{box.switch}; return 1; }}; '
    beat = parse_heartbeat_reply(box.run(ends + heartbeat_command(60)))
    assert beat is not None
    assert beat.switch == DeadmanState(False, True, "the image has neither curl nor python3 nor wget")


@pytest.mark.slow
def test_a_key_that_may_not_look_may_still_end_its_instance(tmp_path: Path, market: Market) -> None:
    market.status = 403
    box = Box(tmp_path, "dash", ["curl"])
    box.run(script(market))
    with killed(box):
        switch = box.settled()
        assert switch.armed
        assert "may not look" in switch.text
        assert market.asked() == GET
        box.beat(0)
        assert market.asked() == DELETE


@pytest.mark.slow
def test_a_market_that_does_not_answer_at_first_is_asked_again(tmp_path: Path, market: Market) -> None:
    market.status = 503
    box = Box(tmp_path, "dash", ["curl"])
    box.run(script(market))
    with killed(box):
        assert market.asked() == GET
        unanswered = DeadmanState(False, False, "the market does not answer from inside (curl)")
        until(lambda: box.beat(60).switch, lambda seen: seen == unanswered)
        market.status = 200
        assert box.settled().armed


@pytest.mark.parametrize("client", CLIENTS)
def test_no_process_list_shows_the_key(tmp_path: Path, market: Market, client: str) -> None:
    box = Box(tmp_path, "dash", [client])
    listed = tmp_path / "listed"
    program = box.programs / client
    real = program.readlink()
    program.unlink()
    program.write_text(f'#!{box.programs}/sh\necho "$0 $@" >> {listed}\nexec {real} "$@"\n')
    program.chmod(0o700)
    box.run(script(market))
    with killed(box):
        assert box.settled().armed
        own = Path(f"/proc/{box.pid}/cmdline").read_bytes().split(b"\0")
        assert own == [b"sh", b"-c", b'eval "$VASTGPU_SWITCH"', NAME.encode(), b""]
        assert KEY not in listed.read_text()
        assert client in listed.read_text()


def test_the_start_script_is_short_and_keeps_what_it_did(tmp_path: Path, market: Market) -> None:
    assert (
        len(
            onstart(
                self_destruct("https://" + "market." * 20 + "example"), lease_s=1e6, boot_timeout_s=1e6, lifetime_s=1e6
            )
        )
        < 3000
    )
    box = Box(tmp_path, "bash", ["curl"])
    box.run(script(market))
    with killed(box):
        assert (box.home / ".no_auto_tmux").exists()
        assert (box.home / ".ssh").stat().st_mode & 0o777 == 0o700
        assert (box.home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600
        box.settled()


def test_the_start_script_lets_our_key_log_in_once_and_keeps_the_keys_of_others(tmp_path: Path, market: Market) -> None:
    key = "ssh-ed25519 AAAA+it's/$HOME== pytest-vastgpu"
    text = onstart(self_destruct(market.url), lease_s=5, boot_timeout_s=60, lifetime_s=60, public_key=key)
    box = Box(tmp_path, "dash", ["curl"])
    keys = box.home / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.write_text("ssh-rsa BBBB somebody")  # without a line end, as some images leave it
    keys.chmod(0o664)
    for _ in range(2):  # as at each start of the container
        box.run(text)
        with killed(box):
            box.settled()
    assert [line for line in keys.read_text().splitlines() if line] == ["ssh-rsa BBBB somebody", key]
    assert keys.stat().st_mode & 0o777 == 0o600


def test_the_start_script_with_the_largest_key_is_below_the_markets_limit() -> None:
    url = "https://" + "market." * 10 + "example"
    longest = {"lease_s": 1e6, "boot_timeout_s": 1e6, "lifetime_s": 1e6}
    assert len(onstart(self_destruct(url), **longest, public_key="x" * LONGEST_LINE)) < 4048


def test_a_url_is_quoted(tmp_path: Path, market: Market) -> None:
    box = Box(tmp_path, "dash", ["curl"])
    market.url += "/it's$HOME"
    box.run(script(market))
    with killed(box):
        assert box.settled().armed
        assert market.asked()[1] == f"/it's$HOME/api/v0/instances/{INSTANCE}/"


@pytest.mark.parametrize(
    ("output", "beat"),
    [
        ("1000 1300 8000 alive curl 200\n", HeartbeatReply(300, 7000, DeadmanState(True, True, "curl"))),
        ("1000 1300 8000 alive curl 429\n", HeartbeatReply(300, 7000, DeadmanState(True, True, "curl"))),
        ("1000 1300  gone \n", HeartbeatReply(300, 0, DeadmanState(False, False, "its start script has not been run"))),
        ("1000 1300 900 gone curl 200\n", HeartbeatReply(300, 0, DeadmanState(False, True, "its process is gone"))),
        ("1000  8000 alive curl 200\n", None),
        ("", None),
        ("no sessions\n", None),
    ],
)
def test_what_a_heartbeat_hears(output: str, beat: HeartbeatReply | None) -> None:
    assert parse_heartbeat_reply(output) == beat


@pytest.mark.parametrize(
    ("settled", "age_s", "waited_for"),
    [(False, 0.0, True), (False, 5.0, False), (True, 0.0, False), (True, 9.0, False)],
)
def test_a_switch_is_waited_for_some_seconds_until_it_is_settled(settled: bool, age_s: float, waited_for: bool) -> None:
    assert arming(DeadmanState(settled, settled, ""), age_s, within_s=5.0) is waited_for
