"""Asks once, on the instance: sends a request, or runs a command, and notes what comes when.

Part of the program of :mod:`.driver`.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_vastgpu.measuring.on_instance.answers import Failed
from pytest_vastgpu.measuring.on_instance.answers import read
from pytest_vastgpu.measuring.on_instance.answers import readable

MARK = "VASTGPU_LOAD"
"""An environment variable of all that is started here."""
_OURS = f"{os.getpid()}-{time.monotonic()}"
_guard: int | None = None
"""Tells the process that ends what is left: the number of each session that is begun, and, negative, of one that is
over: another may have that number next.
"""
_held: int | None = None
"""A pipe that nobody uses, and that all that is started here inherits. Who is killed just when a program has begun has
told of no session, and that program may have an environment of its own.
"""


class _Stamped(io.RawIOBase):
    """The socket's bytes; knows when the last ones came, and when there is no more time for others."""

    def __init__(self, raw: Any, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._raw, self._sock, self._until = raw, sock, until
        self.at = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0:  # although there may be something to read: a server can go on for ever
            raise socket.timeout  # noqa: UP041 - see below
        self._sock.settimeout(left_s)
        count = self._raw.readinto(buffer)
        self.at = time.monotonic()
        return count or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, until: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.stamped = _Stamped(self.fp.detach(), sock, until)
        self.fp = io.BufferedReader(self.stamped, 1 << 16)


class Client:
    """Sends requests, one after the other, over a connection that it keeps where the server does."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders
        self._connection = http.client.HTTPConnection("127.0.0.1", orders["port"], timeout=orders["timeout_s"])
        self._body = (orders["text"] or (json.dumps(orders["body"]) if orders["body"] else "")).encode()

    def ask(self, number: int, seen: dict[str, Any]) -> None:
        """Send one request, and note in ``seen`` what comes when.

        :raises Failed: if it has failed.
        """
        orders, until = self._orders, time.monotonic() + self._orders["timeout_s"]
        sent = self._body.replace(b"{n}", str(number).encode())
        connection = self._connection
        connection.response_class = functools.partial(_Answer, until=until)  # type: ignore[assignment]
        path = orders["path"].replace("{n}", str(number))
        try:
            for kept in (connection.sock is not None, False):
                if kept:
                    connection.sock.settimeout(orders["timeout_s"])
                try:
                    connection.request(orders["method"], path, sent or None, orders["headers"])
                    answer = connection.getresponse()
                    break
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    connection.close()
                    if not kept:  # a server may close a connection that it has kept, just when it is used again
                        raise
            read(answer, seen, orders["kind"], stream=orders["stream"])
        except socket.timeout:  # noqa: UP041 - in Python 3.8 it is a class of its own
            connection.close()
            raise Failed("timeout", f"no complete answer within {orders['timeout_s']:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Failed(reason, f"{type(error).__name__}: {error}") from None
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


class Command:
    """Runs a shell command, again and again."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._orders = orders

    def ask(self, number: int, seen: dict[str, Any]) -> None:
        """Run it once.

        :raises Failed: if its exit code is not 0, or its time was over.
        """
        with tempfile.TemporaryFile() as output:
            code, killed = run(["/bin/sh", "-c", self._orders["path"]], output, self._orders["timeout_s"])
            if not code:
                return
            output.seek(max(0, output.seek(0, 2) - 500))
            said = readable(output.read())
        if killed:
            raise Failed("timeout", f"the command had not ended after {self._orders['timeout_s']:g} s: {said}")
        raise Failed(f"exit code {code}", f"exit code {code}: {said}")

    def close(self) -> None:
        """Nothing is kept."""


def start(command: list[str], output: Any, **more: Any) -> Any:
    """Start a command in a session of its own, so that all of it can be ended. See :func:`guarded`, too."""
    more["env"] = {**(more.get("env") or os.environ), MARK: _OURS}
    more["pass_fds"] = () if _held is None else (_held,)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **more
    )
    _tell(process.pid)
    return process


def _tell(session: int) -> None:
    if _guard is not None:
        with contextlib.suppress(BrokenPipeError):  # it was killed
            os.write(_guard, b"%d\n" % session)


@contextlib.contextmanager
def guarded(directory: str | None = None) -> Iterator[None]:
    """Have a process of its own end all that :func:`start` has started, once this one is through or gone, however it
    went: killed, too. Only while this process has one thread.

    :param directory: It is removed then.
    """
    global _guard, _held
    reads, writes = os.pipe()
    held, other = os.pipe()
    os.close(other)
    pipe = f"pipe:[{os.fstat(held).st_ino}]"
    ready, begun = os.pipe()
    guard = os.fork()
    if not guard:
        try:
            os.setsid()
            os.close(begun)
            os.close(ready)
            os.close(writes)
            os.close(held)
            nothing = os.open(os.devnull, os.O_RDWR)
            for each in range(3):  # who waits for the end of our output does not wait for this
                os.dup2(nothing, each)
            end_all(left(reads), pipe)
            if directory:
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(reads)
    os.close(begun)
    os.read(ready, 1)  # until it is in a session of its own: who ends ours before that would end it, too
    os.close(ready)
    _guard, _held = writes, held
    try:
        yield
    finally:
        _guard = _held = None
        os.close(held)  # first: the other one has all end that hold it
        os.close(writes)
        with contextlib.suppress(ChildProcessError):  # where ends of children are ignored, the system has taken it
            os.waitpid(guard, 0)


def left(pipe: int) -> set[int]:
    """The sessions that were not over when the other end of the pipe was closed. See :data:`_guard`."""
    sessions: set[int] = set()
    with open(pipe, encoding="ascii") as told:
        for line in told:
            session = int(line)
            if session > 0:
                sessions.add(session)
            else:
                sessions.discard(-session)
    return sessions


def end_all(sessions: set[int], pipe: str) -> None:
    """End every process that :func:`start` has started, and those that they have: each keeps our mark in its
    environment, stays in its session, or holds the pipe, if not all of that.
    """
    for _ in range(100):  # one that hangs in a driver cannot be ended
        ours = [each for each in Path("/proc").glob("[0-9]*") if _is_ours(each, sessions, pipe)]
        for each in ours:
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                os.kill(int(each.name), signal.SIGKILL)
        if not ours:
            return
        time.sleep(0.02)


def _is_ours(process: Path, sessions: set[int], pipe: str) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is not ours
        state, _, _, session = process.joinpath("stat").read_bytes().rpartition(b")")[2].split()[:4]
        if state not in b"ZX" and int(session) in sessions:
            return True
        if f"{MARK}={_OURS}".encode() in process.joinpath("environ").read_bytes().split(b"\0"):
            return True
        return any(_leads_to(each, pipe) for each in process.joinpath("fd").iterdir())
    return False


def _leads_to(file: Path, pipe: str) -> bool:
    with contextlib.suppress(OSError):  # it has been closed
        return os.readlink(file) == pipe  # noqa: PTH115 - a Path has that since Python 3.9
    return False


def run(command: list[str], output: Any, limit_s: float, **more: Any) -> tuple[int, bool]:
    """Run a command; returns its exit code, and whether its time was over and it was killed, with all its children."""
    process, killed = start(command, output, **more), threading.Event()

    def end() -> None:
        killed.set()
        kill(process)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    code = process.wait()  # with a time limit it would look only twenty times a second
    timer.cancel()
    try:
        os.killpg(process.pid, 0)  # what is left of it keeps the number
    except OSError:
        _tell(-process.pid)
    return code, killed.is_set()


def kill(process: Any) -> None:
    """End what :func:`start` has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()  # no group any more, or not ours
