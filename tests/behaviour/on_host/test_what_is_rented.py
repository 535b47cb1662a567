"""Hosts are rented as options and marks say, have names, and go the way of all that is rented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.hidden import HiddenHosts
from tests.support.hidden import Ran

TESTS = """
import pytest

pytestmark = pytest.mark.vast(disk_gb=20)

@pytest.mark.parametrize("number", range(8))
def test_it(number): pass
"""


def created(ran: Ran) -> list[str]:
    return re.findall(r"created instance \d+ for (.*)", ran.output)


@pytest.mark.slow
def test_two_hosts_have_names_in_every_line_and_their_costs_are_no_tests(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": TESTS})
    ran = hidden_hosts.run("--vast-gpus=1", hosts=2)
    assert ran.code == pytest.ExitCode.OK
    needs = "gpus 1 (command line), disk_gb 20 (marks)"
    first = f"vastgpu: tests run on 2 hosts (command line) with 1 GPU each, 1 worker on each; {needs}"
    assert first in ran.lines
    assert sorted(created(ran)) == ["host 1", "host 2"]
    assert len(re.findall(r"^\d+ .* host [12]    ready$", ran.output, re.MULTILINE)) == 2
    assert " waits for " not in ran.output
    [path] = re.findall(r"^vastgpu: costs are in (.*)$", ran.output, re.MULTILINE)
    costs = json.loads(Path(path).expanduser().read_text())
    assert sorted(each["workload"] for each in costs["instances"]) == ["host 1", "host 2"]
    assert costs["tests"] == []
    assert all(0 < each["cost_usd"] == each["overhead_usd"] for each in costs["instances"])


@pytest.mark.slow
def test_a_host_that_the_budget_does_not_cover_is_one_line_and_the_tests_run_on_the_other(
    hidden_hosts: HiddenHosts,
) -> None:
    hidden_hosts.write({"test_it.py": TESTS})
    plan = hidden_hosts.run("--vast-plan-json=plan.json", hosts=1)
    assert plan.code == pytest.ExitCode.OK
    worst_usd = json.loads((hidden_hosts.project / "plan.json").read_text())["run"]["set_aside_usd"]
    ran = hidden_hosts.run(f"--vast-budget={1.5 * worst_usd}", hosts=2)
    assert ran.code == pytest.ExitCode.OK
    assert len(created(ran)) == 1
    [line] = [line for line in ran.lines if "--vast-budget" in line and "could cost" in line]
    assert re.match(r"vastgpu: host [12]: renting once more could cost ", line)
    assert len(re.findall(r"^vastgpu host [12] waits for another instance to be given back$", ran.output, re.M)) == 1
    assert "8 passed" in ran.lines[-1]


@pytest.mark.slow
def test_the_host_on_which_a_test_has_failed_is_kept_on_request(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": "def test_it(): assert False"})
    ran = hidden_hosts.run("--vast-keep=failed:5s", hosts=1)
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"KEPT: instance \d+ until ", ran.output)
    hidden_hosts.write({"test_it.py": "def test_it(): assert True"})
    passed = hidden_hosts.run("--vast-keep=failed:5s", hosts=1)
    assert passed.code == pytest.ExitCode.OK
    assert "KEPT" not in passed.output


@pytest.mark.slow
def test_hosts_stay_warm_for_the_next_run(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": TESTS})
    first = hidden_hosts.run("--vast-reuse=5m", hosts=2)
    second = hidden_hosts.run("--vast-reuse=1s", hosts=2)
    assert (first.code, second.code) == (pytest.ExitCode.OK, pytest.ExitCode.OK)
    assert (len(created(first)), created(second)) == (2, [])
    assert len(re.findall(r"reused, .* old", second.output)) == 2


@pytest.mark.slow
def test_a_cheap_kind_of_which_there_is_one_is_not_mixed_with_another(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.rent_out({"gpu_name": "RTX 3090", "price_usd_h": 0.1}, {"count": 2})
    hidden_hosts.write({"test_it.py": TESTS})
    ran = hidden_hosts.run("--vast-gpus=1", hosts=2)
    assert ran.code == pytest.ExitCode.OK
    assert re.findall(r"renting machine \d+ \((.*), .* USD/h\) for host [12]", ran.output) == ["RTX 4090", "RTX 4090"]
