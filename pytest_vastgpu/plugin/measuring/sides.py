"""What the two sides of a comparison are called: what differs is in their names. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import fields

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import workload_line

MOST_CHARS = 120
"""Of what differs; a line has both sides."""
_IN_THE_LINE = frozenset({"adapter", "model", "command", "image"})
_TEXTS = frozenset({"command", "setup", "listing"})
"""Long, and what is in them may be secret."""


def side_names(sides: Mapping[str, Workload]) -> dict[str, str]:
    """The names of ``A`` and ``B``: ``vllm 'org/model'`` and ``vllm 'org/model' (--enforce-eager)``.

    No value of ``env``, no shell command and no file's path is in them, and of the arguments no known secret.
    """
    one, other = sides["A"], sides["B"]
    lines = {side: workload_line(workload) for side, workload in sides.items()}
    differences = list[str](), list[str]()
    for each in fields(Workload):
        values = getattr(one, each.name), getattr(other, each.name)
        if values[0] == values[1] or (lines["A"] != lines["B"] and each.name in _IN_THE_LINE):
            continue
        if each.name == "args":
            mine, others = (Counter(options(value)) for value in values)
            differences[0].extend((mine - others).elements())
            differences[1].extend((others - mine).elements() if mine != others else ["args in another order"])
        elif each.name == "env":
            differences[1].append(f"other env {_names(*values)}")
        elif isinstance(values[1], tuple) or not each.repr or each.name in _TEXTS:
            differences[1].append(f"other {each.name}")
        else:
            for side, value in zip(differences, values, strict=True):
                side.append(f"{each.name}={value!r}")
    what = {side: sanitize.line(", ".join(parts), MOST_CHARS) for side, parts in zip(lines, differences, strict=True)}
    return {side: f"{line} ({what[side]})" if what[side] else line for side, line in lines.items()}


def options(args: Iterable[str]) -> Sequence[str]:
    """Arguments, each option with its values: ``--threads 4``."""
    found = list[str]()
    for word in args:
        if found and found[-1].startswith("-") and not word.startswith("-"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def _names(one: Iterable[tuple[str, str]], other: Iterable[tuple[str, str]]) -> str:
    """The names of the variables that differ."""
    return ", ".join(sorted({name for name, _ in set(one) ^ set(other)}))
