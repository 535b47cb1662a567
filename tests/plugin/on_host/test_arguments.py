"""Paths, arguments and variables, as a worker on a host gets them."""

from __future__ import annotations

import sys
from pathlib import Path
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host import arguments
from pytest_vastgpu.plugin.on_host import variables
from pytest_vastgpu.plugin.on_host.import_path import project_directories
from pytest_vastgpu.plugin.on_host.places import Places

THERE = PurePosixPath("/root/.vastgpu/work/project")
PLACES = Places(Path("/home/me/proj"), THERE)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/home/me/proj", f"{THERE}"),
        ("/home/me/proj/tests", f"{THERE}/tests"),
        ("/home/me/proj/tests/test_it.py::test_it[a/b c]", f"{THERE}/tests/test_it.py::test_it[a/b c]"),
        ("tests/test_it.py::test_it[/home/me/proj/data]", f"tests/test_it.py::test_it[{THERE}/data]"),
        ("--ignore=/home/me/proj/slow", f"--ignore={THERE}/slow"),
        ("-c/home/me/proj/ci.ini", f"-c{THERE}/ci.ini"),
        ("-opythonpath=/home/me/proj/a /home/me/proj/b", f"-opythonpath={THERE}/a {THERE}/b"),
        ("/home/me/project", "/home/me/project"),
        ("/home/me/proj-2/tests", "/home/me/proj-2/tests"),
        ("/home/me/proj.old", "/home/me/proj.old"),
        ("/else/home/me/proj", "/else/home/me/proj"),
        ("-k", "-k"),
        ("tests", "tests"),
    ],
)
def test_a_path_of_the_project_is_the_one_on_the_host(here: str, there: str) -> None:
    assert arguments.on_host([here], Path("/home/me/proj/tests"), PLACES) == [there]


@given(st.text(alphabet="/abproj.-=[: ", max_size=12), st.text(alphabet="/abproj.-=[: ", max_size=12))
def test_what_is_carried_over_is_carried_back(before: str, after: str) -> None:
    text = f"{before}/home/me/proj{after}"
    there = PLACES.on_host(text)
    assert there == text or PLACES.here(there) == text


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("proj/tests/test_it.py::test_it[../x]", f"{THERE}/tests/test_it.py::test_it[../x]"),
        ("proj", f"{THERE}"),
        ("--ignore=proj/slow", f"--ignore={THERE}/slow"),
        ("/home/me/proj/tests", f"{THERE}/tests"),
        ("../me/proj/tests", f"{THERE}/tests"),
        ("-k", "-k"),
        ("tests and not slow", "tests and not slow"),
    ],
)
def test_from_outside_of_the_project_relative_paths_are_carried_over_too(here: str, there: str) -> None:
    assert arguments.on_host([here], Path("/home/me"), PLACES) == [there]


def test_a_link_that_leads_to_the_root_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    places = Places(tmp_path / "link", THERE)
    given = [f"{tmp_path}/link/a", f"{tmp_path}/real/b"]
    assert arguments.on_host(given, tmp_path / "real", places) == [f"{THERE}/a", f"{THERE}/b"]
    assert places.path_on_host(tmp_path / "real/tests") == THERE / "tests"


@pytest.fixture
def config(pytester: pytest.Pytester) -> pytest.Config:
    """Of a run in a subdirectory, with arguments."""
    pytester.makeini("[pytest]")
    pytester.mkdir("sub")
    return pytester.parseconfig("--rootdir", str(pytester.path), "-q", "sub")


def test_root_and_configuration_file_are_those_that_were_found(config: pytest.Config) -> None:
    found = arguments.of_run(config, Places(config.rootpath, THERE))
    assert found[-4:] == [
        f"--rootdir={THERE}",
        f"--config-file={THERE}/tox.ini",
        "-o",
        f"cache_dir={THERE.parent}/cache",
    ]
    assert {"-q", "sub"} <= {*found[:-4]}


def test_without_a_cache_nothing_is_said_of_it(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig("-p", "no:cacheprovider")
    assert "-o" not in arguments.of_run(config, Places(config.rootpath, THERE))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            ["--rootdir=root", "root/test_a.py", "root/../other/test_o.py::test_it"],
            "*::test_it is not brought *",
        ),
        (["--rootdir=root"], "* is not brought to the hosts, because it lies outside of the root directory */root: *"),
        (
            ["--rootdir=root", "-c", "other/o.ini", "root"],
            "*/other/o.ini is not brought to the hosts, *",
        ),
    ],
)
def test_what_cannot_be_brought_is_a_usage_error(pytester: pytest.Pytester, given: list[str], line: str) -> None:
    for name in ("root/test_a.py", "other/test_o.py", "other/o.ini"):
        pytester.path.joinpath(name).parent.mkdir(exist_ok=True)
        pytester.path.joinpath(name).write_text("[pytest]" if name.endswith("ini") else "def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--vast-hosts=1", *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [told] = [each for each in result.stderr.lines if each]
    result.stderr.fnmatch_lines([f"ERROR: --vast-hosts: {line}"])
    assert told.endswith(f": say --rootdir={pytester.path}")


def test_what_can_be_brought_is_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    given = ["test_it.py", f"{pytester.path}/test_it.py::test_it", ".", "-k", "another"]
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--vast-hosts=1", *given)
    result.stdout.fnmatch_lines(["vastgpu: no test is selected, so nothing is rented"])


def test_variables_of_pytest_come_along_and_no_others() -> None:
    environ = {
        "PYTEST_ADDOPTS": "--ignore=/home/me/proj/a -k 'a b'",
        "PYTEST_OWN": "/home/me/proj/x",
        "CI": "1",
        "PYTEST_CURRENT_TEST": "test_it",
        "PYTEST_XDIST_WORKER": "gw1",
        "PYTEST_DEBUG_TEMPROOT": "/tmp",
        "HOME": "/home/me",
        "VAST_API_KEY": "secret",
    }
    assert variables.carried(environ, PLACES) == {
        "PYTEST_ADDOPTS": f"--ignore={THERE}/a -k 'a b'",
        "PYTEST_OWN": f"{THERE}/x",
        "CI": "1",
    }


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("NOT_SET", "--vast-pass-env: NOT_SET is not set here: set it, or leave it out"),
        ("A=b", "--vast-pass-env: 'A=b' is no name for an environment variable: say the name alone"),
    ],
)
def test_a_variable_that_cannot_be_passed_is_named(name: str, line: str) -> None:
    with pytest.raises(ConfigurationError, match=line):
        variables.passed([name], {"A": "b"})


def test_a_variable_may_be_empty() -> None:
    assert variables.passed(["A", "B"], {"A": "b", "B": "", "C": "d"}) == {"A": "b", "B": ""}


@pytest.mark.slow
def test_a_variable_that_is_not_set_is_told_before_anything_is_rented(pytester: pytest.Pytester) -> None:
    pytester.mkdir("root").joinpath("test_it.py").write_text("def test_it(): pass")  # the home itself is not brought
    result = pytester.runpytest_inprocess("--vast-hosts=1", "--vast-pass-env=NOT_SET_AT_ALL", "--rootdir=root", "root")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *--vast-pass-env: NOT_SET_AT_ALL is not set here: *"])
    result.stdout.no_fnmatch_line("*renting*")


def test_directories_of_the_project_keep_their_place_in_the_import_path(tmp_path: Path) -> None:
    (tmp_path / "env/lib").mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").touch()
    base = Path(sys.base_prefix)
    path = [
        *(str(tmp_path), "/elsewhere", f"{tmp_path}/src"),
        *(f"{base}/lib/python3", f"{base}/lib/python3/lib-dynload"),
        *(f"{tmp_path}/env/lib", f"{tmp_path}/.venv/lib/site-packages", f"{tmp_path}/editable"),
    ]
    there = PurePosixPath("/there")
    assert project_directories(path, Places(tmp_path, there)) == (["/there", "/there/src"], ["/there/editable"])


def test_a_python_in_the_root_itself_hides_nothing_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    places = Places(tmp_path, PurePosixPath("/there"))
    assert project_directories([f"{tmp_path}/src"], places) == (["/there/src"], [])
