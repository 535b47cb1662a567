"""All benchmarks, one after the other, and one table: ``python -m tests.benchmarks [--json FILE] [--only NAME …]``.

Each runs in a process of its own. Run them on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import report

NAMES = (
    "latency",
    "vllm_start",
    "drivers",
    "sharing",
    "ranking",
    "host_cache",
    "idle",
    "verdicts_vs_substrings",
    "local_market",
    "stream",
    "warm",
    "lives",
    "first_run",
    "bringing",
    "sync",
    "on_hosts",
)


def run(name: str, quick: bool, scratch: Path) -> dict[str, Any]:
    """What one benchmark found; what it says on the way goes to stderr."""
    found = scratch / f"{name}.json"
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json", str(found), *(["--quick"] if quick else [])]
    began = time.perf_counter()
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    took = {"seconds": round(time.perf_counter() - began, 1)}
    if code:
        return {"skipped": "", "failed": f"exit code {code}", "rows": [], **took}
    return {**json.loads(found.read_text(encoding="utf-8")), "failed": "", **took}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="the smallest form: shows that they work, no more")
    arguments = parser.parse_args()
    machine = report.machine()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only:
            sys.stderr.write(f"{name} …\n")
            found[name] = run(name, arguments.quick, Path(scratch))
            if arguments.json:  # after each: whoever interrupts the next one keeps those
                text = json.dumps({"machine": machine, "quick": arguments.quick, "benchmarks": found}, indent=2)
                arguments.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write("{cpu}, {cores} cores, Python {python}, {date}, load {load} before\n\n".format(**machine))
    sys.stdout.write(report.table(row for each in found.values() for row in report.from_json(each["rows"])))
    for name, each in found.items():
        if why := each["failed"] or each["skipped"]:
            sys.stdout.write(f"{name}: {'failed' if each['failed'] else 'skipped'}: {why}\n")
    return 1 if any(each["failed"] for each in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
