"""The program on a host that starts its workers."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import execnet
import pytest
from execnet.gateway_base import RemoteError

from pytest_vastgpu.plugin.on_host import proxy
from tests.support.looks import until


class Proxy:
    """A proxy, as on a host, whose standard error is a file."""

    def __init__(self, errors: Path) -> None:
        self.group = execnet.Group()
        self._errors = errors
        python = shlex.join(["sh", "-c", f'exec "$0" -u {proxy.__file__} 2> {errors}', sys.executable])
        self.group.makegateway(f"popen//id=proxy//execmodel=thread//python={python}")

    def worker(self, name: str, python: str = sys.executable) -> execnet.Gateway:
        command = shlex.join(["env", f"{proxy.WORKER}={name}", python])
        return self.group.makegateway(f"popen//id={name}//via=proxy//python={command}")

    def said(self) -> str:
        """What it has printed on standard error."""
        return self._errors.read_text()

    def end(self) -> None:
        processes = [gateway._io for gateway in self.group if not gateway.spec.via]
        while self.group:
            with contextlib.suppress(RemoteError, EOFError, OSError):  # of a worker that has crashed
                self.group.terminate(10.0)
        for io in processes:
            io.close_read()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Proxy]:
    host = Proxy(tmp_path / "errors")
    yield host
    host.end()


def test_what_a_worker_prints_on_standard_error_has_its_name_whatever_it_dies_of(host: Proxy) -> None:
    for name in ("gw0", "gw1"):
        crash = "import ctypes, faulthandler, os; os.write(2, b'half'); faulthandler.enable(); ctypes.string_at(0)"
        host.worker(name).remote_exec(crash)
    said = until(host.said, lambda text: text.count("string_at") == 2)
    assert {line[:6] for line in said.splitlines()} == {"[gw0] ", "[gw1] "}
    assert "[gw0] halfFatal Python error: Segmentation fault" in said.splitlines()


def test_a_python_that_does_not_start_is_told_with_the_worker_s_name(host: Proxy) -> None:
    with pytest.raises((EOFError, OSError, AssertionError, RemoteError)):
        host.worker("gw0", "/no/such/python")._rinfo()
    until(host.said, lambda text: "[gw0] env: " in text and "/no/such/python" in text)


def test_the_last_words_of_a_worker_are_passed_on_before_the_end(host: Proxy) -> None:
    last = host.worker("gw0")
    last.remote_exec("import atexit, os; atexit.register(os.write, 2, b'bye' * 10_000)").waitclose()
    host.group.terminate(10.0)
    assert host.said() == f"[gw0] {'bye' * 10_000}\n"


STANDS_STILL = f"""
import os, subprocess, sys, threading, time
sys.path.append({str(Path(proxy.__file__).parent)!r})
from proxy import LAST_S, Relays

def says_late():
    time.sleep(LAST_S / 2)  # is over as soon as the machine goes on
    time.sleep(0.3)
    os.write(writing, b"bye")
    os.close(writing)

relays = Relays(1)
writing = relays.open("gw0")
threading.Thread(target=says_late, daemon=True).start()
stops = f"sleep 0.3; kill -STOP {{os.getpid()}}; sleep {{LAST_S + 0.5}}; kill -CONT {{os.getpid()}}"
subprocess.Popen(["sh", "-c", stops], stdout=subprocess.DEVNULL)
relays.close(LAST_S)
os._exit(0)
"""


@pytest.mark.slow
def test_time_in_which_the_machine_stands_still_is_not_that_of_the_last_words() -> None:
    done = subprocess.run([sys.executable, "-c", STANDS_STILL], capture_output=True, text=True, check=True)
    assert done.stdout == "[gw0] bye\n"


def test_what_comes_for_a_worker_that_has_been_killed_shows_no_error(
    host: Proxy, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        worker = host.worker(f"gw{number}")
        pid = worker.remote_exec("import os; channel.send(os.getpid())").receive()
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):  # its end has been seen
            while True:
                worker.remote_exec("pass")
    host.end()
    gc.collect()
    assert capfd.readouterr().err == ""
