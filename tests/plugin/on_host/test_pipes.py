"""The command lines to a host and to its workers."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from dataclasses import replace
from pathlib import Path
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest
from execnet.gateway_base import RemoteError
from execnet.gateway_base import TimeoutError as NoAnswer

from pytest_vastgpu.client.listener import RpcAddress
from pytest_vastgpu.plugin.on_host import pipes
from pytest_vastgpu.plugin.on_host import proxy
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.gateways import Gateways
from pytest_vastgpu.plugin.on_host.hosts import Host
from pytest_vastgpu.plugin.on_host.runner import Runner
from tests.support.debugger import debugged
from tests.support.looks import PATIENCE_S
from tests.support.looks import until

LEASE = cast(Any, SimpleNamespace(label="a-label"))
WORK = PurePosixPath("/root/.vastgpu/work")
HOST = Host("host 1", LEASE, About("/opt/a python/bin/python3", "3.11.7", "cpython", WORK), 1)


def test_the_secret_is_in_a_file_for_us_alone_and_in_no_command_line(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        command = shlex.split(pipes.to_proxy(HOST, RpcAddress("\0an-address", "a-secret"), tmp_path))
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert command[-1] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "a-secret" not in " ".join(command)
    said = json.loads(file.read_text())
    assert (said["address"], said["hello"]["secret"]) == ("\0an-address", "a-secret")


def test_the_proxy_is_the_program_that_was_brought_and_the_host_s_python_may_have_any_path(tmp_path: Path) -> None:
    pipes.to_proxy(HOST, RpcAddress("", ""), tmp_path)
    (file,) = tmp_path.iterdir()
    command = json.loads(file.read_text())["asks"]["command"]
    words = shlex.split(command.partition("exec ")[2])
    assert words[:2] == [HOST.python, "-u"]
    files = Runner.installed().files()
    program = PurePosixPath(words[2]).relative_to(WORK)
    brought = [Path(path) / program.relative_to(name) for name, path in files.items() if program.is_relative_to(name)]
    assert brought == [Path(proxy.__file__)]
    assert shlex.split(pipes.to_worker(HOST, "gw3")) == ["env", "VASTGPU_WORKER=gw3", HOST.python]


def test_the_workers_of_a_host_start_at_the_same_time(tmp_path: Path) -> None:
    barrier = tmp_path / "python"
    barrier.write_text(
        f'#!/bin/sh\ncd {tmp_path} || exit\n: > "begun-$VASTGPU_WORKER"\n'
        f'until [ "$(ls begun-* | wc -l)" = 4 ]; do sleep 0.01; done\nexec {sys.executable} "$@"\n'
    )
    barrier.chmod(0o755)
    host = replace(HOST, about=replace(HOST.about, python=str(barrier)))
    gateways = Gateways(host, shlex.join([sys.executable, str(proxy.__file__)]))
    try:
        gateways.connect()
        started = gateways.start(["gw0", "gw1", "gw2", "gw3"])
        assert [gateway.id for gateway in started] == ["gw0", "gw1", "gw2", "gw3"]
    finally:
        gateways.end(10.0)


def test_a_worker_that_cannot_be_told_to_end_keeps_no_other_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that one writes as it ends is fetched. execnet raises for some of those that crash, but not each time."""
    host = replace(HOST, about=replace(HOST.about, python=sys.executable))
    gateways = Gateways(host, shlex.join([sys.executable, str(proxy.__file__)]))
    gateways.connect()
    crashed, other = gateways.start(["gw0", "gw1"])

    def ends_badly() -> None:
        gateways._group._unregister(crashed)
        raise RemoteError("BrokenPipeError")

    crashed.remote_exec("import os; os._exit(1)")
    crashed.join()
    monkeypatch.setattr(crashed, "exit", ends_badly)
    takes_long = f"import atexit, time; atexit.register(open, {str(tmp_path / 'ended')!r}, 'w')"
    other.remote_exec(f"{takes_long}; atexit.register(time.sleep, 0.3)").waitclose()
    gateways.end(PATIENCE_S)
    assert (tmp_path / "ended").exists()


@pytest.mark.slow
def test_a_wrapper_that_a_debugger_holds_keeps_no_end_waiting() -> None:
    host = replace(HOST, about=replace(HOST.about, python=sys.executable))
    gateways = Gateways(host, shlex.join([sys.executable, str(proxy.__file__)]))
    gateways.connect()
    wrapper = next(iter(cast(Any, gateways)._group))._io.popen
    leaving = threading.Thread(target=gateways.abandon, daemon=True)
    with debugged(wrapper.pid):
        leaving.start()
        leaving.join(30)
        assert not leaving.is_alive()
    wrapper.wait()


SLOW_LINE = """
import subprocess, sys
passed = 0
with subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, bufsize=0) as proxy:
    while data := proxy.stdout.read(4096):
        passed += len(data)
        if passed > 100_000 and sys.argv[2]:
            open(sys.argv[2]).read()
            sys.argv[2] = ""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
"""
"""Of what comes from a host it passes so much on, and the rest once the other end of a FIFO is opened and closed."""


def test_what_comes_over_a_slow_line_counts_as_it_comes(tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text(SLOW_LINE)
    os.mkfifo(tmp_path / "rest")
    line = [sys.executable, "-u", str(tmp_path / "line.py"), str(proxy.__file__), str(tmp_path / "rest")]
    gateways = Gateways(HOST, shlex.join(line))
    try:
        gateways.connect()
        report = gateways._group["host-1"].remote_exec("channel.send(b'x' * 1_000_000)")
        until(lambda: gateways.arrived, lambda arrived: arrived > 90_000)
        assert not report._items.qsize()  # a message counts only once it is whole
        (tmp_path / "rest").write_text("")
        assert report.receive() == b"x" * 1_000_000
        assert gateways.arrived > 1_000_000
    finally:
        gateways.end(10.0)


@pytest.mark.parametrize(("comes", "answers"), [(1, True), (0, False)])
def test_a_proxy_is_waited_for_as_long_as_anything_comes(comes: int, answers: bool) -> None:
    waits = iter(range(3))

    def receive(within_s: float) -> int:
        if next(waits, None) is None:
            return 1
        gateways.arrived += comes
        raise NoAnswer

    gateways: Any = Gateways(HOST, "")
    gateways._group = {"host-1": SimpleNamespace(remote_exec=lambda _: SimpleNamespace(receive=receive))}
    assert gateways.answers() is answers


def test_no_worker_starts_over_a_connection_that_is_over() -> None:
    gateways = Gateways(HOST, sys.executable)
    gateways.abandon()
    with pytest.raises(EOFError, match="the connection is over"):
        gateways.start(["gw0", "gw1"])
