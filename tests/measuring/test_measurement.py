"""What the driver has seen of requests, in numbers."""

from __future__ import annotations

import json
import math

import pytest

from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.load import completions
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import measured_of
from pytest_vastgpu.measuring.record import to_text
from tests.support.driven import asked
from tests.support.driven import steady

HTTP = http_load("/")
STREAM = completions(model="m")
GAPS = (0.01, 0.02, 0.03, 0.01, 0.03)


def watch(seconds: float = 10.0, power: float = 200.0) -> list[tuple[float, str]]:
    """Lines of nvidia-smi, five a second."""
    return [(at / 5 + 0.01, f"0, 1000, 50, {power}, 1500, 0x0") for at in range(int(seconds * 5))]


def test_a_stream_gives_every_number_with_its_unit_and_interval() -> None:
    load = completions(model="m", concurrency=8, slo={"ttft": 0.1})
    requests = [asked(at / 100 - 1, ttft=0.05 + at % 7 / 1000, gaps=GAPS, tokens=6) for at in range(1100)]
    seen = measurement.of(load, 10.0, requests, gpu=watch(), usd_h=0.5)
    assert list(seen.figures) == list(measurement.NAMES)
    units = {name: figure.unit for name, figure in seen.figures.items()}
    assert units == {
        "requests": "",
        "errors": "",
        "throughput": "1/s",
        "output_throughput": "tokens/s",
        "goodput": "1/s",
        **{f"{time}_{level}": "s" for time in ("ttft", "itl", "tpot", "e2e") for level in ("p50", "p90", "p99")},
        "gpu_memory_peak": "MiB",
        "gpu_utilisation": "%",
        "gpu_power": "W",
        "energy": "J",
        "gpu_clock": "MHz",
        "gpu_throttled": "%",
        "energy_per_token": "J",
        "usd_per_million_tokens": "USD",
    }
    assert all(figure.low <= figure.value <= figure.high for figure in seen.figures.values())
    assert seen["requests"] == Figure(1000, "", 1000, 1000)
    assert seen["throughput"].value == pytest.approx(100, rel=0.001)
    assert seen["output_throughput"].value == pytest.approx(600, rel=0.001)
    assert seen["ttft_p50"].value == pytest.approx(0.053)
    assert seen["tpot_p50"].value == pytest.approx(0.02)
    assert seen["itl_p50"].value == pytest.approx(0.02)
    assert seen["itl_p99"].value == pytest.approx(0.03)
    assert seen["e2e_p50"].value == pytest.approx(0.153)
    assert seen["energy_per_token"].value == pytest.approx(200 / 600, rel=0.001)
    assert seen["usd_per_million_tokens"].value == pytest.approx(0.5 / 3600 / 600 * 1e6, rel=0.001)


def test_more_is_better_of_what_is_done_and_less_of_what_it_takes() -> None:
    load = completions(model="m", slo={"ttft": 0.1})
    requests = [asked(at / 100 - 1, ttft=0.05, gaps=GAPS) for at in range(1100)]
    seen = measurement.of(load, 10.0, requests, gpu=watch(), usd_h=0.5)
    better = {name for name, figure in seen.figures.items() if figure.better > 0}
    neither = {name for name, figure in seen.figures.items() if not figure.better}
    assert better == {"throughput", "output_throughput", "goodput"}
    assert neither == {"requests", "errors", "gpu_utilisation", "gpu_power", "energy", "gpu_clock", "gpu_throttled"}


def test_long_requests_count_for_the_time_that_lies_in_the_measured_seconds() -> None:
    """Whole ones would be three or four of 10 s: a quarter off, by chance."""
    found = [
        measurement.of(HTTP, 10.0, [asked(phase - 3 + 3 * number, 3.0) for number in range(5)])["throughput"].value
        for phase in (0.0, 0.7, 1.4, 2.9)
    ]
    assert found == pytest.approx([1 / 3] * 4)


def test_an_open_loop_that_falls_behind_has_the_throughput_of_what_was_completed() -> None:
    """Ten a second are sent, five are done."""
    load = http_load("/", rate=10)
    requests = [asked(at / 10, (at + 1) / 5 - at / 10) for at in range(100)]
    assert measurement.of(load, 10.0, requests)["throughput"].value == pytest.approx(5, rel=0.03)


def test_a_request_that_had_to_wait_to_be_sent_has_waited() -> None:
    load = http_load("/", rate=10)
    requests = [asked(at / 10 + 0.5, 0.1, due=at / 10) for at in range(100)]
    seen = measurement.of(load, 10.0, requests)
    assert seen["requests"].value == 100
    assert seen["e2e_p50"].value == pytest.approx(0.6)


def test_the_warm_up_is_in_no_latency() -> None:
    requests = [asked(at / 20 - 2, 5.0 if at < 40 else 0.05) for at in range(240)]
    assert measurement.of(HTTP, 10.0, requests)["e2e_p90"].high == pytest.approx(0.05)


def test_tokens_count_when_they_come_whenever_their_request_ends() -> None:
    """Requests of 20 s each, of which 10 s are measured: none begins and ends in them."""
    requests = [asked(-5 + at, ttft=0.1, gaps=(0.02,) * 1000) for at in range(4)] + [asked(5, ttft=0.1, gaps=(0.02,))]
    seen = measurement.of(STREAM, 10.0, requests)
    assert seen["output_throughput"].value == pytest.approx(200, rel=0.01)


def test_gaps_that_were_left_out_change_no_throughput() -> None:
    every = [asked(at - 2.0, ttft=0.1, gaps=(0.01,) * 60) for at in range(12)]
    half = [{**each, "gaps": each["gaps"][::2]} for each in every]
    found = [measurement.of(STREAM, 10.0, requests)["output_throughput"].value for requests in (every, half)]
    assert found == pytest.approx([61, 61], rel=0.02)


def test_a_failed_request_is_never_answered_and_makes_no_server_quick() -> None:
    quick = [{**each, "error": "HTTP 503"} if at % 8 == 0 else each for at, each in enumerate(steady(40))]
    seen = measurement.of(HTTP, 40.0, quick)
    assert seen["throughput"].value == pytest.approx(8.75, rel=0.01)
    assert seen["requests"].value == 350
    assert seen.errors == {"HTTP 503": seen["errors"].value} == {"HTTP 503": 50}
    assert seen["e2e_p50"].value == pytest.approx(0.1)
    with pytest.raises(MeasurementFailed, match="there is no e2e_p99: 50 of 400 requests failed"):
        seen["e2e_p99"]
    [note] = seen.notes
    assert note.startswith("50 of 400 requests failed (HTTP 503): latencies count them as never answered")


def test_a_percentile_whose_interval_has_no_end_is_kept_for_a_comparison() -> None:
    """Else a side would lose its worst windows there."""
    some = [{**each, "error": "HTTP 503"} if at % 8 == 0 else each for at, each in enumerate(steady(40))]
    worst = measurement.of(HTTP, 40.0, some).unbounded["e2e_p99"]
    assert (worst.value, worst.better) == (math.inf, -1)
    few = [{**each, "error": "HTTP 503"} if at in (100, 200, 300) else each for at, each in enumerate(steady(40))]
    seen = measurement.of(HTTP, 40.0, few)
    assert seen.unbounded.keys() == {"e2e_p99"} == seen.missing.keys() & {"e2e_p50", "e2e_p90", "e2e_p99"}
    assert seen.unbounded["e2e_p99"].value == pytest.approx(0.1)
    assert seen.unbounded["e2e_p99"].high == math.inf
    assert not measurement.of(HTTP, 40.0, steady(40)).unbounded


def test_a_failed_stream_counts_for_the_times_of_its_tokens_too() -> None:
    requests = [asked(at / 20, ttft=0.01, gaps=GAPS, error="broken stream" * (at % 4 == 0)) for at in range(800)]
    seen = measurement.of(STREAM, 40.0, requests)
    assert seen["ttft_p50"].value == pytest.approx(0.01)
    assert {"ttft_p90", "tpot_p90", "e2e_p90"} <= seen.missing.keys()


@pytest.mark.parametrize(
    ("slo", "good"), [({"ttft": 0.05}, 5), ({"ttft": 0.1, "tpot": 0.015}, 0), ({"e2e": 0.2}, 10), ({"tpot": 0.021}, 10)]
)
def test_goodput_is_what_keeps_every_limit(slo: dict[str, float], good: float) -> None:
    requests = [asked(at / 10 - 2, ttft=0.04 + 0.02 * (at % 2), gaps=GAPS) for at in range(120)]
    seen = measurement.of(completions(model="m", slo=slo), 10.0, requests)
    assert seen["goodput"].value == pytest.approx(good, rel=0.02)


def test_one_token_keeps_a_limit_of_the_time_between_tokens() -> None:
    requests = [asked(at / 10, ttft=0.04) for at in range(100)]
    seen = measurement.of(completions(model="m", slo={"tpot": 0.001}), 10.0, requests)
    assert seen["goodput"].value == seen["throughput"].value


def test_several_tokens_in_a_piece_are_said() -> None:
    requests = [asked(at / 20, ttft=0.01, gaps=GAPS, tokens=18) for at in range(200)]
    seen = measurement.of(STREAM, 10.0, requests, notes=["first"])
    assert seen.notes == (
        "first",
        "a piece of the stream has 3.0 tokens: itl is between pieces, tpot between tokens",
    )
    assert seen["itl_p50"].value == pytest.approx(0.02)
    assert seen["tpot_p50"].value == pytest.approx(0.1 / 17)


def test_the_distribution_goes_from_the_quickest_to_the_slowest() -> None:
    requests = [asked(at / 20, 0.1 + at / 1000) for at in range(201)]
    quantiles = measurement.of(HTTP, 11.0, requests).quantiles["e2e"]
    assert len(quantiles) == 101
    assert (quantiles[0], quantiles[50], quantiles[100]) == pytest.approx((0.1, 0.2, 0.3))


def test_the_distribution_is_of_the_same_times_as_the_numbers() -> None:
    """Those between the tokens of the warm-up are in neither."""
    before = [asked(at / 20 - 4, ttft=0.01, gaps=(0.1, 0.1, 0.1)) for at in range(60)]
    seen = measurement.of(STREAM, 10.0, [*before, *(asked(at / 20, ttft=0.01, gaps=GAPS) for at in range(200))])
    assert seen.quantiles["itl"][100] == pytest.approx(0.03)
    assert [seen.quantiles["itl"][rank] for rank in (50, 90, 99)] == pytest.approx(
        [seen[f"itl_p{rank}"].value for rank in (50, 90, 99)]
    )


def test_no_number_is_infinite_or_none() -> None:
    """JSON and pictures have none."""
    load = completions(model="m", slo={"ttft": 0.1})
    requests = [asked(at / 20, ttft=0.01, gaps=GAPS, error="timeout" * (at % 5 == 0)) for at in range(200)]
    seen = measurement.of(load, 10.0, requests, gpu=watch(), usd_h=1.0)
    numbers = [value for figure in seen.figures.values() for value in (figure.value, figure.low, figure.high)]
    assert all(map(math.isfinite, [*numbers, *(value for each in seen.quantiles.values() for value in each)]))


def test_it_goes_through_json() -> None:
    requests = [asked(at / 20, ttft=0.01, gaps=GAPS, tokens=18, error="timeout" * (at % 5 == 0)) for at in range(200)]
    seen = measurement.of(STREAM, 10.0, requests, gpu=watch(), usd_h=1.0)
    assert seen.notes
    assert seen.gpus
    assert seen.missing
    record = Measured(seen)
    assert measured_of(to_text(record)) == record


def test_foreign_text_is_made_safe() -> None:
    requests = [*steady(10), asked(5.0, error="\x1b[31mHTTP 500\n::error::")]
    seen = measurement.of(HTTP, 10.0, requests)
    [reason] = seen.errors
    assert "\x1b" not in reason + str(seen)
    assert "\n" not in reason
    assert json.loads(json.dumps(reason)) == reason


def test_it_prints_a_line_for_each_number_and_each_reason() -> None:
    shown = str(measurement.of(HTTP, 2.0, steady(2))).splitlines()
    assert shown[:4] == ["requests    20", "errors      0", "throughput  10.00 requests/s", "e2e_p50     100 ms"]
    assert shown[-2:] == [
        "no e2e_p90: 20 are too few, about 36 are needed: measure for 4 s",
        "no e2e_p99: 20 are too few, about 381 are needed: measure for 39 s",
    ]


def test_an_interval_is_as_wide_as_the_run_was_uneven() -> None:
    even = measurement.of(Load(HTTP.kind, "/"), 10.0, steady(10, at_a_time=4))["throughput"]
    slow = [each for each in steady(10, at_a_time=4) if each["start"] < 5]
    uneven = measurement.of(HTTP, 10.0, [*slow, *(asked(5 + at / 5, 0.2) for at in range(25) for _ in range(4))])
    assert even.high - even.low < 0.1
    assert uneven["throughput"].low < 20
    assert uneven["throughput"].high > 40
