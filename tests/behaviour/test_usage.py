"""What a user who gets something wrong sees: one line, exit code 4, and nothing rented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_directories import NOBODY
from tests.core.test_directories import as_root
from tests.core.test_directories import somebody_elses

TEST = """
import pytest
from pytest_vastgpu import command

@pytest.mark.vast(command("true", gpus=0){more})
def test_it(vast_instance):
    pass
"""


def check(result: pytest.RunResult, *lines: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines + result.outlines if line.startswith("ERROR")]
    assert len(errors) == 1, result.errlines
    for line in lines:
        assert line in errors[0]
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--vast-strictness=blanced"], "--vast-strictness: 'blanced' is not one of strict, balanced, aggressive"),
        (["--vast-max-price=-1"], "--vast-max-price: '-1' is not a number of USD/h above 0"),
        (["--vast-backend=vast"], "VAST_API_KEY is not set"),
        (["-n2", "--vast-attempts=0"], "--vast-attempts: '0' is not a whole number"),
    ],
)
def test_a_bad_option_stops_before_anything(pytester: pytest.Pytester, arguments: list[str], line: str) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    check(pytester.runpytest_inprocess(*arguments), line)


def test_a_bad_ini_value_is_told_by_its_key(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvast_max_price = cheap")
    pytester.makepyfile("def test_nothing(): pass")
    check(pytester.runpytest_inprocess(), "vast_max_price: 'cheap' is not a number of USD/h above 0")


@pytest.mark.parametrize(
    ("more", "line", "arguments"),
    [
        (
            ", gpu_ram=20",
            "marker vast: got an unexpected keyword argument 'gpu_ram'; it has gpu_ram_gb, gpu_name, gpus, ",
            [],
        ),
        pytest.param(
            ", gpu_ram=20",
            "test_it.py::test_it: marker vast: got an unexpected keyword argument 'gpu_ram'",
            ["-n2"],
            marks=pytest.mark.slow,
        ),
        (", gpus=-1", "marker vast: gpus=-1 is below 0", []),
        (", gpu_name=4090", "marker vast: gpu_name=4090 is not text", []),
    ],
)
def test_a_wrong_marker_is_a_usage_error(pytester: pytest.Pytester, more: str, line: str, arguments: list[str]) -> None:
    pytester.makepyfile(test_it=TEST.format(more=more))
    check(pytester.runpytest_inprocess(*arguments), line)


def test_a_marker_whose_workload_is_none_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.vast('org/model')\ndef test_it(vast_instance): pass")
    check(pytester.runpytest_inprocess(), "its first argument is a Workload", "not 'org/model'")


@pytest.mark.slow  # one that is missing stands for it, and tests/ssh/test_keys.py has all kinds of keys
@pytest.mark.parametrize("distributed", [False, True], ids=["alone", "xdist"])
def test_an_ssh_key_that_cannot_be_used_is_a_usage_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, distributed: bool
) -> None:
    key = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True, stdin=subprocess.DEVNULL
    )
    monkeypatch.setenv("VAST_SSH_KEY_PATH", str(key))
    pytester.makepyfile(test_it=TEST.format(more=""))
    check(pytester.runpytest_inprocess(*(["-n2"] if distributed else [])), str(key), "passphrase")


@pytest.mark.slow
def test_a_missing_ssh_key_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_SSH_KEY_PATH", "/nowhere/key")
    pytester.makepyfile(test_it=TEST.format(more=""))
    check(pytester.runpytest_inprocess(), "/nowhere/key")


@pytest.mark.parametrize("distributed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_an_unreachable_api_is_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, distributed: bool
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")  # nothing listens on the discard port
    pytester.makepyfile(test_it=TEST.format(more=""))
    check(pytester.runpytest_inprocess(*(["-n2"] if distributed else [])), "127.0.0.1:9", "refused")


def slow(*values: str) -> Any:
    """A case for the slow suite."""
    return pytest.param(*values, marks=pytest.mark.slow)


WITHIN = 'mount -t tmpfs {} tmpfs $0 && {} exec "$@"'
READ_ONLY = WITHIN.format("-o ro", "")
FULL = WITHIN.format("-o size=16k", "dd if=/dev/zero of=$0/filler 2> /dev/null;")


@pytest.mark.parametrize(
    ("what", "variable", "remedy"),
    [
        slow("host cache", "XDG_CACHE_HOME", "--vast-host-cache"),
        slow("host cache", "VAST_HOST_CACHE", "--vast-host-cache"),
        ("ledger", "XDG_STATE_HOME", "set XDG_STATE_HOME to a directory"),
    ],
)
@pytest.mark.parametrize("how", [slow("read-only"), "full", slow("a file"), slow("nowhere")])
def test_a_place_that_cannot_be_written_is_told_before_the_market_is_asked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, what: str, variable: str, remedy: str, how: str
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")  # nothing listens on the discard port
    place = Path("/proc/nowhere") if how == "nowhere" else pytester.path / "place"
    monkeypatch.setenv(variable, str(place / "hosts.yaml" if variable == "VAST_HOST_CACHE" else place))
    pytester.makepyfile(test_it=TEST.format(more=""))
    if how == "a file":
        place.write_text("")
    elif how != "nowhere":
        place.mkdir()
        within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL if how == "full" else READ_ONLY]
        if subprocess.run([*within, place, "true"], check=False, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        check(pytester.run(*within, place, sys.executable, "-m", "pytest"), what, str(place), remedy)
        return
    check(pytester.runpytest_inprocess(), what, str(place), remedy)


@as_root
@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        slow("XDG_CACHE_HOME", "name a file with --vast-host-cache"),
        ("XDG_STATE_HOME", "set XDG_STATE_HOME to a directory"),
    ],
)
def test_somebody_elses_directory_is_not_used(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, str(pytester.path / "shared"))
    (pytester.path / "shared").mkdir()
    somebody_elses(pytester.path / "shared" / "pytest-vastgpu")
    pytester.makepyfile(test_it=TEST.format(more=""))
    check(pytester.runpytest_inprocess(), str(pytester.path / "shared"), f"belongs to user {NOBODY}", remedy)
    assert list((pytester.path / "shared" / "pytest-vastgpu").iterdir()) == []


def test_a_market_url_that_is_none_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "console.vast.ai")
    pytester.makepyfile(test_it=TEST.format(more=""))
    check(pytester.runpytest_inprocess(), "VAST_URL: 'console.vast.ai' is not the URL of a market")


def test_a_misspelt_hook_is_told_by_pytest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_vastgpu_adapter(): return []")
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret != pytest.ExitCode.OK
    assert "unknown hook 'pytest_vastgpu_adapter'" in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize("option", ["-v", pytest.param("-q", marks=pytest.mark.slow)])
def test_nothing_is_said_where_nothing_is_rented(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess(option, "--vast-budget=3")
    result.assert_outcomes(passed=1)
    assert not [line for line in result.outlines if line.startswith("vastgpu")]


def test_collect_only_rents_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    pytester.makepyfile(test_it=TEST.format(more=""))
    assert pytester.runpytest_inprocess("--collect-only").ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "more",
    [
        [],
        *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in (["-n2"], ["-pno:terminal"], ["-pno:xdist"], ["-pno:cacheprovider"])
        ),
    ],
)
def test_a_run_that_rents_nothing_imports_nothing_heavy(pytester: pytest.Pytester, more: list[str]) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            heavy = {"httpx", "paramiko", "yaml", "filelock", "asyncssh", "starlette", "pytest_vastgpu.model"}
            assert not heavy & set(sys.modules)
        """
    )
    assert pytester.runpytest_subprocess(*more).ret == pytest.ExitCode.OK


def test_public_names_are_loaded_when_used() -> None:
    script = """
import sys
import pytest_vastgpu
assert not {"httpx", "paramiko", "yaml"} & set(sys.modules)
for name in pytest_vastgpu.__all__:
    getattr(pytest_vastgpu, name)
assert sorted(pytest_vastgpu._HOMES) == sorted(pytest_vastgpu.__all__)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hook",
    [
        "pytest_vastgpu_modify_offers(offers, workload): pass",
        *(
            pytest.param(hook, marks=pytest.mark.slow)
            for hook in ("pytest_vastgpu_adapters(): return []", "pytest_vastgpu_outcome(attempt, workload): pass")
        ),
    ],
)
def test_a_hook_that_only_workers_see_is_a_usage_error(pytester: pytest.Pytester, hook: str) -> None:
    """With workers it is the controller in which hooks are called."""
    folder = pytester.mkpydir("sub")
    folder.joinpath("conftest.py").write_text(f"def {hook}\n")
    folder.joinpath("test_it.py").write_text(TEST.format(more=""))
    check(
        pytester.runpytest_subprocess("-n2"),
        f"{folder / 'conftest.py'} implements {hook.partition('(')[0]}, which would never be called",
        "move it to one of these",
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["-n2", "sub"], []], ids=["named", "alone"])
def test_a_hook_that_can_be_called_is_none(pytester: pytest.Pytester, arguments: list[str]) -> None:
    folder = pytester.mkpydir("sub")
    folder.joinpath("conftest.py").write_text(
        "def pytest_vastgpu_modify_offers(offers, workload):\n    raise RuntimeError('it was called')\n"
    )
    folder.joinpath("test_it.py").write_text(TEST.format(more=""))
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pytest_vastgpu_modify_offers raised RuntimeError: it was called*"])
