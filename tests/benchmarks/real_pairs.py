"""How often a comparison of real servers errs: llama.cpp with itself, and with one whose answers take 5 % more time.

``python -m tests.benchmarks.real_pairs`` compares 20 pairs of each with ``vast_compare`` on the local market, on this
machine's CPU, and prints what each was found to be. Both sides are llama.cpp's own server behind a gateway; that of the
slower side waits for a share of each answer's time before it passes it on. The gate is 5 % of the median time of an
answer, in windows of 2 s.

The local market's second host is the same CPU: what it confirms is that a slowdown is no accident of one instance, and
nothing about other machines. Run it on a machine that does nothing else: with the default of six rounds it takes up to
half an hour for each ten pairs. It ends with 1 where a finding is not true, or where fewer of the slower pairs than
``--found`` are a *regression*. CI compares one pair of each, with a delay and a gate that are far beyond the noise.
"""

from __future__ import annotations

import argparse
import json
import math
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
AT_THE_GATEWAY = 1.18
"""So much more it waits, since a client's time is longer than that of the gateway."""
LOOK_S = 0.5
"""Between two looks for what the run has found."""
WRONG = {"the same": ("regression", "improvement"), "slower": ("noise", "improvement")}
"""Findings that are not true. *inconclusive* claims nothing."""
FOUND = 0.8
"""Share of the slower pairs that must be a *regression*, if nothing else is asked for."""

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


def compared(pairs: int, delay: float, gate: float, budget: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """What each pair was found to be, as it comes.

    :param delay: By so large a share of an answer's time the slower side is slower.
    :param gate: Of the median time of an answer.
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
        delay=delay * AT_THE_GATEWAY,
        gate=gate,
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
    """Those that are whole: the last may be being written."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def faults(found: Mapping[tuple[str, str], int], least: int) -> list[str]:
    """What is wrong with these findings, in sentences.

    :param found: How often each finding was made, by kind of pair and finding.
    :param least: So many of the slower pairs must be a *regression*.
    """
    wrong = [(kind, finding) for kind, findings in WRONG.items() for finding in findings if found.get((kind, finding))]
    few = found.get(("slower", "regression"), 0)
    return [
        *(f"{found[each]} of {each[0]!r} found to be {each[1]}, which is not true" for each in wrong),
        *([f"{few} of the slower pairs are a regression, {least} are the least"] if few < least else []),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.real_pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="of each kind (default: 20)")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="on each host (default: 6)")
    parser.add_argument("--blocks", type=int, default=1, metavar="N", help="four windows each, in a round (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of a window (default: 2)")
    parser.add_argument(
        "--delay", type=float, default=0.05, metavar="D", help="share of an answer's time (default: 0.05)"
    )
    parser.add_argument(
        "--gate", type=float, default=0.05, metavar="G", help="of an answer's median time (default: 0.05)"
    )
    parser.add_argument("--found", type=int, metavar="N", help="slower pairs that must be found (default: 8 of 10)")
    given = parser.parse_args(argv)
    least = math.ceil(FOUND * given.pairs) if given.found is None else given.found
    budget = {"rounds": given.rounds, "blocks": given.blocks, "seconds": given.seconds}
    sys.stdout.write("{cpu}, {cores} cores, Python {python}, {date}, load {load} before\n".format(**report.machine()))
    found = Counter[tuple[str, str]]()
    try:
        for each in compared(given.pairs, given.delay, given.gate, budget):
            found[each["kind"], each["finding"]] += 1
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
    for kind, words in (("the same", "the same"), ("slower", f"{given.delay:.0%} more time for each answer")):
        sys.stdout.write(f"| {words} | {' | '.join(str(found[kind, finding]) for finding in findings)} |\n")
    sys.stdout.write("The second host is this same CPU.\n")
    wrong = faults(found, least)
    sys.stderr.writelines(f"failed: {each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
