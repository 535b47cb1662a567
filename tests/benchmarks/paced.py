"""A TCP relay that lets through no more than a line would: ``python -m tests.benchmarks.paced TO_PORT MBIT_S``.

It prints the port on which it listens. Each direction of all connections together has that rate, and little is
buffered on the way. A process of its own: what it does must not wait for what is measured.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

_PART = 16 << 10
_BUFFER = 64 << 10
"""Bytes that the kernel may hold for each socket: more would arrive at once, whatever the line."""
_LATE_S = 0.05
"""Nothing is made up for longer pauses than this."""


class Line:
    """One direction of the line.

    :param rate: Bytes in a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        with self._lock:
            self._free = max(self._free, time.monotonic() - _LATE_S) + size / self._rate
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


def _copy(source: socket.socket, target: socket.socket, line: Line) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PART):
            line.take(len(data))
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def serve(port: int, mbit_s: float) -> None:
    """Relay connections to a port of this machine, until the process ends."""
    there, back = Line(mbit_s * 1e6 / 8), Line(mbit_s * 1e6 / 8)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            ours, _ = listener.accept()
            theirs = socket.create_connection(("127.0.0.1", port))
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            for pair in ((ours, theirs, there), (theirs, ours, back)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


@contextlib.contextmanager
def relay(port: int, mbit_s: float) -> Iterator[int]:
    """A relay to a port, in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.benchmarks.paced", str(port), str(mbit_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
