"""What the files of a whole run say of it, read as all reports read them."""

from __future__ import annotations

import pytest

from pytest_vastgpu.reporting.run.reader import read_run
from tests.behaviour.conftest import BAD
from tests.behaviour.conftest import GOOD
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import fleet
from tests.support.runs import run_directories

SUITE = f"""{WORKLOAD}
def test_passes(vast_instance): pass

def test_fails(vast_instance): assert 1 == 2

def test_needs_none(): pass
"""


def test_a_run_is_told_by_its_files(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from(fleet("nvidia_smi_fails"))
    pytester.makepyfile(SUITE)
    pytester.runpytest_inprocess("-p", "no:randomly", "--vast-strictness=aggressive").assert_outcomes(
        passed=2, failed=1
    )
    (directory,) = run_directories()
    report = read_run(directory)
    assert (report.id, report.over, report.exit_status, report.running) == (directory.name, True, 1, False)
    assert report.missing == ()
    assert "--vast-strictness=aggressive" in report.command
    bad, good = report.instances
    assert (bad.machine, good.machine) == (BAD, GOOD)
    assert bad.verdict is not None
    assert bad.verdict.failure_class == "infra_fatal"
    assert bad.verdict.evidence
    assert bad.verdict.remedy
    assert bad.artifacts.endswith("/1")
    assert [offer.machine for offer in bad.considered.admitted] == [BAD, GOOD]
    assert [offer.machine for offer in good.considered.admitted] == [GOOD]
    assert [(offer.machine, offer.why_not) for offer in good.considered.rejected] == [
        (BAD, ("banned", "failed_before"))
    ]
    assert good.outcome == "ready"
    assert good.gone
    assert [phase.name for phase in good.phases][-2:] == ["ready", "destroying"]
    assert [use.test.partition("::")[2] for use in good.tests] == ["test_passes", "test_fails"]
    assert all(use.start <= use.end for use in good.tests)
    assert good.idle
    assert report.left_alive == ()
    passes, fails = report.tests
    assert passes.when == "call"
    assert (passes.outcome, fails.outcome, fails.when) == ("passed", "failed", "call")
    assert fails.message == "assert 1 == 2"
    assert passes.instances == fails.instances == (good.label,)
    assert 0 < passes.cost_usd < report.total_usd
