"""The file by which a run finds a supervisor that has outlived another one, and the door behind it."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.client import warm
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.supervisor.door import Door
from tests.support.looks import until

WAITS = Warm("a label", 7, "vllm 'org/model'", 0.36, 1790000600.0, 600.0, 725.0, 90.0)
LOCAL = {"VAST_API_KEY": "k", "VAST_URL": "http://127.0.0.1:9"}


def opening(project: Path, run: str = "0000000b", **options: str) -> Opening:
    given = {f"vast_{name}": value for name, value in {"reuse": "20m", **options}.items()}
    settings = resolve(given.get, lambda _: None, LOCAL)
    return Opening("secret", run, settings, DEFAULTS, str(project), 1, False, (), (), str(project))


@dataclass
class Host:
    """A supervisor behind a door."""

    problem: Exception | None = None
    runs: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    ended: int = 0

    def joins(self, opening: Opening, listener: socket.socket, pid: int) -> None:
        if self.problem is not None:
            raise self.problem
        self.runs.append(opening.run)
        self.sockets.append(listener)
        self.pids.append(pid)

    def end_unless_used(self) -> list[str]:
        self.ended += not self.runs
        return self.runs

    def warm(self) -> list[Warm]:
        return [WAITS]

    def await_end(self) -> list[str]:
        return self.left


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    for sock in host.sockets:
        sock.close()


@pytest.fixture
def door(host: Host, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    with closing(Door(opening(tmp_path), LOCAL, host)) as door:
        assert door.publish() == ""
        yield door


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.remove()


def found(project: Path) -> warm.WarmSupervisor:
    known = warm.read(found_file(project))
    assert known is not None
    return known


@pytest.mark.usefixtures("door")
def test_only_this_user_can_read_where_it_listens(tmp_path: Path) -> None:
    file = found(tmp_path).file
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert "secret" not in repr(found(tmp_path)).replace("secret=", "")


def test_it_knows_whether_later_runs_find_it(door: Door, tmp_path: Path) -> None:
    assert door.is_found
    file = found(tmp_path).file
    other = replace(found(tmp_path), secret="another supervisor's")
    file.write_text(json.dumps(encode(other)))
    assert not door.is_found
    file.unlink()
    assert not door.is_found


@pytest.mark.usefixtures("door")
def test_it_serves_on_the_socket_of_the_run_that_joins(host: Host, tmp_path: Path, listener: Listener) -> None:
    warm.join(found(tmp_path), opening(tmp_path), listener)
    assert (host.runs, host.pids) == (["0000000b"], [os.getpid()])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.address.path)
        listener.close()
        accepted, _ = host.sockets[0].accept()
        with accepted:
            client.sendall(b"!")
            assert accepted.recv(1) == b"!"


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize(
    ("options", "environ", "why"),
    [
        ({"max_price": "0.5"}, {}, "it has --vast-max-price=1 USD/h, and this run 0.5 USD/h"),
        ({"strictness": "strict"}, {}, "it has --vast-strictness=balanced, and this run strict"),
        ({"expose": "yes"}, {}, "it has --vast-expose=no, and this run yes"),
        ({}, {"VAST_API_KEY": "another"}, "it has another VAST_API_KEY"),
        ({}, {"VAST_IMAGE_LOGIN": "-u me -p pass docker.io"}, "it has another VAST_IMAGE_LOGIN"),
        ({}, {"VAST_SSH_KEY_PATH": "mine"}, "it has another VAST_SSH_KEY_PATH"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_run_that_differs_is_told_in_what(
    host: Host,
    tmp_path: Path,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    environ: dict[str, str],
    why: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(warm.NotJoined, match=f"^{why}$"):
        warm.join(found(tmp_path), opening(tmp_path, **options), listener)
    assert host.runs == []


@pytest.mark.usefixtures("door")
def test_money_and_what_becomes_of_tests_are_each_run_s_own(host: Host, tmp_path: Path, listener: Listener) -> None:
    own = {"budget": "1", "on_infra_failure": "skip", "reuse": "5m"}
    warm.join(found(tmp_path), opening(tmp_path, **own), listener)
    assert host.runs == ["0000000b"]


@pytest.mark.usefixtures("door")
def test_why_it_cannot_serve_is_told(host: Host, tmp_path: Path, listener: Listener) -> None:
    host.problem = ConfigurationError("there is no room")
    with pytest.raises(warm.NotJoined, match=r"^there is no room$"):
        warm.join(found(tmp_path), opening(tmp_path), listener)


@pytest.mark.usefixtures("door")
def test_the_socket_of_a_run_that_waits_no_more_is_not_touched(host: Host, tmp_path: Path, listener: Listener) -> None:
    known = found(tmp_path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(known.path)
        messages.send(client, {"secret": known.secret, "ask": "join"})
        messages.send(client, [encode(opening(tmp_path)), LOCAL])
        socket.send_fds(client, [b"L"], [listener.socket.fileno()])
        assert messages.receive(client, within_s=30) == {"refused": ""}
    until(lambda: [each.name for each in threading.enumerate()].count("vastgpu-door"), lambda count: count == 1)
    assert host.runs == []


@pytest.mark.usefixtures("door")
def test_a_traceback_with_variables_shows_no_key(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(sock: socket.socket, data: bytes) -> None:
        """Ctrl-C, or a test's time limit, while the key is sent."""
        if b"a-key-of-the-account" in data:
            data = b""
            raise KeyboardInterrupt
        sock.sendall(data)

    monkeypatch.setattr(messages, "sendall", interrupted)
    monkeypatch.setenv("VAST_API_KEY", "a-key-of-the-account")
    with pytest.raises(KeyboardInterrupt) as caught:
        warm.join(found(tmp_path), opening(tmp_path), listener)
    shown = [frame.locals for frame in caught.traceback if "pytest_vastgpu" in str(frame.path)]
    assert len(shown) == 1
    assert "a-key-of-the-account" not in repr(shown)


@pytest.mark.usefixtures("door")
def test_another_version_is_left_alone(host: Host, tmp_path: Path, listener: Listener) -> None:
    with pytest.raises(warm.NotJoined, match=r"^it is of version 0\.0\.1, and this one is "):
        warm.join(replace(found(tmp_path), version="0.0.1"), opening(tmp_path), listener)
    assert host.runs == []


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("ask", ["join", "end", "alive"])
def test_without_the_secret_nothing_is_answered(host: Host, tmp_path: Path, ask: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(found(tmp_path).path)
        messages.send(client, {"secret": "x", "ask": ask})
        with pytest.raises((EOFError, OSError)):
            messages.receive(client, within_s=30)
    assert (host.runs, host.ended) == ([], 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.usefixtures("door")
def test_another_user_is_not_let_in_even_with_the_secret(host: Host, tmp_path: Path) -> None:
    known = found(tmp_path)
    child = os.fork()
    if not child:
        os.setuid(65534)
        os._exit(0 if warm.instances(known) is None and warm.read(known.file) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert warm.instances(known) == [WAITS]


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("sent", [{}, {"secret": 1}, [], "x", {"secret": "x"}], ids=repr)
def test_what_is_no_question_gets_no_answer(tmp_path: Path, sent: object) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(found(tmp_path).path)
        messages.send(client, sent)
        with pytest.raises((EOFError, OSError)):
            messages.receive(client, within_s=30)
    assert warm.is_alive(found(tmp_path))


def test_it_ends_when_it_is_told_to_and_says_what_is_left(host: Host, door: Door, tmp_path: Path) -> None:
    host.left = ["instance 7 could not be destroyed"]
    assert warm.stop(found(tmp_path)) == host.left
    assert host.ended == 1
    door.close()
    assert warm.all_warm() == []
    assert not found_file(tmp_path).exists()


def found_file(project: Path) -> Path:
    return warm.file_for(str(project), warm.account_at(LOCAL["VAST_URL"], LOCAL))


@pytest.mark.usefixtures("door")
def test_what_a_run_uses_does_not_end(host: Host, tmp_path: Path) -> None:
    host.runs.append("0000000a")
    with pytest.raises(warm.NotJoined, match=r"^run 0000000a uses it: end that first$"):
        warm.stop(found(tmp_path))
    assert host.ended == 0


@pytest.mark.usefixtures("door")
def test_a_second_one_does_not_take_its_place(tmp_path: Path) -> None:
    first = found(tmp_path)
    with closing(Door(opening(tmp_path), LOCAL, Host())) as second:
        assert "keeps instances of this project warm" in second.publish()
        assert found(tmp_path) == first
    assert found(tmp_path) == first, "nor does its end"


def test_the_file_of_a_dead_one_is_replaced(door: Door, tmp_path: Path) -> None:
    file, text = found_file(tmp_path), found_file(tmp_path).read_text()
    door.close()
    file.write_text(text)
    with closing(Door(opening(tmp_path), LOCAL, Host())) as second:
        assert second.publish() == ""
        assert found(tmp_path).file.read_text() != text


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 1}', "\0"], ids=repr)
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    path = found_file(tmp_path)
    path.write_text(text)
    assert warm.read(path) is None
    assert warm.all_warm() == []


@pytest.mark.usefixtures("door")
def test_what_waits_there_is_told(tmp_path: Path) -> None:
    assert warm.instances(found(tmp_path)) == [WAITS]
    assert WAITS.told() == (
        "instance 7 (vllm 'org/model') is warm: 12 min 5 s old, 0.360 USD/h, idle for 1 min 30 s (0.0090 USD)"
    )
    assert "at 0.360 USD/h (0.0600 USD)" in WAITS.alive.lines()[0]


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("says", [[1], {"alive": True}], ids=repr)
def test_one_that_uses_other_words_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: object) -> None:
    monkeypatch.setattr(Host, "warm", lambda _: says)
    assert warm.is_alive(found(tmp_path))
    assert warm.instances(found(tmp_path)) is None
    assert warm.all_warm() == [found(tmp_path)]


def test_projects_markets_and_accounts_have_files_of_their_own() -> None:
    files = {
        warm.file_for(project, warm.account_at(market, {"VAST_API_KEY": key}))
        for project in ("/a", "/b")
        for market in ("https://x", "https://y")
        for key in ("k1", "k2")
    }
    assert len(files) == 8
    assert warm.account_at("", {"VAST_API_KEY": "k1"}) == ""


@pytest.mark.usefixtures("door")
def test_a_run_finds_that_of_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm.find(str(tmp_path), LOCAL["VAST_URL"]) == found(tmp_path)
    assert LOCAL["VAST_API_KEY"] not in found(tmp_path).account
    monkeypatch.setenv("VAST_API_KEY", "another")
    assert warm.find(str(tmp_path), LOCAL["VAST_URL"]) is None


def test_runs_that_start_at_once_take_turns(home: Path, tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with warm.turn(str(tmp_path), ""):
            tmp_path.joinpath("has it").touch()
            while not tmp_path.joinpath("go").exists():
                pass
            tmp_path.joinpath("first").touch()
        os._exit(0)
    try:
        while not tmp_path.joinpath("has it").exists():
            pass
        tmp_path.joinpath("go").touch()
        with warm.turn(str(tmp_path), ""):
            assert tmp_path.joinpath("first").exists()
    finally:
        os.waitpid(child, 0)


@pytest.mark.parametrize("leads", [True, False])
def test_the_login_session_is_that_of_the_shell(monkeypatch: pytest.MonkeyPatch, leads: bool) -> None:
    sessions: dict[int, int] = {0: os.getpid() if leads else 77, os.getppid(): 88}
    getsid: Callable[[int], int] = sessions.__getitem__
    monkeypatch.setattr(os, "getsid", getsid)
    assert warm.login_leader() == (88 if leads else 77)
