"""The program that makes the load, on the instance itself. It needs Python 3.8 and its standard library, nothing else.

It reads its orders as a line of JSON from standard input, and prints what it saw as one line: :data:`MARK`, then JSON,
compressed, in base64. The server's key comes in the orders, so that no process list shows it.

What it saw is, by name:

- ``seen``: a record for each request, those of the warm-up too. All times are seconds since the warm-up was over, on a
  clock that never jumps: ``start``; ``first`` and ``last``, of the pieces of a stream that hold text (None: none came);
  ``end``; ``due``, in an open loop: when it should have been sent. ``gaps`` are the seconds between such pieces.
  ``tokens`` is the server's own count, or that of the pieces: ``counted`` is ``usage``, ``pieces`` or empty (none).
  ``error`` is a reason that can be counted; empty: success. ``pause``: seconds that a closed loop waits then.
- ``details``: the first full text of each reason.
- ``lag``: how late a thread that does nothing else was woken, time after time: so late all else was seen here, too.
- ``cpu_s``: what this program used in the time that counts. ``thinned``: one gap of so many is left.
- ``gpu``: what the command ``gpu_command`` printed, line by line; ``gpu_at``: when each line came.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import itertools
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pytest_vastgpu.measuring.on_instance.answers import Failed
from pytest_vastgpu.measuring.on_instance.asking import Client
from pytest_vastgpu.measuring.on_instance.asking import Command
from pytest_vastgpu.measuring.on_instance.asking import guarded
from pytest_vastgpu.measuring.on_instance.asking import kill
from pytest_vastgpu.measuring.on_instance.asking import run
from pytest_vastgpu.measuring.on_instance.asking import start

MARK = "vastgpu-measured "
MOST_CHARS = 6000000
"""Of the answer: a command that prints more than 8 MB loses the middle."""
MOST_AT_A_TIME = 4096
"""Requests under way in an open loop; those beyond it wait, which is seen as lateness."""
LONGEST_PAUSE_S = 1.0
"""After errors in a row: a server that is gone refuses thousands of requests a second. One alone costs nothing."""
GRACE_S = 0.1
"""After the end an open loop still sends what was due before: so late any thread may be woken."""
LAG_SAMPLE_S = 0.02


class Load:
    """Makes the load, and collects what is seen."""

    def __init__(self, orders: dict[str, Any], begins: float) -> None:
        self._orders = orders
        self._begins = begins
        self._ends = begins + orders["seconds"]
        self._local = threading.local()
        self._new: Callable[[dict[str, Any]], Any] = Command if orders["kind"] == "command" else Client
        self._numbers = itertools.count(orders["first_number"])
        self._clients: list[Any] = []
        self.seen: list[dict[str, Any]] = []
        self.details: dict[str, str] = {}

    def closed(self) -> None:
        """Keep so many requests under way."""
        loops = [threading.Thread(target=self._loop, daemon=True) for _ in range(self._orders["concurrency"])]
        for each in loops:
            each.start()
        for each in loops:
            each.join()

    def _loop(self) -> None:
        failed, more = 0, True
        while more:
            seen = self.ask(next(self._numbers))
            failed = failed + 1 if seen["error"] else 0
            if failed:
                seen["pause"] = max(0.0, min(0.05 * (failed - 1), LONGEST_PAUSE_S, self._ends - time.monotonic()))
                time.sleep(seen["pause"])
            more = time.monotonic() < self._ends

    def open(self) -> None:
        """Send requests at random times, whether earlier ones are answered or not."""
        with ThreadPoolExecutor(MOST_AT_A_TIME) as pool:
            for due in arrivals(self._orders):
                time.sleep(max(0.0, self._begins + due - time.monotonic()))
                with contextlib.suppress(RuntimeError):  # no more threads: it waits for one that is there
                    pool.submit(self.ask, next(self._numbers), due)

    def close(self) -> None:
        """Close what is still connected."""
        for each in self._clients:
            each.close()

    def ask(self, number: int, due: float | None = None) -> dict[str, Any]:
        """Ask once, by the client of this thread; returns what was seen."""
        if not hasattr(self._local, "client"):
            self._local.client = self._new(self._orders)
            self._clients.append(self._local.client)
        seen: dict[str, Any] = {
            "first": None,
            "last": None,
            "gaps": [],
            "tokens": 0,
            "counted": "",
            "pieces": 0,
            "error": "",
        }
        if due is not None:
            seen["due"] = due
        seen["start"] = time.monotonic()
        try:
            if due is None or seen["start"] < self._ends + GRACE_S:
                self._local.client.ask(number, seen)
            else:
                seen["error"] = "not sent"
                self.details["not sent"] = "too many requests were under way to send it in time"
        except Failed as failed:
            seen["error"] = failed.args[0]
            self.details.setdefault(failed.args[0], failed.args[1][:500])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's
            seen["error"] = type(error).__name__
            self.details.setdefault(seen["error"], f"{type(error).__name__}: {error}")
        seen["end"] = time.monotonic()
        if seen["error"]:
            seen["gaps"] = []  # they count for nothing, and may be millions
        for name in ("start", "first", "last", "end"):
            if seen[name] is not None:
                seen[name] -= self._begins
        self.seen.append(seen)
        return seen


def arrivals(orders: dict[str, Any]) -> list[float]:
    """When each request of an open loop is due: a Poisson process, the same for the same seed."""
    dice, due = random.Random(orders["seed"]), -orders["warmup_s"]  # noqa: S311 - no secret
    times: list[float] = []
    while True:
        due += dice.expovariate(orders["rate"])
        if due >= orders["seconds"]:
            return times
        times.append(due)


class Monitor:
    """Watches what the load runs on: how late this program itself is, and the GPUs."""

    def __init__(self, orders: dict[str, Any], begins: float) -> None:
        self._begins, self._ends = begins, begins + orders["seconds"]
        self._over = threading.Event()
        self.cpu_s = 0.0
        self.lag: list[float] = []
        self.gpu: list[str] = []
        self.gpu_at: list[float] = []
        self._watch: Any = None
        self._waker = threading.Thread(target=self._measure_lag, daemon=True)
        self._waker.start()
        if orders.get("gpu_command"):
            self._watch = start(["/bin/sh", "-c", orders["gpu_command"]], subprocess.PIPE)
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _measure_lag(self) -> None:
        begun, woken = None, 0.0
        while not self._over.is_set() and woken < self._ends:
            due = time.monotonic() + LAG_SAMPLE_S
            time.sleep(LAG_SAMPLE_S)
            woken = time.monotonic()
            if woken >= self._begins:  # also who slept through all that counts was late in it
                begun = time.process_time() if begun is None else begun
                self.cpu_s = time.process_time() - begun
                self.lag.append(woken - due)

    def _read(self) -> None:
        for line in self._watch.stdout:
            self.gpu_at.append(time.monotonic() - self._begins)
            self.gpu.append(line.decode("utf-8", "replace").rstrip())

    def end(self) -> None:
        self._over.set()
        self._waker.join()
        if self._watch is not None:
            kill(self._watch)
            self._watch.wait()
            self._reader.join(2)
            self._watch.stdout.close()


def drive(orders: dict[str, Any], directory: str | None = None) -> dict[str, Any]:
    """Make the load, or have another program make it; returns what was seen.

    :param directory: For the files of another program.
    """
    warmup_s = 0.0 if orders["kind"] == "program" else orders["warmup_s"]
    begins = time.monotonic() + warmup_s
    monitor, found = Monitor(orders, begins), {}
    if orders["kind"] == "program":
        found = program(orders, directory)
    else:
        load = Load(orders, begins)
        (load.open if orders["rate"] else load.closed)()
        load.close()
        found = {"seen": load.seen, "details": load.details}
    monitor.end()
    return {"lag": monitor.lag, "cpu_s": monitor.cpu_s, "gpu": monitor.gpu, "gpu_at": monitor.gpu_at, **found}


def program(orders: dict[str, Any], directory: str | None = None) -> dict[str, Any]:
    """Have another program make the load.

    Returns its ``exit_code``, whether it was ``killed`` since its time was over, what it ``said``, the ``results`` that
    it has written, and what clocks told when it was started: ``monotonic`` and ``epoch``, on which its own times are.
    """
    clocks = {"monotonic": time.monotonic(), "epoch": time.time()}
    with tempfile.TemporaryDirectory(dir=directory) as there:
        for name, text in orders["files"].items():
            Path(there, name).write_text(text, "utf-8")
        log = Path(there, "log")
        with log.open("wb") as output:
            environment = {**os.environ, **orders["env"]}
            command = ["/bin/sh", "-c", orders["path"]]
            code, killed = run(command, output, orders["limit_s"], cwd=there, env=environment)
        results = [each.read_text("utf-8", "replace") for each in sorted(Path(there).glob(orders["results"]))]
        said = log.read_text("utf-8", "replace")[-4000:]
    return {"exit_code": code, "killed": killed, "said": said, "results": results, **clocks}


def packed(found: dict[str, Any], most_chars: int = MOST_CHARS) -> str:
    """What was seen, as one line. Where that is too long, every second gap is left out, and again."""
    found["thinned"] = 1
    while True:
        rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 6))
        line = MARK + base64.b64encode(zlib.compress(json.dumps(rounded, separators=(",", ":")).encode(), 6)).decode()
        if len(line) <= most_chars:
            return line
        if not any(each["gaps"] for each in found.get("seen", ())):
            return packed({"too_much": len(found.get("seen", ()))})
        found["thinned"] *= 2
        for each in found["seen"]:
            each["gaps"] = each["gaps"][random.randrange(2) :: 2]  # noqa: S311 - no secret


def leave_when_alone() -> None:
    """End this program once nobody reads its output any more: the connection is gone, and no one would end it."""
    output = select.poll()
    output.register(1, 0)  # the other end is closed: that is always told
    output.poll()
    os._exit(1)


def main() -> None:
    """Read the orders, carry them out, print what was seen. Whatever it has started or written ends with it."""
    orders = json.loads(sys.stdin.readline())
    # A program's files may hold the server's key.
    directory = tempfile.mkdtemp(prefix="vastgpu-") if orders["kind"] == "program" else None
    with guarded(directory):
        threading.Thread(target=leave_when_alone, daemon=True).start()
        gc.disable()  # nothing here is in a circle, and its pauses would be seen as the server's
        sys.setswitchinterval(0.0005)  # a thread whose bytes have come waits at most so long for the others
        sys.stdout.write("\n" + packed(drive(orders, directory)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
