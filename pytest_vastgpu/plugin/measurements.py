"""What tests have measured, on its way to the report of the run, and that report.

It travels with the report of a test, as JSON: so it reaches the controller of pytest-xdist, too. The records are loaded
only where there are any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import UTC
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.carried import Carried
from pytest_vastgpu.plugin.carried import carried
from pytest_vastgpu.plugin.carried import carry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vastgpu.client.instance import VastInstance
    from pytest_vastgpu.measuring.measurement import Measurement
    from pytest_vastgpu.measuring.record import Compared
    from pytest_vastgpu.measuring.record import Measured
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.reporting.measurements import Kept

MEASUREMENT = "vast_measurement"
"""Name under which a :class:`~pytest_vastgpu.measuring.record.Measured` travels."""
COMPARISON = "vast_comparison"
"""Name under which a :class:`~pytest_vastgpu.measuring.record.Compared` travels."""
_MARKUP: Mapping[str, Mapping[str, bool]] = {
    "regression": {"red": True, "bold": True},
    "improvement": {"green": True},
    "inconclusive": {"yellow": True},
    "hardware": {"yellow": True},
}
"""How the terminal shows a finding."""


def _by_number(test: str) -> list[tuple[int, str]]:
    """Sorts ``test [gw2]`` before ``test [gw16]``."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", test)]


def keep(item: pytest.Item, record: Measured | Compared) -> None:
    """Keep what a test has measured for the run's report. A test that is tried again starts without it."""
    from pytest_vastgpu.measuring.record import Measured
    from pytest_vastgpu.measuring.record import to_json
    from pytest_vastgpu.reporting.measurements import properties
    from pytest_vastgpu.reporting.pictures import with_shown_history

    name = MEASUREMENT if isinstance(record, Measured) else COMPARISON
    if isinstance(record, Measured):
        record = with_shown_history(record)
    # Made safe here: the controller does not know every secret of a worker.
    text = json.dumps(sanitize.clean(to_json(record)))
    carry(item, Carried(name, text, [(f"vast_{key}", sanitize.clean(value)) for key, value in properties(record)]))


def keeps_for(item: pytest.Item, instance: VastInstance, workload: Workload) -> Callable[[Measurement], None]:
    """What keeps each measurement of an instance for the run's report."""

    def kept(measurement: Measurement) -> None:
        keep(item, measured_on(instance, instance.serves or workload, measurement))

    return kept


def measured_on(instance: VastInstance, workload: Workload, measurement: Measurement, **more: Any) -> Measured:
    """A measurement, and where it was made.

    :param more: Further fields.
    """
    from pytest_vastgpu.measuring.record import Measured
    from pytest_vastgpu.measuring.workload_facts import other_model
    from pytest_vastgpu.reporting.sentences import workload_line

    notes = [other_model(measurement.load.body.get("model"), workload), *more.pop("notes", ())]
    return Measured(
        measurement,
        workload=workload_line(workload),
        gpu=instance.gpu,
        machine_id=instance.offer.machine_id,
        notes=[note for note in notes if note],
        **more,
    )


class MeasurementReport:
    """Plugin object of the controller, or of the only process: collects what tests have kept, and reports it.

    :param in_each: Whether every worker runs every test.
    """

    def __init__(self, *, in_each: bool = False) -> None:
        self._in_each = in_each
        self._kept: dict[str, list[tuple[str, str]]] = {}
        """Names and texts of each test."""
        self._order: Mapping[str, int] = {}
        """The place of each test in the order in which the run has them."""
        self._places: dict[str, int] = {}
        """The same of each name in what is kept."""
        self._records: Kept | None = None
        """They are read once."""
        self._files = ""
        """Where the files are, in a sentence; empty: there are none."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the order of the tests."""
        self._order = {item.nodeid: at for at, item in enumerate(session.items)}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note the order of the tests, which end in any order: all workers have the same."""
        self._order = self._order or {test: at for at, test in enumerate(ids)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test has kept. What an earlier try of it has kept goes."""
        if report.when != "teardown":
            return
        name = f"{report.nodeid} [{report.node.gateway.id}]" if self._in_each else report.nodeid
        self._places[name] = self._order.get(report.nodeid, len(self._order))
        self._kept[name] = [(key, text) for key in (MEASUREMENT, COMPARISON) for text in carried(report, key)]

    def write_files(self, directory: Path) -> None:
        """Write all numbers and pictures into files, also in a run without a terminal.

        :param directory: Of the run.
        """
        if any(self._kept.values()):
            self._files = self._write_files(self._read(), directory)

    def write(self, reporter: pytest.TerminalReporter) -> None:
        """Write tables on the terminal, and where the files are."""
        if not any(self._kept.values()):
            return
        from pytest_vastgpu.reporting.measurements import compared_lines
        from pytest_vastgpu.reporting.measurements import measured_lines

        kept = self._read()
        reporter.write_sep("-", f"vastgpu: {kept}")
        width = reporter.config.get_terminal_writer().fullwidth
        for line in measured_lines(kept.measured, width, all_metrics=reporter.verbosity > 0):
            reporter.write_line(line)
        for each in kept.compared:
            for line, finding in compared_lines(*each):
                reporter.write_line(line, **_MARKUP.get(finding, {}))
        if self._files:
            reporter.write_line(f"vastgpu: {self._files}")

    def _read(self) -> Kept:
        if self._records is not None:
            return self._records
        from pytest_vastgpu.measuring.record import compared_of
        from pytest_vastgpu.measuring.record import measured_of
        from pytest_vastgpu.reporting.measurements import Kept

        self._records = Kept(
            [(test, measured_of(text)) for test, text in self._of(MEASUREMENT)],
            [(test, compared_of(text)) for test, text in self._of(COMPARISON)],
        )
        return self._records

    def _of(self, kind: str) -> list[tuple[str, str]]:
        tests = sorted(self._kept, key=lambda test: (self._places[test], _by_number(test)))
        return [(test, text) for test in tests for key, text in self._kept[test] if key == kind]

    def _write_files(self, kept: Kept, directory: Path) -> str:
        """Returns a sentence on where they are."""
        from pytest_vastgpu.reporting.measurement_page import page
        from pytest_vastgpu.reporting.measurements import NAME
        from pytest_vastgpu.reporting.measurements import PAGE
        from pytest_vastgpu.reporting.measurements import document

        now = datetime.now(UTC)
        head = {"run": directory.name, "written": round(now.timestamp(), 3)}
        facts = [f"run {directory.name}, {now:%Y-%m-%d %H:%M} UTC"]
        try:
            (directory / NAME).write_text(f"{json.dumps(document(head, kept), indent=1)}\n", encoding="utf-8")
            (directory / PAGE).write_text(page("vastgpu", facts, kept), encoding="utf-8")
        except OSError as error:
            return f"the numbers and pictures cannot be written: {error}"
        return f"numbers are in {directory / NAME}, pictures in {directory / PAGE}"
