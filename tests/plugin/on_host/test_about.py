"""How the environment on a host differs from the one here."""

from __future__ import annotations

import json
import sys
from pathlib import PurePosixPath

import pytest

from pytest_vastgpu.plugin.on_host import about
from pytest_vastgpu.plugin.on_host.about import About
from pytest_vastgpu.plugin.on_host.about import Comparison
from pytest_vastgpu.plugin.on_host.about import Plugin
from pytest_vastgpu.plugin.on_host.about import differences
from pytest_vastgpu.plugin.on_host.about import for_workers
from pytest_vastgpu.plugin.on_host.about import refused

TIMEOUT = Plugin("timeout", "pytest-timeout", "2.4.0", {"--timeout": True, "--timeout-method": True})
HTML = Plugin("html", "pytest-html", "4.1.1", {"--html": True, "--self-contained-html": False})
XDIST = Plugin("xdist", "pytest-xdist", "3.8.0", {"-n": True, "--dist": True})
LOOPONFAIL = Plugin("xdist.looponfail", "pytest-xdist", "3.8.0", {"-f": False})
HERE = ("CPython", "3.11.7")


def there(version: str = "3.11.2", implementation: str = "CPython", **plugins: tuple[str, str]) -> About:
    return About("/env/bin/python", version, implementation, PurePosixPath("/work"), plugins)


@pytest.mark.parametrize(
    ("found", "active", "lines"),
    [
        (there(), [], []),
        (there("3.12.3"), [], ["tests run on Python 3.12.3 there, 3.11.7 here"]),
        (there("3.11.13", "PyPy"), [], ["tests run on Python PyPy 3.11.13 there, CPython 3.11.7 here"]),
        (there(timeout=("pytest_timeout", "2.1.0")), [TIMEOUT], []),
        (there(timeout=("pytest-timeout-fork", "2.1.0")), [TIMEOUT], []),
        (there(), [HTML, XDIST, LOOPONFAIL], []),
        (
            there("3.12.3"),
            [HTML, TIMEOUT, Plugin("timeout2", "pytest-timeout", "2.4.0")],
            [
                "tests run on Python 3.12.3 there, 3.11.7 here",
                f"pytest-timeout 2.4.0 is active here and missing there: {about.ADVICE}",
            ],
        ),
    ],
)
def test_what_differs_is_a_line_each(found: About, active: list[Plugin], lines: list[str]) -> None:
    assert differences(found, HERE, active) == lines


@pytest.mark.parametrize(
    ("arguments", "found", "unknown"),
    [
        (["--timeout=5", "tests"], there(), "--timeout=5"),
        (["--timeout", "5"], there(), "--timeout"),
        (["-k", "timeout"], there(), None),
        (["--timeout=5"], there(timeout=("pytest-timeout", "2")), None),
        (["--html=it.html"], there(), None),  # it never gets there
    ],
)
def test_arguments_that_would_be_refused_there_are_one_line(
    arguments: list[str], found: About, unknown: str | None
) -> None:
    said = refused(found, [TIMEOUT, HTML], arguments)
    if unknown is None:
        assert said == ""
    else:
        first = f"pytest there would not know {unknown}, since pytest-timeout is missing there: "
        assert said == first + about.ADVICE


@pytest.mark.parametrize(
    ("arguments", "addopts", "workers"),
    [
        (["-x", "tests"], ["-ra"], ["-x", "tests"]),
        (["--html=it.html", "--self-contained-html", "tests"], [], ["tests"]),
        (["--html", "it.html", "tests"], ["-ra"], ["tests"]),
        (["--timeout", "5"], [], ["--timeout", "5"]),
        (["tests"], ["-ra", "--html=a b.html", "-m", "not slow"], ["tests", "-o", "addopts=-ra -m 'not slow'"]),
    ],
)
def test_workers_do_not_get_what_has_its_effect_here(
    arguments: list[str], addopts: list[str], workers: list[str]
) -> None:
    assert for_workers(arguments, addopts, [HTML, TIMEOUT]) == workers


def test_what_is_active_here_is_seen_with_its_options(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = -ra\n")
    config = pytester.parseconfigure("-p", "xdist", "--dist=load", "tests")
    found = {plugin.name: plugin for plugin in about.active(config)}
    assert found["xdist"].package == "pytest-xdist"
    assert found["xdist"].options["--dist"]
    assert not found["xdist"].options["-d"]
    assert "platformdirs" not in found  # this package needs it here; it says nothing of the project
    assert {"--dist=load", "tests"} <= set(about.of_workers(config))


@pytest.mark.slow
def test_what_is_equal_on_several_hosts_is_told_once(pytester: pytest.Pytester) -> None:
    told: list[str] = []
    comparison = Comparison(pytester.parseconfigure())
    for name, found in (("host 1", there("3.9.1")), ("host 2", there("3.9.1")), ("host 3", there("3.8.2"))):
        comparison.tell(name, found, told.append)
    assert [line.partition(", ")[0] for line in told if "Python" in line] == [
        "vastgpu: host 1: tests run on Python 3.9.1 there",
        "vastgpu: host 3: tests run on Python 3.8.2 there",
    ]


@pytest.mark.slow
def test_arguments_that_would_be_refused_are_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(own="def pytest_addoption(parser):\n    parser.addoption('--own')\n")
    folder = pytester.mkdir("pytest_own-1.dist-info")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-own\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[pytest11]\nown = own\n")
    pytester.syspathinsert()
    config = pytester.parseconfigure("--own=1")
    told: list[str] = []
    with pytest.raises(pytest.UsageError, match=r"^vastgpu: host 2: pytest there would not know --own=1, "):
        Comparison(config).tell("host 2", there(f"{sys.version_info[0]}.{sys.version_info[1]}.0"), told.append)
    assert [line for line in told if "pytest-own 1 is active here" in line]


@pytest.mark.slow
def test_where_not_all_options_of_a_plugin_are_known_that_is_told(pytester: pytest.Pytester) -> None:
    class Odd:
        def pytest_addoption(self, parser: pytest.Parser) -> None:
            parser.addoption("--odd", action="store_true")
            parser.parse_known_args([])

    found, why = about._Options.of(Odd(), pytester.parseconfigure().pluginmanager)
    assert found == {"--odd": False}
    odd = Plugin("odd", "pytest-odd", "1", found, why)
    assert differences(there(odd=("pytest-odd", "1")), HERE, [odd]) == [
        "which options pytest-odd 1 has is not known "
        "(AttributeError: '_Options' object has no attribute 'parse_known_args')"
    ]


def test_what_a_host_says_is_read() -> None:
    said = {
        "python": "/p",
        "version": "3.12.3",
        "implementation": "CPython",
        "work": "/w",
        "plugins": {"a": ["b", "1"]},
    }
    assert About.parse(json.dumps(said)) == About("/p", "3.12.3", "CPython", PurePosixPath("/w"), {"a": ("b", "1")})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plugins": {"a": 1}}', '{"plugins": {}, "python": "x"}'])
def test_what_a_host_does_not_say_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the host does not say|^Expecting value"):
        About.parse(text)
