"""Other people's plugins beside ours."""

from __future__ import annotations

from tests.behaviour.conftest import LOSE
from tests.behaviour.neighbours.rows import COMES
from tests.behaviour.neighbours.rows import Row
from tests.behaviour.neighbours.rows import with_plugin

MANY = (
    *("asyncio", "timeout", "randomly", "repeat", "subtests", "pytest_cov", "html", "html_fixtures", "metadata"),
    *("allure_pytest", "benchmark", "pytest-split", "instafail", "pytest_order", "pytest_mock", "env", "time_machine"),
    *(
        "socket",
        "flakefinder",
        "anyio",
        "fakefs",
        "respx",
        "pytest_httpx",
        "pytest-bdd",
        "pytest_forked",
        "platformdirs",
    ),
)

PLUGINS: dict[str, Row] = {
    "asyncio": with_plugin(
        "asyncio",
        source="""
@pytest.mark.asyncio
async def test_1(vast_instance):
    async with httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(vast_instance.endpoint)).text == "here I am"
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    "anyio": with_plugin(
        "anyio",
        source="""
@pytest.fixture
def anyio_backend(): return "asyncio"
@pytest.mark.anyio
async def test_1(vast_instance):
    async with httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(vast_instance.endpoint)).text == "here I am"
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    **{
        f"timeout, {how}": with_plugin(
            "timeout",
            "--timeout=10",
            *options,
            source="""
@pytest.fixture
def vast_workload(): return command("sleep 11; exec python3 server.py", files={"server.py": "server.py"}, gpus=0)
def test_1(vast_instance): ask(vast_instance)
def test_2(vast_instance_factory, vast_workload): ask(vast_instance_factory(vast_workload))
""",
            rents=2,
        )
        for how, options in {
            "signal": ("--timeout-method=signal",),
            "thread": ("--timeout-method=thread",),
            "the function only": ("-o", "timeout_func_only=true"),
        }.items()
    },
    "timeout, a test that hangs": with_plugin(
        "timeout",
        "--timeout=10",
        source="""
import time
def test_1(vast_instance): time.sleep(60)
def test_2(vast_instance): ask(vast_instance)
def test_3(vast_instance): ask(vast_instance)
""",
        failed=1,
        says=("*Timeout (>10.0s) from pytest-timeout*",),
    ),
    "randomly": with_plugin("randomly"),
    "repeat": with_plugin("repeat", "--count=3", passed=6),
    "flakefinder": with_plugin("flakefinder", "--flake-finder", "--flake-runs=3", passed=6),
    "cov": with_plugin("pytest_cov", "--cov=server"),
    "html": with_plugin("html", "-p", "metadata", "-p", "html_fixtures", "--html=report.html"),
    "metadata": with_plugin("metadata"),
    "allure": with_plugin("allure_pytest", "--alluredir=allure"),
    "benchmark": with_plugin(
        "benchmark",
        source="""
def test_1(vast_instance, benchmark): benchmark.pedantic(ask, (vast_instance,), rounds=3)
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    "split": with_plugin("pytest-split", "--splits=2", "--group=1", passed=1),
    "instafail": with_plugin("instafail", "--instafail"),
    "sugar": with_plugin("sugar", count=False, says=("*2 passed*",)),
    "order": with_plugin(
        "pytest_order",
        source="""
@pytest.mark.order(2)
def test_1(vast_instance): ask(vast_instance)
@pytest.mark.order(1)
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    "mock": with_plugin(
        "pytest_mock",
        source="""
def test_1(vast_instance, mocker):
    mocker.patch("time.time", return_value=4e9)
    mocker.patch("httpx.Client.send", side_effect=RuntimeError)
    assert vast_instance.run("true").ok
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    "env": with_plugin("env", "-c", "ini.ini", files={"ini.ini": "[pytest]\nenv =\n    SOME=thing\n"}),
    "time-machine": with_plugin(
        "time_machine",
        source="""
def test_1(vast_instance, time_machine):
    time_machine.move_to("2031-05-01")
    ask(vast_instance)
    assert vast_instance.cost_so_far < 1
def test_2(vast_instance): ask(vast_instance)
""",
    ),
    "socket, with hosts": with_plugin("socket", "--disable-socket", "--allow-hosts=127.0.0.1", "--allow-unix-socket"),
    "bdd": with_plugin(
        "pytest-bdd",
        source="""
from pytest_bdd import given, scenarios, then
scenarios("it.feature")
@given("an instance")
def an_instance(vast_instance): pass
@then("it answers")
def it_answers(request): ask(request.getfixturevalue("vast_instance"))
""",
        files={
            "it.feature": "Feature: it\n"
            + "".join(f"  Scenario: {n}\n    Given an instance\n    Then it answers\n" for n in "12")
        },
    ),
    "about 30 at once, with workers": Row(plugins=(*MANY, "xdist"), options=("-n2",)),
    "rerunfailures": with_plugin(
        "rerunfailures",
        "--reruns=2",
        source="""
tries = []
def test_1(vast_instance):
    tries.append(1)
    ask(vast_instance)
    assert len(tries) == 3
""",
        passed=1,
        never=("lifetime_over",),
    ),
    "rerunfailures, with workers": Row(
        LOSE
        + """
tries = []
def test_1(vast_instance):
    tries.append(1)
    if len(tries) == 1:
        lose(vast_instance, "instance_vanishes")
    ask(vast_instance)
def test_2(vast_instance): ask(vast_instance)
""",
        ("rerunfailures", "xdist"),
        ("--reruns=1", "-n2"),
        passed=2,
        rents=2,
        never=("lifetime_over",),
    ),
    "flaky": with_plugin(
        "flaky",
        "--force-flaky",
        "--max-runs=3",
        source="""
tries = []
def test_1(vast_instance):
    tries.append(1)
    ask(vast_instance)
    assert len(tries) == 3
""",
        passed=1,
        never=("lifetime_over",),
    ),
    "subtests": with_plugin(
        "subtests",
        source="""
def test_1(vast_instance, subtests):
    for number in range(3):
        with subtests.test(number=number):
            ask(vast_instance)
def test_2(vast_instance): ask(vast_instance)
""",
        count=False,
    ),
    "subtests, the instance is lost in one": with_plugin(
        "subtests",
        source=LOSE
        + """
def test_1(vast_instance, subtests):
    with subtests.test("loses it"):
        lose(vast_instance, "instance_vanishes")
def test_2(vast_instance): ask(vast_instance)
""",
        passed=1,
        errors=1,
        rents=2,
        count=False,
        never=("FAILED",),
    ),
    "httpx": with_plugin(
        "pytest_httpx",
        source="""
def test_1(vast_instance_factory, vast_workload, httpx_mock):
    httpx_mock.add_response(json={"success": True, "instances": None})
    comes_and_goes(vast_instance_factory, vast_workload)
    assert httpx.get("http://127.0.0.1:1/").json()["success"]
""",
        passed=1,
        rents=2,
    ),
    "respx": with_plugin(
        "respx",
        source="""
import respx
@respx.mock
def test_1(vast_instance_factory, vast_workload):
    route = respx.route().respond(json={"success": True, "instances": None})
    comes_and_goes(vast_instance_factory, vast_workload)
    assert not route.called
""",
        passed=1,
        rents=2,
    ),
    "freezegun": Row(
        """
from freezegun import freeze_time
@freeze_time("2031-05-01", tick=True)
def test_1(vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)
@freeze_time("2001-01-01")
def test_2(vast_instance):
    assert vast_instance.cost_so_far < 1
    assert vast_instance.run("true").ok
""",
        rents=3,
        never=("lifetime_over",),
    ),
    "pyfakefs": with_plugin("fakefs", source=COMES.replace("(vast", "(fs, vast", 1), passed=1, rents=2),
    "socket": with_plugin(
        "socket",
        "--disable-socket",
        source="""
import pytest_socket, socket
def test_1(vast_instance_factory, vast_workload):
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.socket()
    comes_and_goes(vast_instance_factory, vast_workload)
""",
        passed=1,
        rents=2,
    ),
    "socket, no hosts": with_plugin("socket", "--allow-hosts=192.0.2.1", source=COMES, passed=1, rents=2),
    "forked": with_plugin(
        "pytest_forked",
        "--forked",
        source="""
import os
def test_0(vast_instance_factory, vast_workload): comes_and_goes(vast_instance_factory, vast_workload)
def test_1(vast_instance): ask(vast_instance)
def test_2(vast_instance): assert vast_instance.run("echo 2").stdout == "2\\n"
def test_3_crashes(vast_instance): os._exit(7)
def test_4(vast_instance): assert vast_instance.run("echo 4").stdout == "4\\n"
""",
        passed=4,
        failed=1,
        rents=3,
    ),
}
