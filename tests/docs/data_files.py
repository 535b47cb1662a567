"""Checks of blocks that are files: a fleet of the local market, a job of a CI service, settings of pytest, JSON."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import yaml

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.fleet.fleet import parse_fleet
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from tests.docs.console import VARIABLES
from tests.docs.console import CommandLines
from tests.docs.console import commands_of
from tests.docs.console import variable_problems
from tests.docs.pages import Block

_STEP = "uses with run env if name id shell working-directory continue-on-error timeout-minutes"
_JOB = """
runs-on steps env if name needs strategy permissions timeout-minutes concurrency container services outputs environment
defaults continue-on-error
"""
STEP = frozenset(_STEP.split())
JOB = frozenset(_JOB.split())
"""What a job and a step of GitHub Actions may have."""
_GITLAB = """
image timeout interruptible resource_group rules variables cache script before_script after_script artifacts stage needs
tags retry services allow_failure parallel extends environment when
"""
_BUILDKITE = """
label key timeout_in_minutes concurrency concurrency_group env command commands artifact_paths depends_on
allow_dependency_failure agents if branches plugins retry soft_fail parallelism
"""
GITLAB_JOB = frozenset(_GITLAB.split())
BUILDKITE_STEP = frozenset(_BUILDKITE.split())
"""What they are called elsewhere."""
FLEET = frozenset({"market", "machines", "generate", "seed", "images"})
COMMANDS = frozenset({"script", "before_script", "after_script", "run", "command", "commands"})
"""Keys whose values are command lines, at GitHub, GitLab and Buildkite."""
PYTEST = frozenset(
    {"addopts", "markers", "testpaths", "filterwarnings", "junit_family", "junit_logging", "timeout", "xfail_strict"}
)
SETTINGS = {option.ini: option for option in (*OPTIONS, *HOST_OPTIONS)}
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def yaml_problems(block: Block, commands: CommandLines) -> Iterator[tuple[int, str]]:
    """What is wrong with a YAML block, each with its line of the block, from 0."""
    try:
        node = yaml.compose(block.text)
        data = yaml.safe_load(block.text)
    except yaml.MarkedYAMLError as error:
        yield error.problem_mark.line if error.problem_mark else 0, f"no YAML: {error.problem}"
        return
    if isinstance(data, dict) and data.keys() <= FLEET:
        try:
            parse_fleet(block.text, block.place)
        except LocalMarketError as error:
            yield 0, str(error)
        return
    if not _lines_of_commands(data):
        yield 0, "neither a fleet nor a job: no command is in it; say to tests/docs/data_files.py what it is"
    yield from ((0, problem) for problem in _keys(data))
    for offset, text in _commands_in(node):
        for inner, line in commands_of(_EXPRESSION.sub("EXPRESSION", text)):
            for problem in commands.problems(line):
                yield offset + inner, problem
    yield from _variables(node)


def _lines_of_commands(data: Any) -> bool:
    if isinstance(data, dict):
        return any(key in COMMANDS or _lines_of_commands(value) for key, value in data.items())
    return isinstance(data, list) and any(_lines_of_commands(each) for each in data)


def _keys(data: Any) -> Iterator[str]:
    """What is wrong with the keys of a job, or with those of the steps of one."""
    if isinstance(data, list):
        yield from _steps(data)
    elif "jobs" in data:
        yield from _workflow(data)
    elif isinstance(data.get("steps"), list):
        for step in data["steps"]:
            yield from (f"{key!r} is no key of a step at Buildkite" for key in step.keys() - BUILDKITE_STEP)
    else:
        for name, job in data.items():
            if isinstance(job, dict) and "script" in job:
                yield from (f"job {name}: {key!r} is no key of a job at GitLab" for key in job.keys() - GITLAB_JOB)


def _steps(steps: Iterable[Mapping[Any, Any]]) -> Iterator[str]:
    for step in steps:
        yield from (f"{key!r} is no key of a step" for key in step.keys() - STEP)
        if len(step.keys() & {"run", "uses"}) != 1:
            yield f"a step has either run or uses: {step}"


def _workflow(data: Mapping[Any, Any]) -> Iterator[str]:
    if True not in data:  # `on` is a boolean in YAML 1.1
        yield "a workflow says when it runs: on"
    for name, job in data["jobs"].items():
        yield from (f"job {name}: {key!r} is no key of a job" for key in job.keys() - JOB)
        yield from (f"job {name}: {problem}" for problem in _steps(job.get("steps", [])))


def _commands_in(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """The command lines of a document, each with its line."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _commands_in(each)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in COMMANDS:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.ScalarNode):
                        yield each.start_mark.line + (each.style in ("|", ">")), each.value
            else:
                yield from _commands_in(value)


def _variables(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """What is wrong with the variables of ours that a job sets."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _variables(each)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            if name.startswith("VAST_") and isinstance(value, yaml.ScalarNode):
                taken_from_elsewhere = "$" in value.value and name in VARIABLES
                for problem in () if taken_from_elsewhere else variable_problems(name, value.value):
                    yield key.start_mark.line, problem
            yield from _variables(value)


def settings_problems(block: Block) -> Iterator[tuple[int, str]]:
    """What is wrong with a block of ini or TOML that configures pytest or another tool."""
    if block.language == "toml":
        try:
            data = tomllib.loads(block.text)
        except tomllib.TOMLDecodeError as error:
            yield 0, f"no TOML: {error}"
            return
        pytests = data.get("pytest", data.get("tool", {}).get("pytest", {}))
        found = {**pytests, **pytests.get("ini_options", {})}
        found.pop("ini_options", None)
    else:
        parser = configparser.ConfigParser()
        parser.read_string(block.text)
        found = {key: value for name in parser.sections() if "pytest" in name for key, value in parser[name].items()}
    for key, value in found.items():
        line = next((n for n, text in enumerate(block.text.split("\n")) if text.startswith(key)), 0)
        if key not in PYTEST | SETTINGS.keys():
            yield line, f"{key!r} is no key of ours, nor one of pytest's that tests/docs/data_files.py knows"
        elif key in SETTINGS:
            for text in value if isinstance(value, list) else str(value).splitlines():
                try:
                    SETTINGS[key].parse(str(text))
                except ValueError as error:
                    yield line, f"{key} does not take {text!r}: {error}"


def json_problems(block: Block) -> Iterator[tuple[int, str]]:
    """What is wrong with a block of JSON, with its line of the block, from 0."""
    try:
        json.loads(block.text)
    except json.JSONDecodeError as error:
        yield error.lineno - 1, f"no JSON: {error.msg}"
