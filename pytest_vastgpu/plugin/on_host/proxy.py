"""The program on a host that starts its workers and passes their messages on: an execnet gateway, with one addition.

What a worker prints on its standard error, such as where it was when it crashed, is passed on with the worker's name
before each line. A pipe for each worker takes it, so that it is read to its end whatever the worker dies of.

It runs on the host, from a file there, with the host's Python: it imports the standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from io import BufferedWriter
from io import FileIO
from typing import Any

WORKER = "VASTGPU_WORKER"
"""The variable with a worker's name: its command line begins with ``env VASTGPU_WORKER=gw0``."""
LAST_S = 2.0
"""How long the end waits for the last lines: a process that a worker has left may hold its pipe open."""
LOOK_S = 0.05
CHUNK = 1 << 16


class Relays:
    """Threads that pass lines on, each from one pipe."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writing = threading.Lock()
        self._threads: list[threading.Thread] = []

    def open(self, name: str) -> int:
        """A descriptor; what is written there is passed on, each line with a name. The caller closes it."""
        reading, writing = os.pipe()
        thread = threading.Thread(target=self._relay, args=(reading, f"[{name}] ".encode()), daemon=True)
        thread.start()
        self._threads.append(thread)
        return writing

    def close(self, within_s: float) -> None:
        """Wait until everything is passed on. Time in which this machine stands still does not count."""
        for _ in range(round(within_s / LOOK_S)):
            left = [thread for thread in self._threads if thread.is_alive()]
            if not left:
                return
            left[0].join(LOOK_S)

    def _relay(self, reading: int, name: bytes) -> None:
        rest = b""
        with open(reading, "rb", buffering=0) as pipe:
            while data := pipe.read(CHUNK):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > CHUNK:  # a line without an end
                    lines, rest = [*lines, rest], b""
                self._write(b"".join(name + line + b"\n" for line in lines))
        if rest:
            self._write(name + rest + b"\n")

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        with self._writing:
            while left:
                left = left[os.write(self._target, left) :]


class UntilItsEnd(FileIO):
    """What a worker reads. What comes after its end is thrown away.

    The end of its output tells of its end; execnet would print a traceback at home for what came too late.
    """

    def write(self, data: Any) -> int:
        """See :meth:`io.RawIOBase.write`."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def name_of(arguments: Any) -> str:
    """The name of the worker that a command line starts; empty for another one."""
    words = list(arguments)[:2] if isinstance(arguments, (list, tuple)) else []
    return str(words[1]).partition("=")[2] if len(words) == 2 and str(words[1]).startswith(f"{WORKER}=") else ""


def main() -> None:
    """Become a gateway. What runs is execnet's own, which comes as the first line of the input."""
    relays, popen = Relays(os.dup(2)), subprocess.Popen

    class WithNamedErrors(popen):  # type: ignore[valid-type, misc] # what execnet starts a worker with
        def __init__(self, arguments: Any, **options: Any) -> None:
            if not (name := name_of(arguments)):
                super().__init__(arguments, **options)
                return
            errors = relays.open(name)
            try:
                super().__init__(arguments, stderr=errors, **options)
            finally:
                os.close(errors)
            process: Any = self
            with process.stdin as taken:
                process.stdin = BufferedWriter(UntilItsEnd(os.dup(taken.fileno()), "wb"))

    subprocess.Popen = WithNamedErrors  # type: ignore[assignment, misc]
    try:
        # In the names of this module: execnet's parts look for each other in __main__.
        exec(eval(sys.stdin.readline()), globals())  # noqa: S102, S307 - execnet's way to start
    finally:
        relays.close(LAST_S)


if __name__ == "__main__":
    main()
