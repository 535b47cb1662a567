"""Tests that are tried again, that lose their instance, or that hang: counted by the market itself."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import RentFrom
from tests.behaviour.test_rents import FLEET
from tests.behaviour.test_rents import SUITE
from tests.behaviour.test_rents import rents
from tests.behaviour.test_rents import slow
from tests.plugin.test_test_ends import RERUNS

TRIES = """
from pytest_vastgpu.local.client import strike

def this_try(name):
    with open(name, "a") as file:
        file.write("x")
    return len(Path(name).read_text())

def note(name, instance):
    with open(name + ".ids", "a") as file:
        file.write(f"{instance.id}\\n")

def lose(instance):
    strike(os.environ["VAST_URL"], os.environ["VAST_API_KEY"], instance.id, "instance_vanishes")
    while instance.run("true", timeout_s=5).ok:
        pass
    httpx.get(instance.endpoint)
"""

TRIED_AGAIN = f"""{SUITE}{TRIES}
@pytest.mark.parametrize("n", range(2))
def test_flaky(vast_instance, n):
    note(str(n), vast_instance)
    ask(vast_instance)
    assert this_try(str(n)) == 3

def test_plain(): pass
"""
"""Each test is tried three times; with two workers each has one of them, and both are the last of the run."""

LOST = f"""{SUITE}{TRIES}
def test_flaky_1(vast_instance):
    note("1", vast_instance)
    if this_try("1") == 1:
        lose(vast_instance)
    ask(vast_instance)

def test_flaky_2(vast_instance):
    ask(vast_instance)
"""
"""The first try of a test loses its instance; the next one has another one."""

CRASHES = f"""{SUITE}{TRIES}
def test_flaky(vast_instance):
    note("1", vast_instance)
    if this_try("1") == 1:
        os._exit(7)
    ask(vast_instance)
"""
"""A test that crashes its worker in its first try."""

BROKEN = f"""{SUITE}
@pytest.mark.vast(workload("broken", "echo 'server.py: error: unrecognized arguments: --foo'; exit 2"))
def test_flaky(vast_instance): pass
"""
"""A server that no machine can start."""


def ids(pytester: pytest.Pytester, name: str) -> list[str]:
    """Which instance each try of a test had."""
    return pytester.path.joinpath(f"{name}.ids").read_text().split()


@pytest.mark.parametrize("workers", [slow(0), slow(2)])
def test_tries_share_an_instance_also_those_of_the_last_test(
    pytester: pytest.Pytester, rent_from: RentFrom, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(TRIED_AGAIN)
    result = pytester.runpytest_subprocess(f"-n{workers}")
    assert "3 passed, 4 rerun" in result.stdout.str()
    assert "lifetime_over" not in result.stdout.str()
    assert rents(market) == {"one": 1}
    assert len({*ids(pytester, "0"), *ids(pytester, "1")}) == 1


@pytest.mark.parametrize("workers", [slow(0), slow(2)])
def test_a_try_after_a_loss_has_another_instance_and_one_only(
    pytester: pytest.Pytester, rent_from: RentFrom, workers: int
) -> None:
    market = rent_from(FLEET)
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(LOST)
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    result = run(f"-n{workers}", "-p", "no:randomly")
    assert "2 passed" in result.stdout.str()
    assert len(set(ids(pytester, "1"))) == len(ids(pytester, "1")) == 2
    assert rents(market) == {"one": 2}


@pytest.mark.slow
def test_a_test_that_hangs_rents_nothing_when_its_instance_has_reached_its_end(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    market = rent_from(FLEET)
    pytester.makepyfile(
        SUITE
        + """
def test_1_hangs(vast_instance):
    while len(market()["ended"]) < 2:  # its own, and what was rented ahead for the next test and not used
        time.sleep(0.05)
    assert not market()["alive"]

def test_2(vast_instance):
    ask(vast_instance)
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--vast-max-lifetime=15")
    result.assert_outcomes(passed=2)
    assert rents(market) == {"one": 3}
