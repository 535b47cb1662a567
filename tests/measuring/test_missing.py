"""A number that would mean nothing is missing, with the reason."""

from __future__ import annotations

import pytest

from pytest_vastgpu.errors import MeasurementFailed
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring.load import completions
from pytest_vastgpu.measuring.load import http_load
from tests.support.driven import asked
from tests.support.driven import steady

HTTP = http_load("/")
STREAM = completions(model="m")
GAPS = (0.01, 0.02, 0.03, 0.01, 0.03)


def test_a_load_without_tokens_has_no_times_of_tokens_and_says_so() -> None:
    seen = measurement.of(HTTP, 10.0, steady(10))
    assert "ttft_p50" not in seen.figures
    with pytest.raises(MeasurementFailed, match=r"no ttft_p50: this load does not have it\. There are requests"):
        seen["ttft_p50"]
    with pytest.raises(MeasurementFailed, match="there is no ttft_95: no number is called so"):
        seen["ttft_95"]
    with pytest.raises(MeasurementFailed, match="there is no energy: no GPU was seen"):
        seen["energy"]


def test_answers_that_are_no_stream_may_count_their_tokens() -> None:
    seen = measurement.of(HTTP, 10.0, steady(10, tokens=7))
    assert seen["output_throughput"].value == pytest.approx(70)


def test_answers_of_one_token_have_no_time_between_tokens() -> None:
    requests = [asked(at / 20, ttft=0.04) for at in range(200)]
    seen = measurement.of(STREAM, 10.0, requests)
    assert seen["ttft_p50"].value == pytest.approx(0.04)
    assert seen.missing["itl_p50"] == seen.missing["tpot_p99"] == "answers have one token, or come in one piece"


def test_answers_that_a_proxy_holds_back_have_no_time_per_token() -> None:
    """It hands an answer on in one piece, of eight tokens here: 0 s per token is no speed of the model."""
    held, streamed = ({"ttft": 0.2, "tokens": 8}, {"ttft": 0.04, "gaps": GAPS})
    requests = [asked(at / 20, **(held if at % 4 == 0 else streamed)) for at in range(200)]
    tpot = measurement.of(STREAM, 10.0, requests)["tpot_p50"]
    assert tpot.value == tpot.low == pytest.approx(sum(GAPS) / len(GAPS))
    seen = measurement.of(STREAM, 10.0, [asked(at / 20, ttft=0.2, tokens=2) for at in range(200)])
    assert seen["ttft_p50"].value == pytest.approx(0.2)
    assert seen.missing["itl_p50"] == seen.missing["tpot_p50"] == "answers have one token, or come in one piece"


def test_a_p99_of_too_few_requests_is_missing_and_says_what_it_needs() -> None:
    seen = measurement.of(HTTP, 10.0, steady(10))
    assert "e2e_p90" in seen.figures
    with pytest.raises(MeasurementFailed, match=r"no e2e_p99: 100 are too few, about 381 are needed: .* 39 s"):
        seen["e2e_p99"]
    assert "e2e_p99" in measurement.of(HTTP, 39.0, steady(39)).figures


def test_a_rate_of_two_requests_is_missing_and_says_what_it_needs() -> None:
    seen = measurement.of(HTTP, 2.0, [asked(0.0, 1.0), asked(1.0, 1.0)])
    why = "what was done in 2 s makes 2 requests, of 1 s each: measure for 3 s or longer"
    assert seen.missing["throughput"] == why


@pytest.mark.parametrize(("many", "longer"), [(1, 38), (2, 19), (64, 10)])
def test_requests_that_outlast_the_run_have_no_rate(many: int, longer: int) -> None:
    """A server stands still: that so much of the standstill is in these seconds is no measure of its speed."""
    before = [asked(-0.2 * many + 0.2 * at, 0.1) for at in range(many)]
    stalled = [asked(0.45 + at / 1000, 9.54) for at in range(many)]
    load = completions(model="m", stream=False, slo={"e2e": 20})
    seen = measurement.of(load, 2.0, [*before, *stalled])
    assert "throughput" not in seen.figures
    assert "goodput" not in seen.figures
    assert seen.missing["throughput"].endswith(f" s each: measure for {longer} s or longer")


def test_what_is_said_of_requests_agrees_with_how_many_there_were() -> None:
    """One that began in the warm-up is not among the ``requests``, and yet some of it was done in these seconds."""
    seen = measurement.of(HTTP, 1.0, [asked(-0.5, 0.9), asked(0.4, 0.8)])
    assert seen["requests"].value == 1
    assert seen.missing["throughput"] == (
        "what was done in 1 s makes 1.19 requests, of 0.85 s each: measure for 3 s or longer"
    )


def test_where_nothing_was_answered_in_time_a_rate_says_so() -> None:
    load = http_load("/", rate=1)
    seen = measurement.of(load, 2.0, [asked(0.5, 4.0, due=0.5)])
    assert seen.missing["throughput"] == "no request was answered in 2 s: measure for longer"


def test_a_price_of_tokens_that_hardly_come_is_missing() -> None:
    bursts = [asked(9.0 + at / 100, ttft=0.01) for at in range(90)]
    seen = measurement.of(STREAM, 10.0, bursts, usd_h=1.0)
    assert seen["output_throughput"].low == 0
    assert seen.missing["usd_per_million_tokens"] == "the token throughput is too unsure"


def test_times_between_tokens_that_came_together_are_no_numbers() -> None:
    """A server, or a driver, that is late now and then: a time of 0 s would be its lateness."""
    bursts = measurement.of(STREAM, 10.0, steady(10.0, ttft=0.02, gaps=(0.0, 0.0, 0.01) * 4))
    assert (
        bursts.missing["itl_p50"]
        == bursts.missing["itl_p90"]
        == ("960 of 1440 pieces of streams came together with the one before")
    )
    assert bursts["tpot_p50"].value == pytest.approx(0.04 / 12)
    well, late = steady(10.0, ttft=0.02, gaps=(0.01,) * 6), steady(10.0, ttft=0.08, gaps=(0.0,) * 6)
    some = measurement.of(STREAM, 10.0, [*well[:100], *late[100:]])
    assert some.missing["itl_p50"] == some.missing["tpot_p90"]
    assert some.missing["tpot_p50"].startswith("the tokens of 20 of 100 answers came all at once")
    assert some["ttft_p50"].low > 0
    short = measurement.of(STREAM, 10.0, steady(10.0, ttft=0.08, gaps=(0.0,), tokens=2))
    assert "tpot_p50" in short.missing
    few = measurement.of(STREAM, 10.0, [*well[:115], *late[115:]])
    assert few["tpot_p50"].low > 0
    assert few["itl_p50"].low > 0


def test_without_an_slo_there_is_no_goodput() -> None:
    assert "goodput" not in measurement.of(HTTP, 10.0, steady(10)).figures
