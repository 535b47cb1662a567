"""What is made of what is installed and set: tables, without looking at anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu.cli.doctor import packages
from pytest_vastgpu.cli.doctor import surroundings
from pytest_vastgpu.cli.doctor.finding import Level
from pytest_vastgpu.cli.doctor.packages import Requirement
from pytest_vastgpu.core.text.redaction import KNOWN
from tests.cli.doctor.words import said

# --- what is installed ------------------------------------------------------------------------------------------------

DECLARED = [Requirement("pytest", "8.4"), Requirement("httpx", "0.27"), Requirement("uvicorn", "0.34", "local")]
ALL = {"pytest-vastgpu": "0.1.0", "pytest": "9.2.0", "httpx": "0.28.1", "uvicorn": "0.34"}


@pytest.mark.parametrize(
    ("version", "least", "is_older"),
    [
        ("1.0", "1", False),
        ("1", "1.0.0", False),
        ("0.9.9", "1.0", True),
        ("10.0", "9.1", False),
        ("6.0.4rc1", "6.0.4", False),
        ("2!1.0", "1.5", True),
        ("", "0.1", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, least: str, is_older: bool) -> None:
    assert packages.older(version, least) == is_older


def test_requirements_of_another_form_are_no_silent_ones() -> None:
    assert packages.requirements(["a.b>=1.0", "c>=2; extra == 'local'"]) == [
        Requirement("a.b", "1.0"),
        Requirement("c", "2", "local"),
    ]
    with pytest.raises(ValueError, match="is not understood"):
        packages.requirements(["a~=1.0"])


def test_needed_packages() -> None:
    (good,) = packages.judge_needed(DECLARED, ALL)
    assert good.level == "ok"
    assert "pytest-vastgpu 0.1.0, pytest 9.2.0, Python 3." in good.text
    (bad,) = packages.judge_needed(DECLARED, {**ALL, "httpx": "0.26"} | {"pytest": "8.3.5"})
    assert bad.level == "problem"
    assert bad.text == "pytest 8.3.5 is older than 8.4; httpx 0.26 is older than 0.27"
    assert bad.command.endswith("-m pip install 'pytest>=8.4' 'httpx>=0.27'")
    (missing,) = packages.judge_needed(DECLARED, {"pytest": "9.2.0"})
    assert missing.text == "httpx is not installed"


@pytest.mark.parametrize(("used", "level"), [(True, "problem"), (False, "warning")])
def test_a_missing_local_market_is_a_problem_only_where_it_is_used(used: bool, level: str) -> None:
    (finding,) = packages.judge_local(DECLARED, {"pytest": "9"}, used=used)
    assert finding.level == level
    assert finding.text.startswith("uvicorn is not installed: there is no local market")
    assert finding.command.endswith("-m pip install 'pytest-vastgpu[local]'")
    (there,) = packages.judge_local(DECLARED, ALL, used=used)
    assert there.level == "ok"


def test_every_extra_that_is_complete_is_told() -> None:
    declared = [*DECLARED, Requirement("jinja2", "3.1.5", "report"), Requirement("shtab", "1.13", "completion")]
    (there,) = packages.judge_local(declared, {**ALL, "jinja2": "3.1.6"}, used=True)
    assert there.text == "installed: local, report"


@pytest.mark.parametrize(
    ("versions", "count"),
    [
        ({"pytest": "9.2.0", "pytest-forked": "1.7.5"}, 1),
        ({"pytest": "9.1", "pytest-forked": "1.7.5"}, 0),
        ({"pytest": "9.2.0"}, 0),
    ],
)
def test_other_plugins(versions: dict[str, str], count: int) -> None:
    found = packages.judge_limits(versions)
    assert len(found) == count
    assert all(each.level == "warning" and "--forked" in each.remedy for each in found)


def test_limits_are_those_of_the_page_about_other_plugins() -> None:
    page = (Path(__file__).parents[3] / "docs/other-plugins.md").read_text()
    assert [
        limit for limit in packages.LIMITS if limit.plugin not in page or f"pytest {limit.pytest}" not in page
    ] == []


# --- surroundings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "socks", "levels", "words"),
    [
        ({}, False, ["ok"], ["none"]),
        ({"HTTPS_PROXY": "http://p:3128"}, False, ["ok"], ["HTTPS_PROXY=http://p:3128", "SSH goes past"]),
        ({"HTTP_PROXY": "http://p:3128"}, False, ["warning"], ["export NO_PROXY=localhost,127.0.0.1"]),
        ({"http_proxy": "p:3128", "no_proxy": "x, 127.0.0.1"}, False, ["ok"], ["HTTP_PROXY=p:3128"]),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, False, ["ok"], []),
        ({"ALL_PROXY": "socks5://p:1080", "NO_PROXY": "*"}, True, ["ok"], []),
        ({"ALL_PROXY": "socks5://p:1080"}, False, ["problem", "warning"], ["pip install 'httpx[socks]'"]),
        ({"HTTPS_PROXY": "ftp://p"}, False, ["problem"], ["unset HTTPS_PROXY"]),
        ({"HTTPS_PROXY": "http://p:port"}, False, ["problem"], ["something that is no URL"]),
    ],
)
def test_proxies(environ: dict[str, str], socks: bool, levels: list[Level], words: list[str]) -> None:
    found = surroundings.judge_proxies(surroundings.proxies(environ), socks=socks)
    assert [each.level for each in found] == levels
    text = " ".join(map(said, found))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    "proxy",
    ["http://user:s3cr3t%21x@p.example:3128", "user:s3cr3t%21x@p.example:3128", "http://s3cr3t%21x@p.example:1"],
)
def test_the_login_of_a_proxy_is_not_shown(proxy: str) -> None:
    found = surroundings.judge_proxies({"http": proxy}, socks=False)
    assert "p.example" in " ".join(map(said, found))
    assert "s3cr3t" not in " ".join(map(said, found))
    surroundings.know(proxy)
    for shown in (proxy, "the password s3cr3t!x", "the password s3cr3t%21x"):
        assert "s3cr3t" not in KNOWN(shown), "nor in what a library says of it"


@pytest.mark.parametrize(
    ("environ", "levels", "words"),
    [
        ({}, ["ok"], ["none of VAST_* is set"]),
        ({"VAST_API_KEY": "k", "VAST_BUDGET": "2", "CI": "true"}, ["ok"], ["VAST_API_KEY, VAST_BUDGET", "in CI (CI)"]),
        ({"VAST_APIKEY": "k"}, ["warning"], ["VAST_APIKEY is none", "did you mean VAST_API_KEY?", "unset VAST_APIKEY"]),
        ({"VAST_BUDGT": "2"}, ["warning"], ["did you mean VAST_BUDGET?"]),
        ({"VAST_BUDGET": "two"}, ["problem"], ["VAST_BUDGET: 'two' is not a number"]),
        ({"VAST_BACKEND": "locl"}, ["problem"], ["VAST_BACKEND: 'locl'"]),
        ({"VAST_STRICTNESS": "", "VAST_TCP_PORT_22": "1"}, ["ok"], []),
    ],
)
def test_variables(environ: dict[str, str], levels: list[Level], words: list[str]) -> None:
    found = surroundings.judge_variables(environ)
    assert [each.level for each in found] == levels
    text = " ".join(map(said, found))
    assert [word for word in words if word not in text] == []


def test_the_value_of_an_unknown_variable_is_not_shown() -> None:
    assert "hush" not in " ".join(map(said, surroundings.judge_variables({"VAST_KEY": "hush-hush"})))


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, None),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, "warning"),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p vastgpu"}, None),
        ({"PYTEST_ADDOPTS": "-p no:vastgpu -q"}, "problem"),
        ({"PYTEST_ADDOPTS": "-n 4"}, None),
    ],
)
def test_whether_pytest_loads_the_plugin(environ: dict[str, str], level: str | None) -> None:
    assert [each.level for each in surroundings.judge_pytest(environ)] == ([level] if level else [])
