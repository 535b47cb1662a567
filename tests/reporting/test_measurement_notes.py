"""What must be known to read the numbers of a measurement is beside them."""

from __future__ import annotations

from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.reporting.measurement_page import page
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.measurements import measured_lines
from tests.support.driven import steady

FOUND = measurement.of(http_load("/"), 10.0, steady(10), notes=["the driver was late"])
RECORD = Measured(FOUND, notes=["a baseline suspects"])


def test_the_table_has_the_notes_of_the_measurement_and_of_the_record() -> None:
    assert measured_lines([("t.py::test_a", RECORD)], 120)[-2:] == [
        "t.py::test_a: the driver was late",
        "t.py::test_a: a baseline suspects",
    ]


def test_the_page_says_why_a_number_is_missing() -> None:
    told = page("run", [], Kept([("t.py::test_a", RECORD)], []))
    assert "no e2e_p99: 100 are too few, about 381 are needed: measure for 39 s</p>" in told
    assert "<p>the driver was late</p><p>a baseline suspects</p>" in told
