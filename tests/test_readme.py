"""README and the guides say what is so."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest_vastgpu
from pytest_vastgpu import VastInstance
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.plugin import hooks
from pytest_vastgpu.plugin import hookspecs
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.servers.registry import OWN
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Option
from pytest_vastgpu.settings import Strictness

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OUR_USE = {
    "failed",
    "fate",
    "keep_log",
    "logs_since",
    "mark",
    "on_measured",
    "properties",
    "report_hardware_problem",
    "serves",
    "spent_by",
}
"""What of the handle is public for other modules of this package only."""


def page(name: str) -> str:
    """A page of the documentation."""
    return (ROOT / "docs" / name).read_text()


def section(title: str, text: str = README) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> list[str]:
    """The names in backticks that rows of tables begin with."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)", cell)]


def options_table(options: Iterable[Option]) -> str:
    rows = ["| option | variable | ini key | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for option in options:
        flag = f"{option.flag}[={option.metavar}]" if option.alone else f"{option.flag} {option.metavar}".strip()
        default = option.show(option.default)
        rows.append(f"| `{flag}` | `{option.variable}` | `{option.ini}` | {default} | {option.help} |")
    return "\n".join(rows)


def test_the_options_table_is_the_options() -> None:
    assert options_table(OPTIONS) in page("options.md")
    assert options_table(HOST_OPTIONS) in page("on-host.md")


def test_each_option_has_a_guide() -> None:
    guides = page("options.md").split("| for | see |", 1)[1].split("\n\n", 1)[0]
    general = {"--vast-backend", "--vast-boot-timeout", "--vast-expose"}
    assert {option.flag for option in OPTIONS} - set(re.findall(r"`(--vast-[\w-]+)`", guides)) == general


def test_the_strictness_table_is_the_policy() -> None:
    rows = dict(re.findall(r"^\| (\S.*?) +\| (.*) \|$", page("strictness.md"), re.MULTILINE))
    levels = [POLICIES[level] for level in (Strictness.STRICT, Strictness.BALANCED, Strictness.AGGRESSIVE)]
    assert rows["reliability at least"] == " | ".join(f"{level.reliability:g}" for level in levels)
    assert rows["direct ports at least"] == " | ".join(str(level.direct_ports) for level in levels)
    assert rows["download, Mbps at least"] == " | ".join(f"{level.inet_down_mbps:g}" for level in levels)
    assert rows["machines with recorded success preferred"] == " | ".join(
        "yes" if level.by_record else "no" for level in levels
    )


def test_every_failure_class_is_explained() -> None:
    text = section("The classes", page("whose-fault.md"))
    for failure_class in FailureClass:
        if failure_class is not FailureClass.READY:
            assert f"`{failure_class.value}`" in text


def test_every_fixture_is_told_with_its_scope() -> None:
    told = dict(re.findall(r"^\| `(vast_\w+)` \| (\w+)", section("Fixtures", page("fixtures.md")), re.MULTILINE))
    made = {name: value for name, value in vars(hooks).items() if hasattr(value, "_fixture_function_marker")}
    scopes = {name: value._fixture_function_marker.scope for name, value in made.items()}
    assert told == {**scopes, "vast_local_market": "function"}  # which is loaded only where it is asked for


def test_all_of_the_handle_is_told() -> None:
    public = {name for name in dir(VastInstance) if not name.startswith("_")} - OUR_USE
    text = section("The handle", page("fixtures.md"))
    attributes, offer = text.split("\n### The offer\n")
    assert set(first_column(attributes)) == public
    assert set(first_column(offer)) <= {field.name for field in Offer.__dataclass_fields__.values()}
    for name, told in re.findall(r"^\| `(\w+)\((.*?)\)` \|", attributes, re.MULTILINE):
        parameters = inspect.signature(getattr(VastInstance, name)).parameters
        for each in filter(None, told.split(", ")):
            parameter, _, default = each.partition("=")
            assert default.strip('"') == str(parameters[parameter].default if default else ""), name


def test_the_markers_keywords_are_told_with_their_defaults() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section("The marker `vast`", page("fixtures.md")), re.MULTILINE
    )
    assert {name for name, _ in rows} == set(WorkloadFields.__annotations__)
    for name, told in rows:
        default = Workload.__dataclass_fields__[name].default
        assert (float(told) == default) if told[0].isdigit() else not default, name


def test_every_hook_is_told() -> None:
    told = re.findall(r"^\| `(pytest_vastgpu_\w+)\(", section("Hooks", page("fixtures.md")), re.MULTILINE)
    assert told == [name for name in vars(hookspecs) if name.startswith("pytest_vastgpu_")]


def test_every_builder_is_told_with_its_defaults() -> None:
    text = section("What all builders take", page("servers.md"))
    told = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    kinds = {kind.name: kind for kind in OWN if kind.name != HOST}  # a host has none
    assert {name for name, *_ in told} == set(kinds)
    for name, image, numbers in told:
        defaults = inspect.signature(getattr(pytest_vastgpu, name)).parameters
        values = [defaults[field].default for field in ("port", "disk_gb", "image_gb")]
        assert image == kinds[name].default_image
        assert numbers == " | ".join(f"{value:g}" for value in (*values, kinds[name].warmup_s))


def test_the_first_fenced_block_of_both_command_sections_is_one_line() -> None:
    for title in ("Quick start", "Run the tests"):
        block = re.search(r"```\w*\n(.*?)```", section(title), re.DOTALL)
        assert block is not None
        assert block.group(1).count("\n") == 1


def test_it_is_short_and_leads_to_every_guide_and_example() -> None:
    assert README.count("\n") <= 150
    guides = {path.name for path in (ROOT / "docs").glob("*.md")} - {"releasing.md"}  # for maintainers
    assert set(re.findall(r"\]\(docs/([\w-]+\.md)\)", section("Guides"))) >= guides
    examples = {path.name for path in (ROOT / "conftest_examples").iterdir() if (path / "README.md").exists()}
    assert set(re.findall(r"\]\(conftest_examples/(\w+)\)", section("Guides"))) == examples


def test_every_extra_for_users_is_told() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*first_column(section("Install"))} == extras.keys() - {"dev", "docs"}  # for contributors


def test_the_page_on_pypi_has_no_link_to_a_file_that_is_not_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shown = README
    for each in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(each["pattern"], each["replacement"], shown)
    assert "First suite (`docs/first-suite.md`)" in shown
    assert re.findall(r"\]\((?!https://)[^)]*\)", shown) == []
