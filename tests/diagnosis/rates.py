"""How many labelled outputs get the right verdict: ``python -m tests.diagnosis.rates [FILE.jsonl | FOLDER] ...``

Scores the outputs that the tests hold and, one set a file, those in the files and folders that are named as arguments
or in the environment variable ``VASTGPU_LABELLED`` (separated as in ``PATH``). A line of such a file is a JSON object
with ``channel``, ``text`` and ``label``; ``server``, ``context``, ``fidelity`` and ``accept`` (classes that are right
as well) may be there.

It exits with 1 where fewer than :data:`LEAST_RIGHT` of a server's outputs in one set are right (if there are at least
:data:`ENOUGH`), or where the start of a healthy log is called a failure.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import LogReader
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from tests.diagnosis.samples import Sample
from tests.diagnosis.samples import judging
from tests.diagnosis.samples import load
from tests.diagnosis.samples import messages
from tests.diagnosis.samples import samples
from tests.diagnosis.samples import servers
from tests.diagnosis.samples import started

LABELLED = "VASTGPU_LABELLED"
LEAST_RIGHT = 0.9
"""The least share of right verdicts, for each server in each set."""
ENOUGH = 10
"""Of fewer outputs no share is asked."""
BOUNDARIES: Mapping[str, Callable[[Sample], str]] = {
    "label": lambda sample: sample.label.value,
    "fidelity": lambda sample: sample.fidelity or "-",
    "server": lambda sample: sample.server or "-",
}


def judge(sample: Sample) -> Verdict:
    """What we say of it."""
    return classify(sample.text, channel=sample.channel, server=sample.server, context=sample.context)


def fatal_prefix(sample: Sample) -> str:
    """The line of a healthy start's log at which the living server is called a failure; empty where it never is."""
    reader = LogReader(channel=sample.channel, server=sample.server, context=sample.context)
    for line in sample.text.splitlines(keepends=True):
        reader.feed(line)
        if reader.verdict().failure_class in FINAL:
            return line
    return ""


def fatal_lines(sample: Sample) -> list[str]:
    """The lines of a healthy start's log that, each alone, are called a failure of the living server."""
    return [
        line
        for line in dict.fromkeys(sample.text.splitlines())
        if fatal_prefix(Sample("", sample.server, sample.channel, sample.context, f"{line}\n", sample.label, "", ""))
    ]


def score(name: str, given: Sequence[Sample]) -> str:
    """Everything that is counted of one set, as text."""
    classes = {sample: judge(sample).failure_class for sample in given}
    right = {sample for sample, found in classes.items() if sample.right(found)}
    blamed = [s for s in given if classes[s] is FailureClass.INFRA_FATAL and s not in right]
    healthy = [sample for sample in given if sample.is_healthy_start]
    lines = [
        f"{name}: {_rate(given, right)} right, {len(blamed)} hosts blamed wrongly; of {len(healthy)} logs of healthy "
        f"starts {sum(bool(fatal_prefix(s)) for s in healthy)} fatal at a prefix, "
        f"{sum(len(fatal_lines(s)) for s in healthy)} of their lines fatal alone"
    ]
    for what, of in BOUNDARIES.items():
        groups: dict[str, list[Sample]] = defaultdict(list)
        for sample in given:
            groups[of(sample)].append(sample)
        lines.append(f"  by {what}: " + ", ".join(f"{key} {_rate(groups[key], right)}" for key in sorted(groups)))
    lines += [f"  wrong: {s.id}: {classes[s].value}, not {s.label.value}" for s in given if s not in right]
    return "\n".join(lines) + "\n"


def falls_short(given: Sequence[Sample]) -> list[str]:
    """What is not good enough in one set, in words; empty where all is."""
    by_server: dict[str, list[bool]] = defaultdict(list)
    for sample in given:
        by_server[sample.server or "-"].append(sample.right(judge(sample).failure_class))
    condemned = [sample.id for sample in given if sample.is_healthy_start and fatal_prefix(sample)]
    return [
        *(
            f"of {server} only {sum(right)} of {len(right)} are right: less than {LEAST_RIGHT:.0%}"
            for server, right in sorted(by_server.items())
            if len(right) >= ENOUGH and sum(right) < LEAST_RIGHT * len(right)
        ),
        *(f"{name} is a healthy start, and is called a failure on its way" for name in condemned),
    ]


def _rate(given: Sequence[Sample], right: set[Sample]) -> str:
    return f"{sum(sample in right for sample in given)}/{len(given)}"


def own_sets() -> dict[str, list[Sample]]:
    """The sets that the tests hold, by name."""
    told = [
        Sample(f"messages-{number}", m.server, m.channel, m.context, m.text, m.label, "", "")
        for number, m in enumerate(messages(), 1)
    ]
    return {
        "failures": samples(),
        "messages": told,
        "servers": servers(),
        "judging": judging(),
        "vLLM starts": started(),
    }


def files(paths: Iterable[str]) -> list[Path]:
    """The files named, and those in the folders named.

    :raises ValueError: for a path that is not there.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path} does not exist: name a file or a folder of labelled outputs")
        found += sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return found


def main(arguments: Sequence[str]) -> int:
    """:returns: 0, 1 for a set that falls short, or 2 for a path or a line that cannot be read."""
    try:
        named = [*arguments, *filter(None, os.environ.get(LABELLED, "").split(os.pathsep))]
        sets = {**own_sets(), **{str(path): load(path) for path in files(named)}}
    except (ValueError, OSError) as error:
        sys.stderr.write(f"tests.diagnosis.rates: {error}\n")
        return 2
    short = False
    for name, given in sets.items():
        sys.stdout.write(score(name, given))
        for words in falls_short(given):
            short = True
            sys.stdout.write(f"  falls short: {words}\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
