"""The environment of the tests on a host, as the project's files say it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_vastgpu.core.text.redaction import Redactor
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.plugin.on_host.environment import Environment
from pytest_vastgpu.plugin.on_host.environment import Pythons
from pytest_vastgpu.plugin.on_host.environment import decide
from pytest_vastgpu.plugin.on_host.environment import pythons
from pytest_vastgpu.supervisor.rental.bringup.set_up import depends_on
from pytest_vastgpu.supervisor.rental.bringup.set_up import verdict

PROJECT = '[project]\nname = "it"\ndependencies = ["numpy"]\n'
BUILT = PROJECT + '[build-system]\nrequires = ["hatchling"]\n'
EXTRA = '[project.optional-dependencies]\n{} = ["pytest-timeout"]\n'
GROUP = '[dependency-groups]\n{} = ["pytest-timeout"]\n'
ANY = Pythons(("3.11", "3.12"), "Python 3.11 to 3.12 (requires-python)", "3.11")


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({"uv.lock": "", "pyproject.toml": PROJECT, "requirements.txt": ""}, "uv sync --frozen (uv.lock)"),
        (
            {"uv.lock": "", "pyproject.toml": PROJECT + EXTRA.format("test")},
            "uv sync --frozen --extra test (uv.lock)",
        ),
        (
            {"uv.lock": "", "pyproject.toml": PROJECT + GROUP.format("test")},
            "uv sync --frozen --group test (uv.lock)",
        ),
        (
            {"uv.lock": "", "pyproject.toml": PROJECT + EXTRA.format("Test") + GROUP.format("test")},
            "uv sync --frozen --extra Test --group test (uv.lock)",
        ),
        (  # uv takes the group dev by itself
            {"uv.lock": "", "pyproject.toml": PROJECT + GROUP.format("dev")},
            "uv sync --frozen (uv.lock)",
        ),
        ({"uv.lock": ""}, None),
        ({"pyproject.toml": PROJECT, "requirements.txt": ""}, "uv pip install -r pyproject.toml (pyproject.toml)"),
        ({"pyproject.toml": BUILT}, "uv pip install -e . (pyproject.toml)"),
        ({"pyproject.toml": BUILT + EXTRA.format("tests")}, "uv pip install -e .[tests] (pyproject.toml)"),
        ({"pyproject.toml": BUILT + GROUP.format("test")}, "uv pip install -e . --group test (pyproject.toml)"),
        (
            {"pyproject.toml": PROJECT + EXTRA.format("dev")},
            "uv pip install -r pyproject.toml --extra dev (pyproject.toml)",
        ),
        (  # test comes before dev
            {"pyproject.toml": PROJECT + EXTRA.format("dev") + GROUP.format("test")},
            "uv pip install -r pyproject.toml --group test (pyproject.toml)",
        ),
        ({"pyproject.toml": GROUP.format("test")}, "uv pip install --group test (pyproject.toml)"),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, None),
        ({"pyproject.toml": '[project]\nname = "it"\n'}, None),
        (
            {"pyproject.toml": "[tool.ruff]\n", "requirements.txt": ""},
            "uv pip install -r requirements.txt (requirements.txt)",
        ),
        (
            {
                "requirements.txt": "",
                "requirements-dev.txt": "",
                "requirements_test.txt": "",
                "requirements-docs.txt": "",
            },
            "uv pip install -r requirements.txt -r requirements_test.txt (requirements.txt, requirements_test.txt)",
        ),
        ({"dev-requirements.txt": ""}, "uv pip install -r dev-requirements.txt (dev-requirements.txt)"),
        ({"requirements-gpu.txt": ""}, "uv pip install -r requirements-gpu.txt (requirements-gpu.txt)"),
        ({"setup.cfg": ""}, None),
        ({}, None),
    ],
)
def test_what_it_is_made_of(files: Mapping[str, str], shown: str | None) -> None:
    made = decide(files)
    if shown is None:
        assert (made.how, made.options) == ("image", ())
        assert made.shown.startswith("the image's own Python")
        return
    assert made.shown == shown
    assert made.how == ("sync" if "sync" in shown else "install")
    assert shown.startswith(
        f"uv {'sync --frozen' if made.how == 'sync' else 'pip install'} {' '.join(made.options)}".strip()
    )


def test_the_users_own_command_comes_first() -> None:
    files = {"uv.lock": "", "pyproject.toml": PROJECT}
    assert decide(files, "make env") == Environment("command", "make env (--vast-setup)", command="make env")
    assert decide(files, "make env\nmake more\n").shown == "make env … (--vast-setup)"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"pyproject.toml": "[project\n"}, r"pyproject\.toml cannot be read: .+line 1"),
        (
            {"requirements-a.txt": "", "requirements-dev.txt": ""},
            r"which of requirements-a\.txt, requirements-dev\.txt the tests need .*--vast-setup='uv pip install -r",
        ),
        (
            {"requirements-cpu.txt": "", "requirements-gpu.txt": ""},
            r"which of requirements-cpu\.txt, requirements-gpu\.txt the tests need .*--vast-setup='uv pip install -r",
        ),
    ],
)
def test_what_cannot_be_told_is_one_line_before_anything_is_rented(files: Mapping[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        decide(files)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "uv.lock").write_bytes(b"version\xff\x00")
    with pytest.raises(ConfigurationError) as raised:
        environment.texts(tmp_path, ["pyproject.toml", "uv.lock"])
    assert str(raised.value) == (
        "the project's environment cannot be read: uv.lock is no text in UTF-8 (invalid start byte, at byte 7): "
        "mend it, or write it anew"
    )


def _requires(text: str) -> dict[str, str]:
    return {"pyproject.toml": f'[project]\nname = "it"\nrequires-python = "{text}"\n'}


@pytest.mark.parametrize(
    ("files", "first", "last", "brought", "wanted"),
    [
        ({}, "3.10", "3.29", "3.11", "Python 3.10 or newer (pytest 9)"),
        (_requires(">=3.12"), "3.12", "3.29", "3.12", "Python 3.12 or newer (requires-python)"),
        (_requires(">=3.8,<3.13"), "3.10", "3.12", "3.11", "Python 3.10 to 3.12 (pytest 9, requires-python)"),
        (_requires("==3.10.7"), "3.10", "3.10", "3.10", "Python 3.10 (requires-python)"),
        ({".python-version": "3.12.4\n"}, "3.12", "3.29", "3.12", "Python 3.12 or newer (.python-version)"),
        (
            _requires(">=3.10,<3.14") | {".python-version": "cpython@3.13"},
            *("3.13", "3.13", "3.13", "Python 3.13 (.python-version, requires-python)"),
        ),
        ({".python-version": "pypy"}, "3.10", "3.29", "3.11", "Python 3.10 or newer (pytest 9)"),
    ],
)
def test_the_python_versions_that_will_do(
    files: Mapping[str, str], first: str, last: str, brought: str, wanted: str
) -> None:
    found = pythons(files, {"pytest 9": ">=3.10"}, (3, 11))
    assert (found.minors[0], found.minors[-1], found.brought, found.wanted) == (first, last, brought, wanted)


@pytest.mark.parametrize(
    ("requires", "problem"),
    [
        (">=3.8,<3.10", r"no Python is all .*<3\.10 \(requires-python\), >=3\.10 \(pytest 9\)"),
        ("3", "requires-python: "),
    ],
)
def test_a_python_that_cannot_be_is_one_line(requires: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        pythons(_requires(requires), {"pytest 9": ">=3.10"}, (3, 11))


def test_what_people_see_of_the_setup_is_what_is_done(tmp_path: Path) -> None:
    text = environment.setup(decide({"uv.lock": "", "pyproject.toml": PROJECT}), ANY)
    assert text.splitlines()[0] == "# environment: uv sync --frozen (uv.lock)"


def test_what_to_do_where_it_fails_names_what_ran_and_the_option() -> None:
    made = Workload("host", setup=environment.setup(decide({"uv.lock": "", "pyproject.toml": PROJECT}), ANY))
    assert verdict(made, 1, ["error: no such thing"]).remedy == (
        "mend what it needs, or say another command with --vast-setup; it is 'uv sync --frozen (uv.lock)'"
    )


def test_a_secret_in_the_users_command_is_known() -> None:
    known = Redactor()
    text = environment.setup(decide({}, "pip install --token abcdefgh1234 'it'"), ANY)
    known.add_workload(Workload("host", setup=text))
    assert "abcdefgh1234" not in known(text)


@pytest.mark.parametrize(
    ("files", "command", "changed", "depends"),
    [
        ({"uv.lock": "", "pyproject.toml": PROJECT}, "", "uv.lock", True),
        ({"uv.lock": "", "pyproject.toml": PROJECT}, "", "packages/one/pyproject.toml", True),
        ({"uv.lock": "", "pyproject.toml": PROJECT}, "", "tests/test_it.py", False),
        ({"uv.lock": "", "pyproject.toml": PROJECT}, "", "it/__init__.py", False),
        ({"uv.lock": "", "pyproject.toml": PROJECT}, "", "csrc/kernel.cu", True),
        ({"requirements.txt": ""}, "", "csrc/kernel.cu", False),  # nothing is compiled
        ({"requirements.txt": ""}, "", "requirements/base.txt", True),
        ({"requirements.txt": ""}, "", ".python-version", True),
        ({}, "bash ./scripts/env.sh && true", "scripts/env.sh", True),
        ({}, "bash ./scripts/env.sh && true", "scripts/other.sh", False),
        ({}, "make", "pyproject.toml", True),
    ],
)
def test_it_is_made_again_where_what_it_is_made_of_has_changed(
    files: Mapping[str, str], command: str, changed: str, depends: bool
) -> None:
    uses = environment.uses([*files, changed], decide(files, command))
    names = [f"project/{name}" for name in (*files, changed)]
    made = Workload("host", setup="it", setup_uses=uses)
    before = depends_on(made, dict.fromkeys(names, "old"))
    assert (depends_on(made, dict.fromkeys(names, "old") | {f"project/{changed}": "new"}) != before) == depends
    assert (
        depends_on(Workload("host", setup="it", setup_uses=uses, env=(("NAME", "value"),)), dict.fromkeys(names, "old"))
        != before
    )


def test_the_words_of_the_script_are_those_that_are_given() -> None:
    script = (Path(environment.__file__).with_name("there") / "environment.sh").read_text()
    used = set(re.findall(r"\$\{?([A-Z]+)\b", script)) - {"PWD", "PATH", "HOME"}
    given = {line.split()[1].partition("=")[0] for line in environment.setup(decide({}), ANY).splitlines()[1:-1]}
    assert used == given
    assert shlex.split(environment.setup(decide({}), ANY), comments=True)
