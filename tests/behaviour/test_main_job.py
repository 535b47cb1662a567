"""The main job on this very machine: rent, start, test, give back; alone and with xdist."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.reputation.host_cache import HostCache
from tests.behaviour.conftest import SERVER
from tests.behaviour.conftest import USERS_CACHE
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import known
from tests.support.local.program import WITHOUT_NAMESPACES
from tests.support.local.program import namespaces_can_be_forbidden

RentFrom = Callable[[dict[str, Any]], LocalMarket]
HERE = {"this_machine": True}
NO_GPU = WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0")


LONG = """
SOCKET = "import socket, tempfile; socket.socket(socket.AF_UNIX).bind(tempfile.mkdtemp() + '/the-socket-of-an-engine')"

def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, headers=vast_instance.headers, timeout=60).text == "here I am"
    assert vast_instance.run(f'python3 -c "{SOCKET}"').stderr == ""
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-n1"]], ids=["alone", "xdist"])
def test_temporary_files_may_have_a_long_path(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    long = pytester.path / ("x" * (200 - len(str(pytester.path)) - 1))
    long.mkdir()
    assert len(str(long)) == 200
    monkeypatch.setenv("TMPDIR", str(long))
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(NO_GPU + LONG)
    result = pytester.runpytest_subprocess(*more)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*dead man's switch armed*"])  # through the market's socket
    assert not list(long.glob("vastgpu-*/market-*"))


def test_an_embedded_market_has_its_records_with_the_run(pytester: pytest.Pytester, home: Path) -> None:
    users = HostCache(home / USERS_CACHE)
    users.ban(1, until=math.inf, since=1.0)  # the number that a local market gives this machine
    before = users.path.read_bytes()
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(NO_GPU + "def test_it(vast_instance): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert users.path.read_bytes() == before
    assert known(home)[1].successes == 1


def test_equal_workloads_share_an_instance_and_everything_is_told(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
@pytest.mark.parametrize("n", range(3))
def test_it(vast_instance, n):
    assert httpx.get(vast_instance.endpoint, headers=vast_instance.headers, timeout=60).text == "here I am"
    assert vast_instance.run("echo $((6 * 7))").stdout == "42\\n"
    assert vast_instance.run("exit 3").exit_code == 3
    assert "serving" in vast_instance.logs()
    assert vast_instance.cost_so_far > 0
"""
    )
    result = pytester.runpytest_inprocess("--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "vastgpu attempt 1: renting machine *",
            "vastgpu instance *: created instance *",
            "vastgpu instance *: SSH answers after *",
            "vastgpu instance *: host checked",
            "vastgpu instance *: ready after *",
            "vastgpu instance *: destroying",
            "vastgpu instance *: gone after *",
            "*vastgpu: 1 instance, 0.00* USD*",
            "machine *GPU *boot *warm-up *ready *outcome",
            "* ready",
        ]
    )
    junit = pytester.path.joinpath("junit.xml").read_text()
    for name in ("vast_instance", "vast_machine", "vast_usd_per_hour", "vast_cost_usd", "vast_ready_s"):
        assert f'<property name="{name}"' in junit
    assert len(market.status()["ended"]) == 1
    (record,) = known(host_cache).values()
    assert record.successes == 1
    assert record.ready_s > 0


@pytest.mark.slow
def test_quiet_means_quiet(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(HERE)
    pytester.makepyfile(NO_GPU + "def test_it(vast_instance): pass")
    result = pytester.runpytest_inprocess("-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("vastgpu *: *")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_all_workers_share_one_instance(pytester: pytest.Pytester, rent_from: RentFrom, workers: int) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
@pytest.mark.parametrize("n", range(8))
def test_it(vast_instance, n):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
    assert vast_instance.run("echo hello").stdout == "hello\\n"
"""
    )
    result = pytester.runpytest_subprocess(f"-n{workers}")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["vastgpu instance *: ready after *", "*vastgpu: 1 instance, *", "* ready"])
    assert len(market.status()["ended"]) == 1


@pytest.mark.slow
def test_markers_and_the_factory_rent_what_they_name(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from({"machines": [{"machine_id": 7, "gpu_name": "H100 SXM", "price_usd_h": 0.9}, {"count": 3}]})
    pytester.makepyfile(
        WORKLOAD
        + """
@pytest.mark.vast(gpu_name="H100 SXM")
class TestBig:
    def test_it(self, vast_instance):
        assert vast_instance.gpu == "H100 SXM"
        assert vast_instance.run("nvidia-smi --query-gpu=name --format=csv,noheader").stdout == "NVIDIA H100 SXM\\n"

def test_two_at_once(vast_instance_factory, vast_workload):
    one, two = vast_instance_factory(vast_workload), vast_instance_factory(vast_workload)
    assert one.id != two.id
    assert httpx.get(one.endpoint, timeout=60).text == httpx.get(two.endpoint, timeout=60).text == "here I am"
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)
    assert len(market.status()["ended"]) == 3


@pytest.mark.slow
def test_an_instance_goes_back_when_its_last_test_is_over(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from({"machines": [{"count": 2}]})
    pytester.makepyfile(
        WORKLOAD
        + f"""
ASK = dict(url={market.url + "/_market/status"!r}, headers={{"Authorization": {"Bearer " + market.api_key!r}}})
ONE = command("exec python3 server.py", files={{"server.py": "server.py"}}, disk_gb=20)
TWO = command("exec python3 server.py", files={{"server.py": "server.py"}}, disk_gb=30)

@pytest.mark.vast(ONE)
def test_1(vast_instance): pass

@pytest.mark.vast(TWO)
def test_2(vast_instance):
    while len(httpx.get(**ASK, timeout=60).json()["alive"]) != 1:
        pass
"""
    )
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(passed=2)


@pytest.mark.slow
def test_a_machine_that_nobody_blames_is_there_for_the_next_workload(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from(HERE)
    pytester.makepyfile(
        NO_GPU
        + """
@pytest.mark.vast(command("echo 'server.py: error: unrecognized arguments: --foo'; exit 2", gpus=0))
def test_1_broken(vast_instance): pass

def test_2_good(vast_instance): pass
"""
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.no_fnmatch_line("*During handling*")


@pytest.mark.slow
def test_an_exposed_server_is_reached_by_its_public_port(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    late = {"name": "ports_late", "looks": 6}  # it is ready before its ports are published
    rent_from({"machines": [{"machine_id": 7, "faults": [late]}]})
    pytester.makepyfile(
        NO_GPU
        + """
def test_it(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "here I am"
    assert vast_instance.run("tr '\\\\0' '\\\\n' < /proc/1/environ").stdout.count(
        f"VAST_TCP_PORT_8000={httpx.URL(vast_instance.endpoint).port}\\n") == 1
"""
    )
    pytester.runpytest_inprocess("--vast-expose").assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "off",
    [
        "terminal",
        *(
            pytest.param(off, marks=pytest.mark.slow)
            for off in ("xdist", "cacheprovider", "capture", "logging", "junitxml")
        ),
    ],
)
def test_it_works_without_other_plugins(pytester: pytest.Pytester, rent_from: RentFrom, off: str) -> None:
    rent_from(HERE)
    pytester.makepyfile(
        NO_GPU + "def test_it(vast_instance): assert httpx.get(vast_instance.endpoint, timeout=60).text"
    )
    assert pytester.runpytest_inprocess("-p", f"no:{off}").ret == pytest.ExitCode.OK


def test_hooks_bring_adapters_filter_offers_and_see_outcomes(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"machines": [{"machine_id": 7, "price_usd_h": 0.1}, {"machine_id": 8, "price_usd_h": 0.3}]})
    pytester.makeconftest(
        """
from pytest_vastgpu.servers.command import CommandAdapter

class Mine(CommandAdapter):
    name = "mine"

def pytest_vastgpu_adapters():
    return [Mine()]

def pytest_vastgpu_modify_offers(offers, workload):
    offers[:] = [offer for offer in offers if offer.machine_id == 8]

def pytest_vastgpu_outcome(attempt, workload):
    with open("outcomes", "a") as file:
        print(attempt.offer.machine_id, attempt.verdict, workload.adapter, file=file)
"""
    )
    pytester.makepyfile(
        """
from dataclasses import replace
"""
        + WORKLOAD
        + """
@pytest.fixture
def vast_workload():
    return replace(command("exec python3 server.py", files={"server.py": "server.py"}), adapter="mine")

def test_it(vast_instance):
    assert vast_instance.offer.machine_id == 8
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert pytester.path.joinpath("outcomes").read_text() == "8 None mine\n"


@pytest.mark.slow  # a plan says the same: tests/behaviour/test_plan.py
def test_an_unknown_adapter_is_one_line_and_rents_nothing(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    market = rent_from(HERE)
    pytester.makepyfile(
        "import pytest\nfrom pytest_vastgpu import Workload\n"
        "@pytest.mark.vast(Workload('tgi', gpus=0))\ndef test_it(vast_instance): pass"
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = f"{pytester.path.name.rstrip('0123456789')}.py::test_it: no adapter is called 'tgi'; there are: triton, "
    assert told in result.stderr.str() + result.stdout.str()
    assert market.status()["ended"] == []


INTERRUPTED: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "booting": ("booting", {"machines": [{"stages": {"loading_s": 60}}]}, "import time; time.sleep(60)"),
    "warming": ("server launched", {"machines": [{}]}, "import time; time.sleep(60)"),
    "tests": ("ready after", {"machines": [{}]}, None),
}


@pytest.mark.parametrize(
    ("moment", "number", "workers"),
    [
        ("booting", signal.SIGINT, 0),
        *(pytest.param(moment, signal.SIGINT, 0, marks=pytest.mark.slow) for moment in ("warming", "tests")),
        *(pytest.param(moment, signal.SIGINT, 2, marks=pytest.mark.slow) for moment in INTERRUPTED),
        pytest.param("booting", signal.SIGTERM, 0, marks=pytest.mark.slow),
        pytest.param("tests", signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, moment: str, number: signal.Signals, workers: int
) -> None:
    text, fleet, server = INTERRUPTED[moment]
    market = rent_from(fleet)
    if server:
        pytester.path.joinpath("server.py").write_text(server)
    pytester.makepyfile(WORKLOAD + "import time\ndef test_it(vast_instance): time.sleep(60)")
    seen: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", f"-n{workers}"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            seen.append(line)
            if text in line:
                break
        if number is signal.SIGINT:  # as a terminal does: to everybody
            os.killpg(run.pid, number)
        else:
            run.send_signal(number)
        seen += run.stdout.readlines()
    output = "".join(seen)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert market.status()["alive"] == [], output
    assert "gone after" in output
    machines = known(host_cache)
    assert list(machines) == ([100] if moment == "tests" else []), output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_break_off_giving_back(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    """Here the market says nothing until the second one has been answered: giving back is not over before."""
    market = rent_from({"machines": [{}]})
    pytester.makepyfile(WORKLOAD + "import time\ndef test_it(vast_instance): time.sleep(60)")
    seen: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "pytest"], cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            seen.append(line)
            if "ready after" in line:
                os.kill(market.pid, signal.SIGSTOP)
                run.send_signal(signal.SIGINT)
            elif "destroying" in line:
                run.send_signal(signal.SIGINT)
            elif "still giving instances back" in line:
                os.kill(market.pid, signal.SIGCONT)
        os.kill(market.pid, signal.SIGCONT)
    output = "".join(seen)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "still giving instances back" in output
    assert "Traceback" not in output
    assert market.status()["alive"] == []


@pytest.mark.slow
def test_a_second_ctrl_c_while_pytest_looks_at_the_first_changes_nothing(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from({"machines": [{}]})
    pytester.makeconftest("import os, signal\ndef pytest_keyboard_interrupt(): os.kill(os.getpid(), signal.SIGINT)\n")
    pytester.makepyfile(WORKLOAD + "def test_it(vast_instance): raise KeyboardInterrupt")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["*still giving instances back*", "*gone after*", "*KeyboardInterrupt*"])
    assert market.status()["alive"] == []


@pytest.mark.slow
def test_where_the_system_lets_nothing_be_kept_apart_the_run_says_so(pytester: pytest.Pytester) -> None:
    if not namespaces_can_be_forbidden():
        pytest.skip("namespaces cannot be forbidden to a process here")
    pytester.path.joinpath("server.py").write_text(SERVER)
    pytester.makepyfile(
        NO_GPU + "def test_it(vast_instance): assert httpx.get(vast_instance.endpoint, timeout=60).text"
    )
    result = pytester.run(*WITHOUT_NAMESPACES, sys.executable, "-m", "pytest", "--vast-backend=local")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["vastgpu the local market: *no namespaces *: instances share its ports and processes"])
