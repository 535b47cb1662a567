"""Our reports beside those of other people's plugins: a panel in pytest-html's, and no annotation twice."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import rent_from as rent_from
from tests.behaviour.conftest import time_limits as time_limits
from tests.behaviour.neighbours.test_neighbours import PYTHON
from tests.behaviour.neighbours.test_neighbours import needs_them
from tests.behaviour.test_github_shows import BROKEN
from tests.behaviour.test_github_shows import TESTS

THEIRS = ("html", "html_fixtures", "metadata", "pytest_github_actions_annotate_failures")


@needs_them
@pytest.mark.slow
def test_each_tells_what_the_other_does_not(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    rent_from({"machines": [BROKEN, {"machine_id": 14, "gpu_name": "H100 SXM", "price_usd_h": 0.9}]})
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # to the run it is no run within another one
    pytester.mkdir("out")
    pytester.makepyfile(test_it=WORKLOAD + TESTS)
    plugins = [argument for name in ("vastgpu", *THEIRS) for argument in ("-p", name)]
    reports = ["--html=out/report.html", "--vast-report=page.html"]
    result = pytester.run(
        PYTHON, "-m", "pytest", *plugins, "--exclude-warning-annotations", "--vast-attempts=1", *reports
    )
    result.assert_outcomes(passed=1, failed=1, errors=2)
    told = [line for line in (*result.outlines, *result.errlines) if line.startswith("::")]
    assert sorted(line.split(" ")[0] for line in told) == ["::error", "::warning", "::warning"]
    assert "vastgpu" not in next(line for line in told if line.startswith("::error")), "it is theirs"
    theirs = pytester.path.joinpath("out", "report.html").read_text()
    assert theirs.count("<h2>vastgpu: 3 of 4 tests failed</h2>") == 1
    assert '<a href="../page.html">' in theirs
    assert "infra_fatal: nvml_driver_library_mismatch" in theirs.partition("<h2>vastgpu: ")[2].partition("</table>")[0]
    assert "3 of 4 tests failed" in pytester.path.joinpath("page.html").read_text()
