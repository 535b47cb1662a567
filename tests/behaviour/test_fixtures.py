"""The fixtures as people use pytest: parametrized, asked for late, kept in wider scopes, several at once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conftest import LOSE
from tests.behaviour.conftest import SERVER
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import Start
from tests.support.looks import alive

slow = pytest.mark.slow
FLEET = {"machines": [{"count": 6}]}

HEAD = """
import httpx, os, pytest, time
from pathlib import Path
from pytest_vastgpu import command

def workload(name, start="exec python3 server.py"):
    return command(start, files={"server.py": "server.py"}, gpus=1, image=f"{name}:1")

def ask(instance):
    assert httpx.get(instance.endpoint, timeout=60).text == "here I am"
"""
DEFAULT = """
@pytest.fixture
def vast_workload(): return workload("one")
"""


def rents(market: Any) -> dict[str, int]:
    """How many instances were rented for each workload; nothing is alive any more."""
    assert alive(market) == set()
    return dict(Counter(row["image"].removesuffix(":1") for row in market.status()["ended"]))


def books(home: Path) -> dict[str, Any]:
    (path,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


WIDE = """
from pytest_vastgpu import ConfigurationError

class Client:
    def __init__(self, handle): self.handle = handle
    def get(self): ask(self.handle)

@pytest.fixture(scope="session")
def client(vast_session_instance):
    made = Client(vast_session_instance)
    yield made
    made.get()  # the last test still has its instance
    Path("torn down").write_text(str(made.handle.id))

@pytest.fixture(scope="class")
def of_class(vast_module_instance): return vast_module_instance

def test_1(client, vast_instance):
    client.get()
    assert client.handle.id == vast_instance.id
    assert client.handle.endpoint == vast_instance.endpoint
    assert client.handle.api_key and client.handle.api_key == vast_instance.headers["Authorization"].split()[1]
    assert client.handle.api_key not in repr(client.handle) + repr(vast_instance)
    Path("first").write_text(str(client.handle.id))
    for call, *arguments in (("serve",), ("serve_beside",), ("leads_to", None)):
        with pytest.raises(ConfigurationError, match="for an instance of the test's own, and this one is shared"):
            getattr(client.handle, call)(*arguments, workload("one"))

class TestIt:
    def test_2_loses_it(self, of_class): lose(of_class, "instance_vanishes")

    def test_3_gets_another(self, of_class, client):
        client.get()
        assert of_class.id == client.handle.id
        assert str(client.handle.id) != Path("first").read_text()

@pytest.mark.vast(command("exec python3 app/server.py", files={"app": "app"}, gpus=1, image="two:1",
    setup='. ./app/run.sh; echo "it is $(pwd | tail -c 14)" | tee made'))
def test_4_of_another_workload(client):
    client.get()
    assert client.handle.run("cat .vastgpu/work/made").stdout.strip() == "it is .vastgpu/work"
    assert client.handle.logs().splitlines()[:2] == ["ran", "it is .vastgpu/work"]

def test_5_plain(): pass

def test_6_asks_late(request):
    request.getfixturevalue("client").get()
"""


COLLECTS_TWICE = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    session.perform_collect()
    session.config.hook.pytest_collection_finish(session=session)
    return True
"""
"""As ``--looponfail`` of xdist does."""


@pytest.mark.slow
def test_a_handle_of_a_wider_scope_leads_to_the_instance_of_the_test(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(HEAD + DEFAULT + LOSE + WIDE)
    pytester.mkdir("app").joinpath("run.sh").write_text("echo ran\n")
    pytester.path.joinpath("app", "server.py").write_text(SERVER)
    pytester.makeconftest(COLLECTS_TWICE)
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(["*: setup: it is *", "*the instance was lost while the test used it*"])
    assert rents(market) == {"one": 3, "two": 1}  # once more for the test that nobody could foresee
    assert pytester.path.joinpath("torn down").exists()
    users = [{use["test"].rpartition("::")[2] for use in each["tests"]} for each in books(home)["instances"]]
    assert {frozenset(each) for each in users} == {
        frozenset({"test_1", "test_2_loses_it"}),
        frozenset({"test_3_gets_another"}),
        frozenset({"test_6_asks_late"}),
        frozenset({"test_4_of_another_workload"}),
    }


LATE = """
def test_1_plain(): pass

def test_2_asks(request):
    ask(request.getfixturevalue("vast_instance"))

@pytest.fixture
def hidden(request): return lambda: request.getfixturevalue("vast_instance")

@pytest.mark.parametrize("n", range(3))
def test_3_asks_through_a_fixture(hidden, n): ask(hidden())

def test_4_fails(request):
    request.getfixturevalue("vast_instance")
    assert 0

class Documented:
    '''
    >>> assert getfixture("vast_instance").run("true").ok
    '''
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), pytest.param(("-n2",), marks=slow)], ids=["alone", "xdist"])
def test_a_test_that_asks_only_while_it_runs_gets_an_instance(
    pytester: pytest.Pytester, rent_from: RentFrom, home: Path, arguments: tuple[str, ...]
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(HEAD + DEFAULT + LATE)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--doctest-modules", "--ignore=server.py", *arguments)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*vastgpu server log (since*", "*vastgpu: 1 instance,*"])
    assert rents(market) == {"one": 1}
    assert all(each["gone"] for each in books(home)["instances"])


@slow
def test_what_a_worker_got_late_is_not_kept_for_the_tests_of_another_one(
    pytester: pytest.Pytester, rent_from: RentFrom, start: Start
) -> None:
    market = rent_from(FLEET)
    asks = """
def test_1(request): ask(request.getfixturevalue("vast_instance"))
def test_2(): pass
"""
    waits = """
def test_3(tmp_path):
    while not Path("go on").exists(): time.sleep(0.05)
def test_4(): pass
"""
    pytester.makepyfile(test_asks=HEAD + DEFAULT + asks, test_waits=HEAD + waits)
    run = start("-n2", "--dist=loadfile", "-p", "no:randomly")
    run.until("gone after")
    pytester.path.joinpath("go on").touch()
    assert run.rest() == 0, run.output
    assert rents(market) == {"one": 1}


NOTES_ITS_END = """
from pytest_vastgpu.client.process import SupervisorProcess

hang_up = SupervisorProcess.hang_up

def noted(self, *arguments):
    with open("waits_for_events", "a") as file:
        file.write(f"{self._events.is_alive()}\\n")
    hang_up(self, *arguments)

SupervisorProcess.hang_up = noted
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "failed"),
    [(("-k", "plain or test_2"), 1), pytest.param((), 5, marks=slow), pytest.param(("-n2",), 5, marks=slow)],
    ids=["one", "alone", "xdist"],
)
def test_one_that_asks_late_learns_why_nothing_can_be_rented(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], failed: int
) -> None:
    monkeypatch.setenv("VAST_SSH_KEY_PATH", "/nowhere/key")
    pytester.makeconftest(NOTES_ITS_END)
    pytester.makepyfile(HEAD + "@pytest.fixture\ndef vast_workload(): return command('true')\n" + LATE)
    result = pytester.runpytest_subprocess("-p", "no:randomly", *arguments)
    result.assert_outcomes(passed=1, failed=failed)
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["*/nowhere/key*"])
    ended = pytester.path.joinpath("waits_for_events").read_text().split()
    assert set(ended) == {"False"}, "the end of the run does not wait for events of a run that was never opened"


PARAMETRIZED = """
def market():
    return httpx.get(os.environ["VAST_URL"] + "/_market/status",
                     headers={"Authorization": "Bearer " + os.environ["VAST_API_KEY"]}, timeout=60).json()

@pytest.fixture(params=["one", "two"])
def vast_workload(request): return workload(request.param)

def test_0_plain():
    while {row["image"] for row in market()["alive"]} != {"one:1", "two:1", "three:1"}:
        time.sleep(0.05)

def test_1(vast_instance, vast_workload):
    ask(vast_instance)
    assert vast_instance.run("true").ok

@pytest.mark.parametrize("vast_workload", ["three"], indirect=True)
def test_2(vast_instance): ask(vast_instance)

@pytest.mark.parametrize("vast_workload", [workload("one")])
def test_3(vast_instance): ask(vast_instance)

@pytest.mark.parametrize("vast_workload", [workload("four")])
def test_4_several(vast_instance_factory, vast_workload):
    one, two = vast_instance_factory(vast_workload, vast_workload)
    assert one.id != two.id
    ask(one), ask(two)
    rows = {row["id"]: row for row in market()["alive"]}
    assert {one.id, two.id} <= rows.keys()

@pytest.mark.parametrize("vast_workload", [workload("four")])
def test_5_fails(vast_instance_factory, vast_workload):
    broken = workload("broken", "echo 'server.py: error: unrecognized arguments: --foo'; exit 2")
    with pytest.raises(pytest.fail.Exception, match="workload_fatal|the workload's"):
        vast_instance_factory(vast_workload, broken, vast_workload)
    while {row["image"] for row in market()["alive"]} - {"one:1", "two:1", "three:1"}:
        time.sleep(0.05)

@pytest.mark.parametrize("vast_workload", [workload("four")])
def test_6_nonsense(vast_instance_factory, vast_workload):
    with pytest.raises(pytest.fail.Exception, match="is 'org/model', of type str and no workload; vllm"):
        vast_instance_factory(vast_workload, "org/model")
    with pytest.raises(pytest.fail.Exception, match="needs a workload"):
        vast_instance_factory()
"""


TIMERS = """
import pytest

def note(text):
    with open("timers", "a") as file: file.write(text + "\\n")

@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item, settings): note(f"set {settings.timeout:g}")

@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item): note("cancel")

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    note(item.name)
    return (yield)
"""


@pytest.mark.slow
def test_parameters_are_rented_ahead_and_several_come_up_at_once(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from({"machines": [{"count": 10}]})
    pytester.makepyfile(HEAD + PARAMETRIZED)
    pytester.makeconftest(TIMERS)
    pytester.runpytest_inprocess("-p", "no:randomly", "--timeout=600").assert_outcomes(passed=8)
    found = rents(market)
    assert {name: found[name] for name in ("one", "two", "three")} == {"one": 1, "two": 1, "three": 1}
    ended = sorted(market.status()["ended"], key=lambda row: row["created_at"])
    four = [row for row in ended if row["image"] == "four:1"]
    assert max(row["created_at"] for row in four[:2]) < min(row["ended_at"] for row in four[:2])
    # A wait for an instance stops the timer, and sets it anew with the same settings.
    timers = pytester.path.joinpath("timers").read_text()
    assert "test_0_plain\nset 600\ncancel\ntest_1" in timers
    assert "test_1[two]\nset 600\ncancel\nset 600\ncancel\n" in timers
