from __future__ import annotations

import re

import pytest

from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.plugin.options import with_values
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import Settings


def settle(
    given: dict[str, str] | None = None, environ: dict[str, str] | None = None, ini: dict[str, str] | None = None
) -> Settings:
    return resolve((given or {}).get, (ini or {}).get, environ or {})


def test_the_command_line_wins_over_the_environment_over_ini_over_the_default() -> None:
    ini = {"vast_max_price": "3"}
    environ = {"VAST_MAX_PRICE": "2"}
    given = {"vast_max_price": "0.5"}
    assert [
        (settings.max_price, settings.sources["max_price"])
        for settings in (settle(), settle(ini=ini), settle(ini=ini, environ=environ), settle(given, environ, ini))
    ] == [(1.0, "default"), (3.0, "ini"), (2.0, "VAST_MAX_PRICE"), (0.5, "command line")]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert settle(environ={"VAST_STRICTNESS": "", "VAST_API_KEY": ""}).sources["strictness"] == "default"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"vast_strictness": "blanced"},
            "--vast-strictness: 'blanced' is not one of strict, balanced, aggressive; did you mean balanced?",
        ),
        ({"vast_backend": "azure"}, "--vast-backend: 'azure' is not one of auto, vast, local"),
        ({"vast_max_price": "-1"}, "--vast-max-price: '-1' is not a number of USD/h above 0"),
        ({"vast_max_price": "cheap"}, "--vast-max-price: 'cheap' is not a number of USD/h above 0"),
        ({"vast_max_price": "nan"}, "--vast-max-price: 'nan' is not a number of USD/h above 0"),
        ({"vast_budget": "inf"}, "--vast-budget: 'inf' is not a number of USD above 0"),
        ({"vast_attempts": "0"}, "--vast-attempts: '0' is not a whole number of at least 1"),
        (
            {"vast_exclude_countries": "CN,Sweden"},
            "--vast-exclude-countries: 'CN,Sweden' is not two-letter country codes with commas between, or none; "
            "SWEDEN is not one; did you mean SE?",
        ),
        ({"vast_exclude_countries": "CN,UK"}, "--vast-exclude-countries: 'CN,UK' is not two-letter country codes"),
        ({"vast_keep": "sometimes"}, "--vast-keep: 'sometimes' is not no, failed or always"),
        (
            {"vast_keep": "faild:2h"},
            "--vast-keep: 'faild:2h' is not no, failed or always, the latter two with a duration if need be, such as "
            "failed:30m; did you mean failed?",
        ),
        ({"vast_keep": "failed:2d"}, "--vast-keep: 'failed:2d' is not no, failed or always"),
        ({"vast_max_instances": "0"}, "--vast-max-instances: '0' is not a whole number of at least 1, or none"),
        ({"vast_lease": "1"}, "--vast-lease: '1' is not a number of seconds of at least 5"),
        ({"vast_expose": "maybe"}, "--vast-expose: 'maybe' is not yes or no"),
        *(
            ({"vast_baseline": text}, f"--vast-baseline: {text!r} is not save, compare, save:NAME, compare:NAME, ")
            for text in ("", "sav", "save:", "save:a/b", "save:.x", "save,save:b", "compare;save", f"save:{'x' * 65}")
        ),
    ],
)
def test_a_bad_value_is_one_line_that_names_option_value_and_what_is_expected(
    given: dict[str, str], message: str
) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        settle(given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("no", ("no", 1800.0)),
        ("failed", ("failed", 1800.0)),
        ("failed:90", ("failed", 90.0)),
        ("always:1.5h", ("always", 5400.0)),
        ("always:10m", ("always", 600.0)),
    ],
)
def test_what_is_kept_and_for_how_long(text: str, kept: tuple[str, float]) -> None:
    keep = settle({"vast_keep": text}).keep
    assert (keep.when, keep.seconds) == kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [("no", "no"), ("failed", "failed:30m"), ("failed:90", "failed:90s"), ("always:120m", "always:2h")],
)
def test_a_duration_is_shown_as_people_write_it(text: str, shown: str) -> None:
    assert f"keep {shown} (command line)" in settle({"vast_keep": text}).header()


def test_instances_are_bounded_only_on_request() -> None:
    assert (settle().max_instances, settle({"vast_max_instances": "3"}).max_instances) == (None, 3)


def test_a_bad_value_is_blamed_on_where_it_stands() -> None:
    with pytest.raises(pytest.UsageError, match=r"^VAST_ATTEMPTS: 'x'"):
        settle(environ={"VAST_ATTEMPTS": "x"})
    with pytest.raises(pytest.UsageError, match=r"^vast_attempts: 'x'"):
        settle(ini={"vast_attempts": "x"})


def test_settings_never_change() -> None:
    with pytest.raises(AttributeError):
        settle().budget = 1e6


def test_every_default_is_what_its_own_words_mean() -> None:
    for option in OPTIONS:
        text = option.show(option.default).removesuffix(f" {option.unit}")
        if option.name != "host-cache":  # "in the user's cache" is no path
            (parsed, default) = (getattr(settle(given), option.field) for given in ({option.ini: text}, {}))
            assert str(parsed) == str(default)
            assert type(parsed) is type(default)


def test_countries() -> None:
    assert settle({"vast_exclude_countries": "cn, se"}).exclude_countries == {"CN", "SE"}
    assert settle({"vast_exclude_countries": "none"}).exclude_countries == frozenset()


@pytest.mark.parametrize(
    ("text", "baseline"),
    [
        ("none", ()),
        ("save", ("save:baseline",)),
        ("compare:v1.2-rc_3", ("compare:v1.2-rc_3",)),
        ("compare:main, save", ("compare:main", "save:baseline")),
    ],
)
def test_baselines(text: str, baseline: tuple[str, ...]) -> None:
    assert settle({"vast_baseline": text}).baseline == baseline


def test_auto_means_vast_where_there_is_a_key_and_says_why() -> None:
    local = settle()
    assert (local.backend, local.url) == ("local", "")
    assert "play money (VAST_API_KEY is not set), at most" in local.header()
    vast = settle(environ={"VAST_API_KEY": "k"})
    assert (vast.backend, vast.url) == ("vast", DEFAULT_URL)
    assert vast.header() == "renting from Vast.ai (VAST_API_KEY), at most 5 USD, balanced"
    assert settle({"vast_backend": "local"}, {"VAST_API_KEY": "k"}).backend == "local"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"VAST_API_KEY": ""}, "(VAST_API_KEY is empty, perhaps a secret that this job is not given), at most"),
        ({"VAST_API_KEY": " \n"}, "(VAST_API_KEY is empty, perhaps a secret"),
        (
            {"VAST_URL": "http://127.0.0.1:8099"},
            "(VAST_API_KEY is not set; VAST_URL=http://127.0.0.1:8099 is not used without it), at most",
        ),
        ({"VAST_URL": "http://h", "VAST_API_KEY": ""}, "not given; VAST_URL=http://h is not used without it"),
    ],
)
def test_a_key_that_is_empty_and_a_market_without_a_key_are_told_in_one_line(
    environ: dict[str, str], words: str
) -> None:
    settings = settle(environ=environ)
    assert settings.backend == "local"
    assert words in settings.header()
    with pytest.raises(pytest.UsageError, match="asks for backend vast, but VAST_API_KEY is "):
        settle({"vast_backend": "vast"}, environ)
    assert "play money (command line), at most" in settle({"vast_backend": "local"}, environ).header()


def test_the_vendors_own_variable_moves_the_market() -> None:
    settings = settle(environ={"VAST_API_KEY": "k", "VAST_URL": "http://127.0.0.1:8099/"})
    assert settings.url == "http://127.0.0.1:8099"
    assert "http://127.0.0.1:8099 (VAST_URL, VAST_API_KEY), at most" in settings.header()


def test_vast_without_a_key_names_both_ways_out() -> None:
    with pytest.raises(pytest.UsageError, match=r"VAST_API_KEY is not set.*--vast-backend=local"):
        settle({"vast_backend": "vast"})


HEADERS = [
    ({}, {}, {}, "renting from Vast.ai (VAST_API_KEY), at most 5 USD, balanced"),
    (
        {"vast_budget": "2"},
        {"VAST_STRICTNESS": "strict"},
        {},
        "renting from Vast.ai (VAST_API_KEY), at most 2 USD (command line), strict (VAST_STRICTNESS)",
    ),
    (
        {"vast_attempts": "3", "vast_backend": "vast"},
        {},
        {"vast_max_price": "2", "vast_budget": "5"},
        "renting from Vast.ai (command line), at most 5 USD (ini), balanced; "
        "max-price 2 USD/h (ini), attempts 3 (command line)",
    ),
]


@pytest.mark.parametrize(("given", "environ", "ini", "line"), HEADERS)
def test_the_header_is_one_line_with_what_differs_from_the_defaults(
    given: dict[str, str], environ: dict[str, str], ini: dict[str, str], line: str
) -> None:
    assert settle(given, {"VAST_API_KEY": "s3cret", **environ}, ini).header() == line


def test_the_whole_list_has_every_value_with_its_source_and_no_secret() -> None:
    lines = settle({"vast_budget": "2"}, {"VAST_API_KEY": "s3cret"}, {"vast_attempts": "1"}).every_value()
    assert "budget 2 USD (command line)" in lines
    assert "attempts 1 (ini)" in lines
    whole = "\n".join(lines)
    assert re.search(r"^strictness balanced, backend vast, max-price 1 USD/h, .* \(default\)$", whole, re.MULTILINE)
    for option in OPTIONS:
        assert option.name in whole
    assert "s3cret" not in whole


REUSED_FOR = [
    ({"vast_reuse": "90s"}, {}, {}, (90.0, "command line")),
    ({}, {"VAST_REUSE": "1h30m"}, {}, (5400.0, "VAST_REUSE")),
    ({}, {}, {"vast_reuse": "20m"}, (1200.0, "ini")),
    ({"vast_reuse": "no"}, {"VAST_REUSE": "1h"}, {}, (0.0, "command line")),
    ({}, {}, {}, (0.0, "default")),
    ({}, {"CI": "true"}, {}, (0.0, "default")),
    ({}, {"VAST_REUSE": "1h", "CI": "true"}, {}, (0.0, "CI is set")),
    ({}, {"CI": "true"}, {"vast_reuse": "20m"}, (0.0, "CI is set")),
    ({"vast_reuse": "1h"}, {"CI": "true"}, {}, (3600.0, "command line")),
]


@pytest.mark.parametrize(("given", "environ", "ini", "reused"), REUSED_FOR)
def test_instances_stay_warm_on_request_and_on_ci_only_if_its_command_line_says_so(
    given: dict[str, str], environ: dict[str, str], ini: dict[str, str], reused: tuple[float, str]
) -> None:
    settings = settle(given, environ, ini)
    assert (settings.reuse, settings.sources["reuse"]) == reused


@pytest.mark.parametrize("text", ["", "20", "-1m", "yes", "tests"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(pytest.UsageError, match=r"^--vast-reuse: '.*' is not no, or a duration such as 20m, 90s or "):
        settle({"vast_reuse": text})


def test_what_is_kept_for_a_look_inside_is_not_kept_for_the_next_run() -> None:
    with pytest.raises(pytest.UsageError, match=r"^--vast-reuse and --vast-keep \(ini\) exclude each other: "):
        settle(ini={"vast_reuse": "20m", "vast_keep": "failed"})


@pytest.mark.parametrize(
    ("given", "environ", "ini", "reuse", "keep"),
    [
        ({"vast_keep": "failed"}, {}, {"vast_reuse": "20m"}, 0.0, "failed"),
        ({"vast_keep": "failed"}, {"VAST_REUSE": "20m"}, {}, 0.0, "failed"),
        ({}, {"VAST_KEEP": "always"}, {"vast_reuse": "20m"}, 0.0, "always"),
        ({"vast_reuse": "20m"}, {"VAST_KEEP": "always"}, {}, 1200.0, "no"),
        ({"vast_reuse": "20m"}, {"VAST_KEEP": "no"}, {}, 1200.0, "no"),
    ],
)
def test_of_both_the_one_nearer_to_the_command_line_wins(
    given: dict[str, str], environ: dict[str, str], ini: dict[str, str], reuse: float, keep: str
) -> None:
    settings = settle(given, environ, ini)
    assert (settings.reuse, settings.keep.when) == (reuse, keep)


@pytest.mark.parametrize(
    ("args", "whole"),
    [
        (["--vast-reuse", "tests"], ["--vast-reuse=20m", "tests"]),
        (["tests", "--vast-reuse"], ["tests", "--vast-reuse=20m"]),
        (["--vast-reuse", "-x"], ["--vast-reuse=20m", "-x"]),
        (["--vast-reuse", "1h", "tests"], ["--vast-reuse", "1h", "tests"]),
        (["--vast-reuse=5m", "tests"], ["--vast-reuse=5m", "tests"]),
        (["tests", "-x"], ["tests", "-x"]),
    ],
)
def test_a_path_after_an_option_that_may_stand_alone_is_not_its_value(args: list[str], whole: list[str]) -> None:
    assert with_values(args) == whole


def test_a_conftest_file_of_a_path_after_it_is_loaded_first(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("below")
    folder.joinpath("conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--mine', action='store_true')\n"
    )
    folder.joinpath("test_it.py").write_text("def test_it(pytestconfig):\n    assert pytestconfig.option.mine\n")
    pytester.runpytest_inprocess("--mine", "--vast-reuse", "below").assert_outcomes(passed=1)


def test_an_option_that_stands_alone_lets_in_no_conftest_file_above_the_root(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pytester.mkdir("root")
    pytester.makeconftest("raise RuntimeError")
    root.joinpath("pytest.ini").write_text("[pytest]")
    root.joinpath("below").mkdir()
    root.joinpath("below", "test_one.py").write_text("def test_it(): pass")
    monkeypatch.chdir(root)
    pytester.runpytest_inprocess("--vast-reuse", "below").assert_outcomes(passed=1)
