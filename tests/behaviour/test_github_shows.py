"""What a whole run shows on GitHub: one section, and each test once, also with workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.test_main_job import RentFrom

BROKEN = {"machine_id": 11, "price_usd_h": 0.1, "faults": [{"name": "nvidia_container_cli"}]}
TESTS = """
@pytest.mark.parametrize("n", range(2))
def test_on_a_broken_machine(vast_instance, n): pass

@pytest.mark.vast(gpu_name="H100 SXM")
def test_own_failure(vast_instance):
    assert httpx.get(vast_instance.endpoint, timeout=60).text == "a | b @octocat"

@pytest.mark.vast(gpu_name="H100 SXM")
def test_passes(vast_instance): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-n2"]], ids=["alone", "xdist"])
def test_one_section_and_each_test_once(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    rent_from({"machines": [BROKEN, {"machine_id": 14, "gpu_name": "H100 SXM", "price_usd_h": 0.9}]})
    path = Path(pytester.path, "summary.md")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # to the run it is no run within another one
    pytester.makepyfile(test_it=WORKLOAD + TESTS)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--vast-attempts=1", *options)
    result.assert_outcomes(passed=1, failed=1, errors=2)
    text = path.read_text()
    assert text.count("## pytest-vastgpu: 1 test failed, 2 tests without a result by a host's fault") == 1
    assert "| `infra_fatal: nvml_driver_library_mismatch` |" in text
    assert "`AssertionError: assert 'here I am' == 'a \\| b @octocat'`" in text
    told = [line for line in (*result.outlines, *result.errlines) if line.startswith("::")]
    assert sorted(line.split(" ")[0] for line in told) == ["::error", "::warning", "::warning"]
    assert "STILL RUNNING" not in text
