"""Has an instance measure its own server: sends the driver there, and reads what it has seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import driver
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.model import ProbeResult

START = "exec(compile(sys.stdin.read(int(sys.stdin.readline())), 'driver', 'exec'))"
COMMAND = f'python3 -u -c "import sys; {START}"'
"""Runs the driver that comes on standard input, and leaves it the rest."""
STREAMS = frozenset({Kind.COMPLETIONS, Kind.CHAT})


def measure(run: Callable[[str, float, str], ProbeResult], lease: Lease, load: Load, seconds: float) -> Measurement:
    """See :meth:`~pytest_vastgpu.client.instance.VastInstance.measure`."""
    program = Path(driver.__file__).read_text(encoding="utf-8")
    orders = {
        "kind": load.kind,
        "port": lease.port,
        "path": load.path,
        "body": load.body,
        "headers": dict(lease.headers),
        "stream": load.kind in STREAMS,
        "concurrency": load.concurrency,
        "timeout_s": load.timeout_s,
        "warmup_s": load.warmup_s,
        "seconds": seconds,
    }
    limit_s = load.warmup_s + seconds + load.timeout_s + 30
    result = run(COMMAND, limit_s, f"{len(program)}\n{program}{json.dumps(orders)}\n")
    if not result.ok:
        raise MeasurementFailed(f"the load did not run there: {result.stderr.strip() or result.failure.value}")
    found = json.loads(result.stdout)
    counted = [each for each in found["seen"] if each["start"] >= found["begun"] + load.warmup_s]
    if not any(not each["error"] for each in counted):
        raise MeasurementFailed(f"no request succeeded; the last error: {counted[-1]['error'] if counted else 'none'}")
    return measurement.of(load, seconds, counted)
