"""What the documents for contributors name exists, and what is said in two places is the same in both."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import pytest_vastgpu
from pytest_vastgpu import VastInstance
from pytest_vastgpu import errors
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.servers.openai_server import OpenAiServerAdapter
from pytest_vastgpu.supervisor.rental.server import job
from tests.docs.pages import words_of

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
THREAD = re.compile(r"vastgpu-[a-z-]+")
STARTED = re.compile(r"(?:\bname(?:_prefix)? ?= ?|repeat\()f?\"(vastgpu-[^\"]*)")
"""Where a thread is named: an argument, a variable, or the first argument of a clock's ``repeat``."""

FIELDS = set(ProbeResult.__annotations__)


def test_threads_and_locks_of_the_architecture_are_those_of_the_code() -> None:
    words = words_of("docs/architecture.md")
    sources = {path: path.read_text() for path in (ROOT / "pytest_vastgpu").rglob("*.py")}
    text = "\n".join(sources.values())
    told = {word for word in words if THREAD.fullmatch(word)}
    started = {name.partition("{")[0] for name in STARTED.findall(text)}
    assert started - told == set()
    assert [name for name in told if f'"{name}' not in text] == []
    locks = [word.split(".") for word in words if re.fullmatch(r"[A-Z]\w+\.(?:\w*_lock|_changed|_\w+ing|lock)", word)]
    assert len(locks) > 10
    for owner, lock in locks:
        homes = [source for source in sources.values() if f"\nclass {owner}" in source]
        assert any(re.search(rf"\b{lock}\b", source) for source in homes), f"{owner}.{lock}"


def test_only_a_rental_assigns_its_own_fields() -> None:
    others = [path for path in (ROOT / "pytest_vastgpu").rglob("*.py") if path.name != "rental.py"]
    assigned = re.compile(r"(?:\brental|registry\[[^]]*\])\.\w+ (?:[-+|] ?)?= ")
    assert [path.name for path in others if assigned.search(path.read_text())] == []


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first.group(1) in {PROJECT["version"], "Unreleased"}


def test_set_up_is_what_the_readme_says() -> None:
    line = re.search(r"```console\n(.*?)\n```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert line is not None
    assert line.group(1) in (ROOT / "README.md").read_text().split("## Run the tests")[1]


def test_ci_runs_on_the_oldest_and_the_newest_python_of_the_project() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    said = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
    job = workflow["jobs"]["run"]
    assert job["strategy"]["matrix"]["python"] == [PROJECT["requires-python"].removeprefix(">="), said[-1]]
    *_, last = [step for step in job["steps"] if "run" in step]
    assert last["run"] == ".ci/run"
    assert last.keys() <= {"run", "env"}, "it runs in any case, and a failure of it is one of the job"
    assert workflow["permissions"] == {"contents": "read"}


def test_forms_ask_for_what_a_report_needs() -> None:
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    for name in ("bug", "wrong_verdict", "feature"):
        assert {"name", "description", "body"} <= forms[name].keys()
    required = {
        name: {part["id"] for part in form["body"] if part.get("validations", {}).get("required")}
        for name, form in forms.items()
        if "body" in form
    }
    assert {"events", "versions"} <= required["bug"]
    assert {"output", "label"} <= required["wrong_verdict"]


@pytest.mark.parametrize("page", ["docs/fixtures.md", "docs/servers.md"])
def test_where_the_files_of_a_workload_are_is_said(page: str) -> None:
    assert f"`~/{job.WORK}`" in (ROOT / page).read_text()
    assert f"``~/{job.WORK}``" in (VastInstance.run.__doc__ or "")


def test_the_guide_names_what_run_returns() -> None:
    fixtures = (ROOT / "docs/fixtures.md").read_text()
    told = fixtures.split("`run(command, timeout_s=60)`", 1)[1].split("\n\n", 1)[0]
    named = {name for name in re.findall(r"`(\w+)`", told) if hasattr(ProbeResult, name) or name in FIELDS}
    assert named == {"exit_code", "stdout", "stderr", "ok", "failure"}
    assert inspect.signature(VastInstance.run).parameters["timeout_s"].default == 60


def test_the_image_of_a_server_of_your_own_is_said() -> None:
    pages = (ROOT / "docs/servers.md").read_text()
    section = pages.split("\n## Any OpenAI-compatible server\n", 1)[1].split("\n## ", 1)[0]
    assert f"`{OpenAiServerAdapter.default_image}`" in section


def test_an_author_of_an_adapter_is_told_that_answers_have_a_status() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text().split("\n### An adapter", 1)[1].split("\n### ", 1)[0]
    assert "`status`" in recipe
    assert "answer.status == 200" in (ROOT / "conftest_examples/custom_adapter/search_adapter.py").read_text()


def test_what_ci_runs_names_every_server_that_it_runs() -> None:
    steps = re.findall(r'^step "(.*)"$', (ROOT / ".ci/run").read_text(), re.MULTILINE)
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## What CI runs\n", 1)[1].split("\n## ", 1)[0]
    for what in ("llama.cpp", "vLLM", "transformers serve", "Triton", "an adapter from outside"):
        assert any(what in step for step in steps), what
        assert what in section, what


def test_an_exception_that_a_page_for_users_names_can_be_imported() -> None:
    pages = "".join((ROOT / page).read_text() for page in ("docs/fixtures.md", "docs/servers.md", "docs/recipes.md"))
    named = {name for name in re.findall(r"`(\w+)`", pages) if hasattr(errors, name)}
    assert "VastGpuError" in named
    assert named | {"ConfigurationError", "WorkloadInvalid"} <= set(pytest_vastgpu.__all__)


MEASURED = """
import pytest
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.measurement import Measurement

class Instance:
    def measure(self, load, seconds):
        assert load.body["ignore_eos"]
        assert load.body["max_tokens"] > 1
        return Measurement(load, seconds, {"ttft_p50": Figure(0.1, "s", 0.1, 0.1, -1)})

@pytest.fixture
def vast_instance(vast_workload):
    assert vast_workload.adapter == "llamacpp"
    return Instance()

@pytest.fixture
def vast_benchmark(vast_instance):
    return vast_instance.measure
"""


def test_the_first_examples_of_measuring_can_be_pasted(pytester: pytest.Pytester) -> None:
    """They name their workload, and ask for answers of several tokens."""
    text = (ROOT / "docs/measuring.md").read_text()
    first, stored = (
        re.findall(r"```python\n(.*?)```", text.split(f"\n## {title}\n")[1], re.DOTALL)[0]
        for title in ("Measure", "Compare with what was")
    )
    pytester.path.joinpath("conftest_examples").symlink_to(ROOT / "conftest_examples")
    pytester.makeconftest(MEASURED)
    path = pytester.makepyfile(f"{first}\n\n{stored.replace('test_speed', 'test_stored')}")
    pytester.runpytest_inprocess("-p", "no:vastgpu", path).assert_outcomes(passed=2)
