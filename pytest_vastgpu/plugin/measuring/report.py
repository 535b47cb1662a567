"""What tests have measured, on its way to the report of the run, and that report.

It travels as properties of a test, as JSON: so it reaches the controller of pytest-xdist, too. The records are loaded
only where there are any.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.core.text import sanitize

if TYPE_CHECKING:
    from pytest_vastgpu.measuring.record import Compared
    from pytest_vastgpu.measuring.record import Measured
    from pytest_vastgpu.reporting.measurements import Kept

MEASUREMENT = "vast_measurement"
"""Name of the property with a :class:`~pytest_vastgpu.measuring.record.Measured`."""
COMPARISON = "vast_comparison"
"""Name of the property with a :class:`~pytest_vastgpu.measuring.record.Compared`."""
_MARKUP = {
    **{"regression": {"red": True, "bold": True}, "improvement": {"green": True}},
    **{"inconclusive": {"yellow": True}, "hardware": {"yellow": True}},
}
"""How the terminal shows a finding."""


def keep(item: pytest.Item, record: Measured | Compared) -> None:
    """Keep what a test has measured for the run's report. A test that is tried again starts without it."""
    from pytest_vastgpu.measuring.record import Measured
    from pytest_vastgpu.measuring.record import to_json
    from pytest_vastgpu.plugin.reports import add

    # Made safe here: the controller does not know every secret of a worker.
    text = json.dumps(sanitize.clean(to_json(record)))
    add(item, [(MEASUREMENT if isinstance(record, Measured) else COMPARISON, text)])


class MeasurementReport:
    """Plugin object of the controller, or of the only process: collects what tests have kept, and reports it."""

    def __init__(self) -> None:
        self._properties: dict[str, list[tuple[str, str]]] = {}
        """What each test has kept, by its name."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what the test has kept; what an earlier try of it has kept goes."""
        if report.when != "teardown":
            return
        worker = getattr(getattr(report, "node", None), "gateway", None)
        each = getattr(getattr(report, "node", None), "config", None)
        name = report.nodeid
        if worker is not None and each is not None and each.getoption("dist", "no") == "each":
            name = f"{name} ({worker.id})"
        kept = [(key, str(value)) for key, value in report.user_properties if key in (MEASUREMENT, COMPARISON)]
        if kept or name in self._properties:
            self._properties[name] = kept

    def write(self, reporter: pytest.TerminalReporter, directory: Path) -> None:
        """Write tables to the terminal, and all numbers and pictures to files.

        :param directory: Of the run.
        """
        kept = [record for name, properties in self._properties.items() for record in _records(name, properties)]
        if not kept:
            return
        from pytest_vastgpu.reporting.measurements import NAME
        from pytest_vastgpu.reporting.measurements import PAGE
        from pytest_vastgpu.reporting.measurements import compared_lines
        from pytest_vastgpu.reporting.measurements import document
        from pytest_vastgpu.reporting.measurements import heading
        from pytest_vastgpu.reporting.measurements import measured_lines
        from pytest_vastgpu.measuring.record import Compared
        from pytest_vastgpu.measuring.record import Measured

        reporter.write_sep("-", f"vastgpu: {heading(kept)}")
        measured = [(each.name, each.record) for each in kept if isinstance(each.record, Measured)]
        verbose = reporter.verbosity > 0
        for line in measured_lines(measured, reporter._tw.fullwidth, all_metrics=verbose):
            reporter.write_line(line)
        for each in kept:
            if isinstance(each.record, Compared):
                for line, finding in compared_lines(each.name, each.record):
                    reporter.write_line(line, **_MARKUP.get(finding or "", {}))
