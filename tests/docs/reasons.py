"""The tables of verdict reasons in docs/troubleshooting.md, made from the rules.

``python -m tests.docs.reasons`` writes them into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from pytest_vastgpu.model import FailureClass
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
_ELSEWHERE = re.compile(
    r"FailureClass\.\w+,\s*\"([a-z0-9_]+)\"|\b_?(?:ours|infra|fatal)\(\s*\"([a-z0-9]+_[a-z0-9_]+)\""
)
_ANOTHER = "another host would do; nothing in the workload caused this"


def by_rules(failure_class: FailureClass) -> dict[str, str]:
    """The reasons that rules give for failures of a class, each with what to do."""
    found: dict[str, str] = {}
    for rule in RULES:
        if rule.failure_class is failure_class and rule.weight is not Weight.SIGN:
            found.setdefault(rule.reason, rule.remedy)
    return dict(sorted(found.items()))


def elsewhere() -> Iterator[str]:
    """The reasons that other code gives than the rules."""
    for file in sorted((ROOT / "pytest_vastgpu").rglob("*.py")):
        if "local" not in file.parts and "rules" not in file.parts:
            for found in _ELSEWHERE.findall(file.read_text(encoding="utf-8")):
                yield found[0] or found[1]


def table(failure_class: FailureClass) -> str:
    """The part of the page for a class: a table, or where the remedy of most is the same, a list of names."""
    rows = by_rules(failure_class)
    plain = [f"`{reason}`" for reason, remedy in rows.items() if remedy == _ANOTHER]
    lines = ["| reason | what to do |", "| --- | --- |"]
    lines += [f"| `{reason}` | {_cell(remedy)} |" for reason, remedy in rows.items() if remedy != _ANOTHER]
    return "\n".join(([", ".join(plain) + ".", ""] if plain else []) + lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").removesuffix(f"; {_ANOTHER}")


def with_tables(page: str) -> str:
    """The page with the tables as they are now."""
    for failure_class in FailureClass:
        begin, end = f"<!-- reasons: {failure_class.value} -->", "<!-- end -->"
        if begin in page:
            before, _, rest = page.partition(begin)
            page = f"{before}{begin}\n\n{table(failure_class)}\n\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
