"""How often a comparison of real servers errs: llama.cpp with itself, and with one whose answers take 5 % more time.

``python -m tests.benchmarks.real_pairs`` compares 20 pairs of each with ``vast_compare`` on the local market, on this
machine's CPU, and prints what each was found to be. Both sides are llama.cpp's own server behind a gateway; that of the
slower side waits for a share of each answer's time before it passes it on. The gate is 5 % of the median time of an
answer, in windows of 2 s.

The local market's second host is the same CPU: what it confirms is that a slowdown is no accident of one instance, and
nothing about other machines. Run it on a machine that does nothing else: with the default of six rounds it takes up to
half an hour for each ten pairs. ``--pairs 1 --rounds 3 --seconds 1`` shows that it works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks import suite

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "conftest_examples/quickstart/quickstart-30k.gguf"
SERVER_OF_WHEEL = HERE.parents[1] / "pytest_vastgpu/servers/xllamacpp_server.py"
DELAY = 0.05
AT_THE_GATEWAY = 1.18
"""So much more it waits, since a client's time is longer than that of the gateway."""
GATE = 0.05
LOOK_S = 0.5
"""Between two looks for what the run has found."""
WRONG = {"the same": {"regression"}, "slower": {"noise", "improvement"}}
"""Findings that are not true. *inconclusive* claims nothing."""

PAIRS = """
import json
import pytest
from pytest_vastgpu import command, completions

LOAD = completions(
    model="quickstart-30k", prompt="{{n}} Nothing is left", max_tokens=192, stream=False, warmup_s=0.3,
    temperature=0, ignore_eos=True,
)

def served(delay):
    return command(
        "exec python3 gateway.py 8000 " + str(delay) + " {server} --model model.gguf --alias quickstart-30k "
        "--host 127.0.0.1 --threads 1 --parallel 1",
        files={files!r}, ready_path="/health", gpus=0, disk_gb=8,
    )

@pytest.mark.parametrize("kind", ["the same", "slower"])
@pytest.mark.parametrize("number", range({pairs}))
def test_pair(vast_compare, kind, number):
    candidate = served({delay} if kind == "slower" else 0)
    result = vast_compare(baseline=served(0), candidate=candidate, load=LOAD, **{budget!r})
    (found,) = result.judge(e2e_p50={gate})
    seen = dict(
        kind=kind, finding=found.finding.value, slowdown=found.slowdown, low=found.low, high=found.high,
        resolves=found.resolves, hosts=len(result.hosts), seconds=result.seconds,
    )
    with open("found.jsonl", "a") as file:
        file.write(json.dumps(seen) + "\\n")
"""


def compared(pairs: int, budget: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """What each pair was found to be, as it comes.

    :param budget: Arguments of ``vast_compare``.
    :raises report.Failed: with what the run said, if a pair could not be compared.
    """
    llamacpp = shutil.which("llama-server")
    files = {"gateway.py": str(HERE / "delaying_gateway.py"), "model.gguf": str(MODEL)}
    files |= {} if llamacpp else {"server.py": str(SERVER_OF_WHEEL)}
    text = PAIRS.format(
        server=llamacpp or "python3 server.py",
        files=files,
        pairs=pairs,
        delay=DELAY * AT_THE_GATEWAY,
        gate=GATE,
        budget=dict(budget),
    )
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "test_pairs.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
        command += ["--vast-backend=local", "--vast-budget=100"]
        environ = suite.environment(place / "home")
        (place / "home").mkdir()
        told, said = 0, place / "said"
        with (
            said.open("w") as out,
            subprocess.Popen(
                command, cwd=place, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            ) as run,
        ):
            over = False
            while not over:
                over = run.poll() is not None
                lines = _lines(place / "found.jsonl")
                yield from (json.loads(each) for each in lines[told:])
                told = len(lines)
                time.sleep(LOOK_S)
        if run.returncode:
            raise report.Failed(f"exit code {run.returncode}\n{said.read_text(encoding='utf-8')}")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.real_pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="of each kind (default: 20)")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="on each host (default: 6)")
    parser.add_argument("--blocks", type=int, default=1, metavar="N", help="four windows each, in a round (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of a window (default: 2)")
    given = parser.parse_args(argv)
    sys.stdout.write("{cpu}, {cores} cores, Python {python}, {date}, load {load} before\n".format(**report.machine()))
    found = Counter[tuple[str, str]]()
    wrong = 0
    try:
        for each in compared(given.pairs, {"rounds": given.rounds, "blocks": given.blocks, "seconds": given.seconds}):
            found[each["kind"], each["finding"]] += 1
            wrong += each["finding"] in WRONG[each["kind"]]
            sys.stdout.write(
                "{kind:8}  {finding:12}  {slowdown:+6.1%} ({low:+.1%} to {high:+.1%}), could see {resolves:.1%}, "
                "hosts: {hosts}, {seconds:.0f} s\n".format(**each)
            )
            sys.stdout.flush()
    except report.Failed as why:
        sys.stderr.write(f"failed: {why}\n")
        return 1
    findings = ("regression", "inconclusive", "noise", "improvement", "hardware")
    sys.stdout.write(f"\n| candidate | {' | '.join(findings)} |\n|{' --- |' * (1 + len(findings))}\n")
    for kind, words in (("the same", "the same"), ("slower", f"{DELAY:.0%} more time for each answer")):
        sys.stdout.write(f"| {words} | {' | '.join(str(found[kind, finding]) for finding in findings)} |\n")
    sys.stdout.write("The second host is this same CPU.\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
