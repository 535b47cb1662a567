"""What a host, a server and a market say, in everything that a run shows or leaves behind."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import AGGRESSIVE
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet

TOKEN = "v3ry-s3cr3t/t0k3n"
WITH_TOKEN = WORKLOAD.replace("gpus=1", f"gpus=1, env={{'HF_TOKEN': {TOKEN!r}}}")
SERVE = "exec(open('really.py').read())"
TALKATIVE = """
import base64, os, sys
token, key = os.environ['HF_TOKEN'], os.environ['VASTGPU_API_KEY']
print('my token is', token, 'and my key', key, flush=True)
print('as a header:', base64.b64encode(f'user:{token}'.encode()).decode(), flush=True)
print('container:', [line for line in open('/proc/1/environ').read().split(chr(0)) if 'API_KEY' in line], flush=True)
"""
NASTY = r"""
print('::error::pwned\n  ::add-mask::x\r::set-output name=a::b\n##[error]pwned\n##vso[task.complete]', flush=True)
print('\x1b[31mred\x1b[0m nul\0 \x9b2J \u202eright to left', flush=True)
print('x' * 600_000, flush=True)
"""
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
COMMANDS = re.compile(r"^\s*::(?!\S*\.py)|##(vso)?\[", re.MULTILINE)


def left_behind(pytester: pytest.Pytester, home: Path) -> dict[str, str]:
    """Every file that a run has written, but for a key that was made to log in with."""
    places = [pytester.path / "vast-artifacts", home / ".local", home / ".cache", pytester.path / "junit.xml"]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    return {str(path): path.read_bytes().decode(errors="replace") for path in files if path.is_file()}


def assert_no_secret(texts: dict[str, str]) -> None:
    secrets = [TOKEN, os.environ["VAST_API_KEY"], base64.b64encode(f"user:{TOKEN}".encode()).decode()]
    for name, text in texts.items():
        assert [secret for secret in secrets if secret in text] == [], name
        assert not re.search(r"\b[0-9a-f]{64}\b", text), name


@pytest.mark.parametrize("end", ["sys.exit('RuntimeError: ' + token)", pytest.param(SERVE, marks=pytest.mark.slow)])
def test_no_secret_is_shown_or_left_behind(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, end: str
) -> None:
    rent_from(fleet())
    server = pytester.path.joinpath("server.py").read_text()
    pytester.path.joinpath("really.py").write_text(server)
    pytester.path.joinpath("server.py").write_text(f"{TALKATIVE}{end}\n")
    files = "files={'server.py': 'server.py', 'really.py': 'really.py'}"
    pytester.makepyfile(
        WITH_TOKEN.replace('files={"server.py": "server.py"}', files)
        + """
import os
def test_it(vast_instance, vast_workload):
    key, headers, env = os.environ["VAST_API_KEY"], vast_instance.headers, dict(vast_workload.env)
    print("printed", env, headers, key)
    assert vast_instance.logs() == f"{key} {headers} {env}"
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-l", "-vv", "--full-trace", "--junitxml=junit.xml")
    assert result.ret == 1
    if end == SERVE:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*vastgpu server log (since the test got the instance)*"])
        [log] = pytester.path.glob("vast-artifacts/*/1/server.log")
        assert "my token is <HF_TOKEN> and my key <instance key>" in log.read_text()
    else:
        result.stdout.fnmatch_lines(["*| my token is <HF_TOKEN> and my key <instance key>"])
    assert_no_secret({"terminal": result.stdout.str() + result.stderr.str(), **left_behind(pytester, home)})


@pytest.mark.slow
def test_an_error_of_a_plugin_shows_no_secret_with_all_local_variables(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from(fleet())
    pytester.makeconftest(
        """
def pytest_vastgpu_outcome(attempt, workload):
    raise RuntimeError(f"not like that: {dict(workload.env)}")
"""
    )
    pytester.makepyfile(WITH_TOKEN + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-l", "-vv", "--full-trace", "--junitxml=junit.xml")
    assert result.ret != 0
    assert "RuntimeError" in result.stdout.str()
    assert_no_secret({"terminal": result.stdout.str() + result.stderr.str(), **left_behind(pytester, home)})


@pytest.mark.slow
def test_an_error_before_anything_is_rented_shows_no_key(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(fleet())
    pytester.makeconftest("def pytest_vastgpu_adapters():\n    raise RuntimeError('no adapters today')\n")
    pytester.makepyfile(WITH_TOKEN + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "-l", "-vv", "--full-trace")
    shown = result.stdout.str() + result.stderr.str()
    assert "conftest.py:2: pytest_vastgpu_adapters raised RuntimeError: no adapters today" in shown
    assert "INTERNALERROR" not in shown
    assert_no_secret({"terminal": shown})


@pytest.mark.slow
def test_a_market_that_repeats_the_key_in_its_refusal_is_quoted_without_it(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    rent_from({"faults": [{"name": "key_echoed", "endpoint": "create", "times": 9}], **fleet()})
    pytester.makepyfile(WITH_TOKEN + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "--junitxml=junit.xml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no user has the key <VAST_API_KEY> today*"])
    assert_no_secret({"terminal": result.stdout.str() + result.stderr.str(), **left_behind(pytester, home)})


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", ["sys.exit('RuntimeError: ::error::x \\x1b[0m')", pytest.param(SERVE, marks=pytest.mark.slow)]
)
def test_no_line_of_a_server_steers_the_terminal_or_the_ci_system(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, end: str
) -> None:
    name = '"RTX 4090\\n::error::pwned \\u001b[31m \\ud800"'
    rent_from(fleet({"name": "offer_says", "field": "gpu_name", "says": name}))
    server = pytester.path.joinpath("server.py").read_text()
    pytester.path.joinpath("server.py").write_text(f"import sys\n{NASTY}{server if end == SERVE else end}\n")
    pytester.makepyfile(WORKLOAD.replace("gpus=1", "gpus=0") + "def test_it(vast_instance): assert False")
    result = pytester.runpytest_inprocess(AGGRESSIVE, "--junitxml=junit.xml", "-p", "no:randomly")
    assert result.ret == 1
    shown = result.stdout.str()
    assert ": :error::pwned" in shown or "xxxxx" in shown
    assert not STEERS.search(shown)
    assert not COMMANDS.search(shown)
    assert max(map(len, result.outlines)) < 3000
    for path, text in left_behind(pytester, home).items():
        assert not STEERS.search(text), path
        assert not COMMANDS.search(text), path


@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        ('command("true", env={"X=1; touch pwned; Y": "1"})', "'X=1; touch pwned; Y' is no name for an environment"),
        pytest.param(
            'Workload("command", command="true", env=(("A B", "1"),))',
            "'A B' is no name for an environment variable",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'command("true", env={"A": "\\udc80"})',
            r"the value of A holds '\udc80' at character 0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'command("true", model="m\\ud800")',
            r"model of the workload holds '\ud800' at character 1",
            marks=pytest.mark.slow,
        ),
        ('command("true", port="8000; touch pwned")', "port='8000; touch pwned' of the workload is not a TCP port"),
        pytest.param(
            'command("true", disk_gb=float("nan"))',
            "disk_gb=nan of the workload is not a number from 0 on",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'Workload("command", command="true", files=(("../x", "y"),))',
            "'../x' must be a path below",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'command("true", env={"A": 1})', "the value of A is of type int, not text", marks=pytest.mark.slow
        ),
    ],
)
def test_a_workload_that_cannot_be_carried_out_is_a_usage_error(
    pytester: pytest.Pytester, rent_from: RentFrom, workload: str, problem: str
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        f"""
import pytest
from pytest_vastgpu import Workload, command

@pytest.fixture
def vast_workload():
    return {workload}

def test_it(vast_instance): pass
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert problem in line
    assert market.status()["ended"] == []
    assert [call for call in market.status()["calls"] if call["endpoint"] == "create"] == []


@pytest.mark.slow
def test_a_workload_that_only_the_test_knows_is_refused_in_one_line(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(fleet())
    pytester.makepyfile(
        """
from pytest_vastgpu import Workload
def test_it(vast_instance_factory):
    vast_instance_factory(Workload("command", command="true", gpus=0, env=(("X=1; touch pwned", "1"),)))
"""
    )
    result = pytester.runpytest_inprocess(AGGRESSIVE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["env of the workload: 'X=1; touch pwned' is no name for an environment variable*"])
    assert market.status()["ended"] == []


MONEY: tuple[Any, ...] = (
    ("inet_down_cost", -1199),
    pytest.param("storage_cost", None, marks=pytest.mark.slow),
    pytest.param("dph_total", "free", marks=pytest.mark.slow),
)


@pytest.mark.slow
@pytest.mark.parametrize(("field", "says"), MONEY)
def test_an_offer_that_cannot_be_true_is_not_rented(
    pytester: pytest.Pytester, rent_from: RentFrom, field: str, says: object
) -> None:
    market = rent_from(fleet({"name": "offer_says", "field": field, "says": json.dumps(says)}))
    pytester.makepyfile(WORKLOAD.replace("gpus=1", "gpus=1, image_gb=1000") + "def test_it(vast_instance): pass")
    pytester.runpytest_inprocess(AGGRESSIVE).assert_outcomes(passed=1)
    assert [rent["machine_id"] for rent in market.status()["ended"]] == [GOOD] != [BAD]


@pytest.mark.slow
def test_an_interrupt_shows_no_secret_with_the_arguments_of_all_frames(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(fleet())
    pytester.makepyfile(
        WITH_TOKEN
        + """
import os
def ask(headers, env, key):
    raise KeyboardInterrupt

def test_it(vast_instance, vast_workload):
    ask(dict(vast_instance.headers), dict(vast_workload.env), os.environ["VAST_API_KEY"])
"""
    )
    result = pytester.runpytest_subprocess(AGGRESSIVE, "-l", "-vv", "--full-trace")
    shown = result.stdout.str()
    assert "headers = {'Authorization': 'Bearer <instance key>'}" in shown.replace("<removed>", "<instance key>")
    assert_no_secret({"terminal": shown + result.stderr.str()})


@pytest.mark.slow
def test_workers_show_no_secret_either(pytester: pytest.Pytester, rent_from: RentFrom, home: Path) -> None:
    rent_from(fleet())
    pytester.path.joinpath("really.py").write_text(pytester.path.joinpath("server.py").read_text())
    pytester.path.joinpath("server.py").write_text(TALKATIVE + SERVE)
    files = "files={'server.py': 'server.py', 'really.py': 'really.py'}"
    pytester.makepyfile(
        WITH_TOKEN.replace('files={"server.py": "server.py"}', files)
        + """
import os
def test_it(vast_instance, vast_workload):
    key, headers, env = os.environ["VAST_API_KEY"], vast_instance.headers, dict(vast_workload.env)
    print("printed", env, headers, key)
    assert vast_instance.logs() == f"{key} {headers} {env}"
"""
    )
    result = pytester.runpytest_subprocess("-n1", AGGRESSIVE, "-l", "-vv", "--full-trace", "--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    assert_no_secret({"terminal": result.stdout.str() + result.stderr.str(), **left_behind(pytester, home)})
