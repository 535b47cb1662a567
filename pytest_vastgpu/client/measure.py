"""Has an instance measure its own server: sends the driver there, and reads what it has seen."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import secrets
import shlex
import statistics
import threading
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import looks_secret
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import LoadNotRun
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import gpu
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring import others
from pytest_vastgpu.measuring import seen
from pytest_vastgpu.measuring.load import LONGEST_S
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.on_instance import answers
from pytest_vastgpu.measuring.on_instance import asking
from pytest_vastgpu.measuring.on_instance import driver
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult

Run = Callable[[str, float, str], ProbeResult]
"""Runs a command on the instance: its text, seconds, and what it reads from standard input."""
FIRST, NUMBERS = 1_000_000, 8_000_000
"""Of requests. Those of the last measurement may go on for a million, and still have seven digits."""
TAKEN = 100_000
"""Numbers that are kept for a measurement whose count is not known yet."""
MARGIN_S = 60.0
"""For the start of Python on a busy host, and the way of the answer."""
NO_PYTHON = 97
"""Exit code."""
_CAN = "import concurrent.futures, http.client, json, sys, tempfile, zlib; sys.exit(sys.version_info < (3, 8))"
_START = (
    "import json, sys, types\n"
    "for name, text in json.loads(sys.stdin.readline()):\n"
    "    sys.modules[name] = module = types.ModuleType(name)\n"
    "    exec(compile(text, name, 'exec'), module.__dict__)\n"
    "module.main()"
)
COMMAND = f"""\
found=
for python in python3 python /venv/main/bin/python3 /opt/conda/bin/python3 \
    python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8; do
  command -v "$python" >/dev/null 2>&1 || continue
  "$python" -I -S -c {shlex.quote(_CAN)} </dev/null >/dev/null 2>&1 && exec "$python" -I -S -u -c {shlex.quote(_START)}
  found="$found$python: $("$python" -V 2>&1 </dev/null | head -n 1), "
done
echo "$found" >&2
exit {NO_PYTHON}
"""
"""Finds a Python on the instance, and has it run the modules that come on standard input. ``-I -S``: nothing that lies
in the home directory, or is installed, takes the place of the standard library."""


class Numbers:
    """The numbers of requests, all of one length: none comes twice until eight million are used up. Each process
    begins somewhere else, for a server may know the requests of others.
    """

    def __init__(self) -> None:
        self._used = secrets.randbelow(NUMBERS)
        self._lock = threading.Lock()

    def take(self) -> int:
        """The first of :data:`TAKEN` numbers, for one measurement."""
        with self._lock:
            first, self._used = self._used, (self._used + TAKEN) % NUMBERS
        return FIRST + first

    def give_back(self, first: int, count: int) -> None:
        """So many were used; the rest is for the next, if no other measurement has taken numbers meanwhile."""
        with self._lock:
            if self._used == (first - FIRST + TAKEN) % NUMBERS:
                self._used = (first - FIRST + count) % NUMBERS


_numbers = Numbers()


def measure(run: Run, lease: Lease, load: Load, seconds: float) -> Measurement:
    """See :meth:`~pytest_vastgpu.client.instance.VastInstance.measure`."""
    __tracebackhide__ = True
    if not isinstance(load, Load):
        raise ConfigurationError(
            f"measure({load!r:.40}, …): a load is of another type than {type(load).__name__}; completions(model=…) and "
            "others make one"
        )
    wrong = isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds)
    if wrong or not 0 < seconds <= LONGEST_S:
        raise ConfigurationError(f"measure(…, seconds={seconds!r:.40}): give seconds above 0, {LONGEST_S} at most")
    KNOWN.add("instance key", lease.api_key)  # a server that refuses a request may print what came with it
    for name, value in load.headers.items():
        if looks_secret(name):
            KNOWN.add_long(name, value.rpartition(" ")[2])  # of "Bearer …"
    if load.kind is Kind.COMMAND:
        KNOWN.add_command(load.path)  # a report has the load
    if load.driver:
        return _by_another(run, lease, load, seconds)
    limit_s = load.warmup_s + seconds + load.timeout_s
    found = _run(run, orders_of(load, lease.port, lease.headers, seconds), limit_s)
    seen.check(load, seconds, found)
    return _measured(load, seconds, found, lease)


def _by_another(run: Run, lease: Lease, load: Load, seconds: float) -> Measurement:
    """Have another program make the load, once our own has warmed the server and measured how long a request takes."""
    __tracebackhide__ = True
    key = lease.api_key if lease.headers else ""
    others.program(load, lease.port, key, seconds, each_s=1.0, first_number=0)  # or it is refused at once
    ours, warm_s = dataclasses.replace(load, driver="", warmup_s=0.0), max(1.0, load.warmup_s)
    found = _run(run, orders_of(ours, lease.port, lease.headers, warm_s), warm_s + load.timeout_s)
    seen.check(ours, warm_s, found)
    each_s = statistics.fmean(each["end"] - each["start"] for each in found["seen"] if not each["error"])
    orders = orders_of(load, lease.port, lease.headers, seconds)
    plan = others.program(load, lease.port, key, seconds, each_s=each_s, first_number=orders["first_number"])
    limit_s = others.LONGER * seconds + load.timeout_s + others.START_S
    program = {"kind": "program", "path": plan.command, "results": plan.results, "files": plan.files, "env": plan.env}
    counted_s, found = others.seen(load, _run(run, {**orders, **program, "limit_s": limit_s}, limit_s))
    seen.check(load, counted_s, found)
    return _measured(load, counted_s, found, lease)


def _measured(load: Load, seconds: float, found: Mapping[str, Any], lease: Lease) -> Measurement:
    return measurement.of(
        load,
        seconds,
        found["seen"],
        gpu=zip(found["gpu_at"], found["gpu"], strict=False),
        usd_h=lease.offer.price_usd_h,
        notes=tuple(seen.notes(seconds, found)),
        driver_busy=seen.is_busy(seconds, found),
    )


def orders_of(load: Load, port: int, headers: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The orders of the driver."""
    return {
        "kind": load.kind,
        "port": port,
        "method": load.method,
        "path": load.path,
        "body": load.body,
        "text": load.text,
        "headers": {**_typed(load.headers), **headers},
        "stream": load.streams,
        "concurrency": load.concurrency,
        "rate": load.rate,
        "seed": load.seed,
        "timeout_s": load.timeout_s,
        "warmup_s": load.warmup_s,
        "seconds": seconds,
        "first_number": _numbers.take(),  # so that no cache of an earlier measurement answers
        "gpu_command": gpu.COMMAND,
    }


def _typed(headers: Mapping[str, str]) -> Mapping[str, str]:
    """With a type of the body, unless the user has given one."""
    given = any(name.lower() == "content-type" for name in headers)
    return headers if given else {"Content-Type": "application/json", **headers}


def _run(run: Run, orders: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    __tracebackhide__ = True
    found = read(run(COMMAND, limit_s + MARGIN_S, program() + json.dumps(orders) + "\n"))
    if "seen" in found:
        _numbers.give_back(orders["first_number"], len(found["seen"]))
    return found


def program() -> str:
    """The driver's modules, as the line that :data:`COMMAND` reads."""
    modules = (answers, asking, driver)  # each after those that it needs
    return json.dumps([(each.__name__, Path(str(each.__file__)).read_text("utf-8")) for each in modules]) + "\n"


def read(result: ProbeResult) -> dict[str, Any]:
    """What the driver has seen.

    :raises LoadNotRun: if the connection broke.
    :raises MeasurementFailed: if it did not run for another reason, such as an instance without Python, or did not end:
        a command that runs out of time has a connection.
    """
    __tracebackhide__ = True
    last = result.stderr.strip().splitlines()[-1:]
    if result.exit_code == NO_PYTHON:
        there = f" ({last[0].rstrip(', ')})" if last else ""
        raise MeasurementFailed(
            f"the load is made by Python 3.8 or newer on the instance, which has none{there}; install it with the "
            "workload's setup, such as setup='apt-get update && apt-get install -y python3'"
        )
    if not result.ok:
        why = "it did not end in time" if result.failure is ProbeFailure.TIMEOUT else f"exit code {result.exit_code}"
        ran = result.failure in (ProbeFailure.COMMAND, ProbeFailure.TIMEOUT)
        kind = MeasurementFailed if ran else LoadNotRun
        raise kind(f"the load did not run on the instance: {last[0] if last else why}")
    for line in result.stdout.splitlines():
        if line.startswith(driver.MARK):
            found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(line[len(driver.MARK) :])))
            return found
    raise MeasurementFailed(f"the load's driver printed no result; its output ends with {result.stdout[-300:]!r}")
