"""The checks of blocks find what is wrong, and name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import printed
from tests.docs.console import CommandLines
from tests.docs.console import options_of
from tests.docs.data_files import json_problems
from tests.docs.data_files import settings_problems
from tests.docs.data_files import yaml_problems
from tests.docs.pages import Block
from tests.docs.pages import parse
from tests.docs.python_code import Page


def block(language: str, text: str) -> Block:
    return Block("page.md", 1, language, text, "")


@pytest.fixture
def commands(pytestconfig: pytest.Config) -> CommandLines:
    return CommandLines(options_of(pytestconfig), {"test_mine.py"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pytest --vast-budgt=2", "no option '--vast-budgt=2'"),
        ("pytest --vast-budget=two", "--vast-budget does not take 'two'"),
        ("pytest nowhere/test_x.py", "'nowhere/test_x.py' is neither in this repository"),
        ("VAST_BUDGT=2 pytest", "nothing reads VAST_BUDGT"),
        ("export VAST_BACKEND=cloud", "VAST_BACKEND does not take 'cloud'"),
        ("pip install -q x && vastgpu lss", "'lss'"),
        ("vastgpu ls --chek", "--chek"),
        ('eval "$(vastgpu completion tcsh)"', "there is no value 'tcsh'"),
        ("python3 -m pytest --vast-hots=2", "no option '--vast-hots=2'"),
        ("pip install 'pytest-vastgpu[gpu]'", "there is no extra 'gpu'"),
        (".ci/nothing.sh", "'.ci/nothing.sh' is neither in this repository"),
        ("frobnicate", "'frobnicate' is no program"),
        ("pytest 'test_mine.py", "no shell reads"),
    ],
)
def test_a_wrong_command_is_found(line: str, problem: str, commands: CommandLines) -> None:
    [found] = commands.problems(line)
    assert problem in found


@pytest.mark.parametrize(
    "line",
    [
        "pytest -n 4 --dist load --vast-reuse test_mine.py",
        "pytest --vast-plan-json=/dev/stderr 2>&1 >/dev/null | python3 -m json.tool",
        "VAST_API_KEY=… pytest --vast-hosts=2 --vast-gpu-name='RTX 4090'",
        "cp -r conftest_examples/quickstart /tmp/x/ && cd /tmp/x && bin/pytest quickstart",
    ],
)
def test_a_right_command_has_no_problem(line: str, commands: CommandLines) -> None:
    assert list(commands.problems(line)) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def test_x(:\n    pass\n", "invalid syntax"),
        ("vllm('org/model', gpu_ram=8)\n", "gpu_ram"),
        ("@pytest.mark.vast(vllm('a/b', gpus=-1))\ndef test_x(vast_instance): pass\n", "gpus"),
        ("def test_x(vast_instnce):\n    pass\n", "'vast_instnce', which is no fixture"),
        ("def test_x(vast_instance):\n    vast_instance.endpont\n", "VastInstance has no 'endpont'"),
        ("def test_x(vast_instance):\n    ask(vast_instance)\n", "'ask' is defined neither here"),
        ("def test_x(vast_instance):\n    vast_instance.run('ls', timeout=3)\n", "takes no 'timeout'"),
        ("def test_x(vast_local_market):\n    m = vast_local_market()\n    m.state()\n", "LocalMarket has no 'state'"),
        ("from pytest_vastgpu import vlm\n", "vlm"),
        ("vast_compare(base=1)\n", "base"),
    ],
)
def test_wrong_python_is_found(code: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(problem in text for _, text in Page(tmp_path).problems(block("python", code), monkeypatch))


WORKFLOW = """\
on: push
jobs:
  gpu:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
        wiht: {}
      - run: |
          pip install pytest-vastgpu
          pytest --vast-budgt=2
      - env: { VAST_BUDGET: two }
        run: vastgpu doctor
"""


def test_a_wrong_workflow_is_found(commands: CommandLines) -> None:
    found = list(yaml_problems(block("yaml", WORKFLOW), commands))
    assert [line for line, _ in found] == [0, 9, 10]
    assert "'wiht' is no key of a step" in found[0][1]
    assert "--vast-budgt" in found[1][1]
    assert "VAST_BUDGET does not take 'two'" in found[2][1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("machines: [{gpu_nam: RTX 4090}]", "gpu_nam"),
        ("machines: [{faults: [offer_takn]}]", "offer_takn"),
        ("a: [", "no YAML"),
        ("something: else", "neither a fleet nor a job"),
        ("- run: pytest\n  wiht: {}", "'wiht' is no key of a step"),
        ("steps: [{command: pytest, timeout: 60}]", "'timeout' is no key of a step at Buildkite"),
        ("gpu: {script: [pytest], concurrency: 1}", "job gpu: 'concurrency' is no key of a job at GitLab"),
    ],
)
def test_a_wrong_yaml_file_is_found(text: str, problem: str, commands: CommandLines) -> None:
    [(_, found)] = yaml_problems(block("yaml", text), commands)
    assert problem in found


@pytest.mark.parametrize(
    ("language", "text", "problem"),
    [
        ("ini", "[pytest]\nvast_budgt = 2\n", "'vast_budgt' is no key"),
        ("ini", "[pytest]\nvast_budget = two\n", "does not take 'two'"),
        ("toml", "[tool.pytest.ini_options]\nvast_budget = 'two'\n", "does not take 'two'"),
        ("toml", "[tool", "no TOML"),
    ],
)
def test_wrong_settings_are_found(language: str, text: str, problem: str) -> None:
    [(_, found)] = settings_problems(block(language, text))
    assert problem in found


def test_wrong_json_is_found() -> None:
    assert [line for line, _ in json_problems(block("json", '{"a": 1,\n"b" 2}\n'))] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "vastgpu instance 592224698: host is checked",
        "vastgpu: renting this machine from a local market, play money, at most 5 USD",
        "vastgpu instance 592224698: gone in 0.9 s, 0.0000 USD",
        "machine  GPU     USD/h  bootng  check",
        "instance 590981097 has gone",
    ],
)
def test_a_line_that_nothing_prints_is_found(line: str) -> None:
    program = printed.of_the_package()
    assert program.unexplained(f"vastgpu instance 592224698: booting\n{line}\n") == [(1, line)]


def test_blocks_are_read_with_their_lines() -> None:
    text = "A `file.py`:\n\n```python\na = 1\n```\n\n1. x\n\n   ```console\n   $ ls\n   ```\n"
    first, second = parse("page.md", text)
    assert (first.line, first.language, first.text, first.introduction) == (4, "python", "a = 1\n", "A `file.py`:")
    assert (second.line, second.text) == (10, "$ ls\n")
