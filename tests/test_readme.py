"""The README says what is so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Option
from pytest_vastgpu.settings import Strictness

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def options_table(options: Iterable[Option]) -> str:
    rows = ["| option | variable | ini key | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for option in options:
        flag = f"{option.flag}[={option.metavar}]" if option.alone else f"{option.flag} {option.metavar}".strip()
        default = option.show(option.default)
        rows.append(f"| `{flag}` | `{option.variable}` | `{option.ini}` | {default} | {option.help} |")
    return "\n".join(rows)


def test_the_options_table_is_the_options() -> None:
    assert options_table(OPTIONS) in section("Options")
    assert options_table(HOST_OPTIONS) in (ROOT / "docs/on-host.md").read_text()


def test_the_strictness_table_is_the_policy() -> None:
    rows = dict(re.findall(r"^\| (\S.*?) +\| (.*) \|$", section("Strictness"), re.MULTILINE))
    levels = [POLICIES[level] for level in (Strictness.STRICT, Strictness.BALANCED, Strictness.AGGRESSIVE)]
    assert rows["reliability at least"] == " | ".join(f"{level.reliability:g}" for level in levels)
    assert rows["direct ports at least"] == " | ".join(str(level.direct_ports) for level in levels)
    assert rows["download, Mbps at least"] == " | ".join(f"{level.inet_down_mbps:g}" for level in levels)
    assert rows["machines with recorded success preferred"] == " | ".join(
        "yes" if level.by_record else "no" for level in levels
    )


def test_every_failure_class_is_explained() -> None:
    text = section("Whose fault")
    for failure_class in FailureClass:
        if failure_class is not FailureClass.READY:
            assert f"`{failure_class.value}`" in text


def test_the_first_fenced_block_of_both_command_sections_is_one_line() -> None:
    for title in ("Quick start", "Run the tests"):
        block = re.search(r"```\w*\n(.*?)```", section(title), re.DOTALL)
        assert block is not None
        assert block.group(1).count("\n") == 1


def test_every_example_is_listed_and_exists() -> None:
    listed = set(re.findall(r"\]\(conftest_examples/(\w+)\)", section("Examples")))
    assert listed == {path.name for path in (ROOT / "conftest_examples").iterdir() if (path / "README.md").exists()}
