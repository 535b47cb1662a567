"""Asks once, on the instance: sends a request, or runs a command, and notes what comes when.

Part of the program of :mod:`pytest_vastgpu.measuring.driver`: Python 3.8 and its standard library, nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = "VASTGPU_LOAD"
"""An environment variable of all that is started here."""
_OURS = f"{os.getpid()}-{time.monotonic()}"


class Failed(Exception):
    """A request has failed for a reason that can be counted; the text that comes second is the whole story."""


class _Stamped(io.RawIOBase):
    """The socket's bytes; knows when the last ones came, and when there is no more time for others."""

    def __init__(self, raw: Any, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._raw, self._sock, self._until = raw, sock, until
        self.at = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(max(0.001, self._until - time.monotonic()))
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
            (_read_stream if orders["stream"] else _read_whole)(_accepted(answer), seen)
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


def _accepted(answer: Any) -> Any:
    if not 200 <= answer.status < 300:
        raise Failed(f"HTTP {answer.status}", f"HTTP {answer.status}: {_text(answer.read(2000))}")
    return answer


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _read_whole(answer: Any, seen: dict[str, Any]) -> None:
    body = answer.read()
    try:
        used = json.loads(body)["usage"]["completion_tokens"]
    except (ValueError, KeyError, TypeError):
        return  # no OpenAI-compatible server
    if isinstance(used, int):
        seen["tokens"], seen["counted"] = used, "usage"


def _read_stream(answer: Any, seen: dict[str, Any]) -> None:
    """Read server-sent events; a piece came when the last of its bytes did, however late it is looked at here."""
    rest, done, began, ended = b"", False, b"", 0.0
    while True:
        data = answer.read1(1 << 16)
        if not data:
            break
        began = began or data[:500]
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                done = _piece(line[5:].strip(), answer.stamped.at, seen) or done
                ended = ended or (answer.stamped.at if done else 0.0)
    if rest.startswith(b"data:"):
        done = _piece(rest[5:].strip(), answer.stamped.at, seen) or done
    if not seen["pieces"] and b"data:" not in began:
        raise Failed("no stream", f"the answer is no stream of events: {_text(began)}")
    if not done:
        raise Failed("broken stream", f"the stream broke off after {seen['pieces']} pieces")
    if seen["first"] is None:
        if not seen["tokens"]:
            raise Failed("no token", "the answer held no token; ask something else, or give ignore_eos=True")
        seen["first"] = seen["last"] = ended  # the token that says that there is nothing to say
    if not seen["counted"]:
        seen["tokens"], seen["counted"] = seen["pieces"], "pieces"


def _piece(text: bytes, now: float, seen: dict[str, Any]) -> bool:
    """Take in one event; returns whether the server says that the answer is complete."""
    if text == b"[DONE]":
        return True
    try:
        piece = json.loads(text)
    except ValueError:
        raise Failed("no JSON", f"a piece of the stream is no JSON: {_text(text)}") from None
    if not isinstance(piece, dict):
        return False
    if piece.get("error"):
        raise Failed("error in the stream", json.dumps(piece["error"]))
    used = (piece.get("usage") or {}).get("completion_tokens")
    if isinstance(used, int):
        seen["tokens"], seen["counted"] = used, "usage"
    done = False
    for choice in piece.get("choices") or ():
        done = done or bool(choice.get("finish_reason"))
        said = choice.get("delta") or choice  # the first piece of a chat has its role, and no token yet
        if any(said.get(key) for key in ("content", "text", "reasoning_content", "reasoning", "tool_calls")):
            seen["pieces"] += 1
            if seen["first"] is None:
                seen["first"] = now
            else:
                seen["gaps"].append(now - seen["last"])
            seen["last"] = now
    return done


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
            said = _text(output.read())
        if killed:
            raise Failed("timeout", f"the command had not ended after {self._orders['timeout_s']:g} s: {said}")
        raise Failed(f"exit code {code}", f"exit code {code}: {said}")

    def close(self) -> None:
        """Nothing is kept."""


def start(command: list[str], output: Any, **more: Any) -> Any:
    """Start a command in a group of its own, so that all of it can be ended. See :func:`guarded`, too."""
    more["env"] = {**(more.get("env") or os.environ), MARK: _OURS}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **more
    )


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Have a process of its own end all that :func:`start` has started, once this one is through or gone, however it
    went: killed, too. Only while this process has one thread.
    """
    reads, writes = os.pipe()
    guard = os.fork()
    if not guard:
        try:
            os.setsid()
            os.close(writes)
            nothing = os.open(os.devnull, os.O_RDWR)
            for each in range(3):  # who waits for the end of our output does not wait for this
                os.dup2(nothing, each)
            os.read(reads, 1)
            end_marked()
        finally:
            os._exit(0)
    os.close(reads)
    try:
        yield
    finally:
        os.close(writes)
        os.waitpid(guard, 0)


def end_marked() -> None:
    """End every process that :func:`start` has started, and those that they have, in whichever group they are."""
    mark = f"{MARK}={_OURS}".encode()
    for _ in range(100):  # one that hangs in a driver cannot be ended
        found = False
        for each in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                if mark in each.read_bytes().split(b"\0"):
                    os.kill(int(each.parent.name), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(0.02)


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
    return code, killed.is_set()


def kill(process: Any) -> None:
    """End what :func:`start` has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()  # no group any more, or not ours
