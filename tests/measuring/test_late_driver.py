"""A driver that is late itself sees the tokens of an answer at once, whatever the server did."""

from __future__ import annotations

import pytest

from pytest_vastgpu import MeasurementFailed
from pytest_vastgpu import completions
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring import seen
from tests.support.driven import steady

LOAD = completions(model="m")
AT_ONCE = steady(10.0, ttft=1.0, gaps=(0.0,) * 20)


def test_a_stream_that_is_none_is_refused_where_the_driver_was_on_time() -> None:
    with pytest.raises(MeasurementFailed, match="streaming that is none"):
        seen.check(LOAD, 10.0, {"seen": AT_ONCE, "lag": [0.0001] * 100})


def test_times_of_tokens_are_missing_where_the_driver_was_late() -> None:
    seen.check(LOAD, 10.0, {"seen": AT_ONCE, "lag": [0.03] * 100})
    found = measurement.of(LOAD, 10.0, AT_ONCE)
    assert {"output_throughput", "e2e_p50"} <= found.figures.keys()
    for time in ("ttft_p50", "itl_p50", "tpot_p50"):
        assert found.missing[time] == "the load's driver was too late to see tokens one by one"
