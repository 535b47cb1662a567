from __future__ import annotations

import json
import math

import pytest

from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import HostRounds
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.comparing.comparison import Round
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import completions
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.measurement import Measurement
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import Past
from pytest_vastgpu.measuring.record import compared_of
from pytest_vastgpu.measuring.record import measured_of
from pytest_vastgpu.measuring.record import to_text

LOAD = completions(model="org/model", slo={"ttft": 0.5}, stop=["\n"], options={"deep": {"er": None}})
FIGURES = {"throughput": Figure(9.5, "1/s", 9.0, 10.0, 1), "requests": Figure(95, "", 95, 95)}
MEASURED = Measured(
    Measurement(LOAD, 10.0, FIGURES, {"HTTP 500": 2}),
    workload="vllm 'org/model'",
    gpu="RTX 4090",
    machine_id=42,
    notes=("a sentence",),
    history=(Past("abc123", "2026-11-29T08:00:00Z", FIGURES, 43),),
)
COMPARED = Compared(
    baseline="a",
    candidate="b",
    load=LOAD,
    judged=(
        Judged(
            "throughput", 0.05, Finding.REGRESSION, 0.08, 0.06, 0.1, 0.0001, math.inf, True, "why", hosts={42: 0.07}
        ),
    ),
    hosts=(HostRounds(42, (Round({"throughput": -math.inf}, {"throughput": 8.5}),)),),
)


def test_a_measurement_travels_whole() -> None:
    assert measured_of(to_text(MEASURED)) == MEASURED


def test_a_comparison_travels_whole() -> None:
    assert compared_of(to_text(COMPARED)) == COMPARED


def test_what_headers_hold_is_in_no_record() -> None:
    load = http_load("/", headers={"X-Custom": "sekret", "Authorization": "Bearer test"})
    measured = Measured(Measurement(load, 1.0, {}), machine_id=7)
    assert "sekret" not in to_text(measured)
    assert "test" not in to_text(measured)
    assert measured_of(to_text(measured)).measurement.load.headers == {"X-Custom": "-", "Authorization": "-"}


def test_a_record_of_an_older_or_newer_version_is_read() -> None:
    data = json.loads(to_text(MEASURED))
    del data["history"]
    data["measurement"]["from the future"] = 1
    assert measured_of(json.dumps(data)).measurement == MEASURED.measurement


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", r"Measured is \[\], which is no Measured"),
        ("{}", "Measured: .* missing 1 required positional argument: 'measurement'"),
        ('{"measurement": {"seconds": "ten"}}', "Measured.measurement.seconds is 'ten', which is no float"),
        ('{"measurement": {"load": {"kind": "telnet"}}}', "Measured.measurement.load.kind is 'telnet'"),
        ('{"measurement": {"errors": {"x": 1.5}}}', r"Measured.measurement.errors\['x'\] is 1.5, which is no int"),
        ('{"notes": [1]}', r"Measured.notes\[0\] is 1, which is no str"),
        ("nonsense", "Expecting value"),
    ],
)
def test_what_is_no_record_is_refused_by_the_field(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        measured_of(text)
