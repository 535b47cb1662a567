"""Other drivers: how they are run, and their results, as recorded of the real programs (``data/``)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu import ConfigurationError
from pytest_vastgpu import Load
from pytest_vastgpu import MeasurementFailed
from pytest_vastgpu import chat
from pytest_vastgpu import completions
from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring import others
from pytest_vastgpu.measuring import seen
from pytest_vastgpu.measuring.load import DRIVERS

DATA = Path(__file__).with_name("data")
RECORDED = {
    "vllm bench serve": "vllm_bench_serve-0.32.0.json",
    "guidellm": "guidellm-0.8.1.json",
    "aiperf": "aiperf-0.13.0.jsonl",
}
"""Two requests of 8 tokens at a time; the server waits 20 ms before the first token and 5 ms after each, and refuses
each fifth with 503. Of guidellm's, only what tells of single requests is kept."""
THEIR_MEDIANS = {
    "vllm bench serve": {"ttft": 0.04590093, "e2e": 0.07536555},
    "guidellm": {"ttft": 0.02206779, "e2e": 0.06995082},
    "aiperf": {"ttft": 0.05465387, "e2e": 0.07355294},
}
"""What each says itself of those that were answered, in seconds. vLLM's only with a tokenizer: these are medians of
its lists."""
KEY = "k-secret-123"


def load(driver: str, **more: Any) -> Load:
    return completions("Request {n}: a ship", model="tiny", max_tokens=8, driver=driver, **{"concurrency": 2, **more})


def program(asked: Load, each_s: float = 0.1) -> others.Program:
    return others.program(asked, 8000, KEY, 5.0, each_s=each_s, first_number=1000000)


def ended(driver: str, *results: str, **more: Any) -> dict[str, Any]:
    """What the driver tells of a program that has ended."""
    found = {"exit_code": 0, "killed": False, "said": "", "results": list(results), "gpu": ["a"], "gpu_at": [3.0]}
    return {**found, "monotonic": 0.0, "epoch": 0.0, **more}


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_results_of_each_become_a_measurement(driver: str) -> None:
    asked = load(driver, most_errors=0.5)
    seconds, found = others.seen(asked, ended(driver, (DATA / RECORDED[driver]).read_text()))
    done = [each for each in found["seen"] if not each["error"]]
    assert {
        "ttft": statistics.median(each["first"] - each["start"] for each in done),
        "e2e": statistics.median(each["end"] - each["start"] for each in done),
    } == pytest.approx(THEIR_MEDIANS[driver], rel=0.001)
    assert {each["tokens"] for each in done} == {8}
    assert {each["start"] <= each["first"] <= each["last"] <= each["end"] + 1e-6 for each in done} == {True}
    seen.check(asked, seconds, found)
    told = measurement.of(asked, seconds, found["seen"])
    assert sum(told.errors.values()) >= 3
    assert all("503" in reason or "Service Unavailable" in reason for reason in told.errors)
    assert told["throughput"].value > 0


@pytest.mark.parametrize("tokens", [-4, 10**400], ids=["negative", "of 401 digits"])
def test_a_number_of_tokens_that_none_can_be_does_not_count(tokens: int) -> None:
    told = json.loads((DATA / RECORDED["vllm bench serve"]).read_text())
    told["output_lens"] = [tokens for _ in told["output_lens"]]
    _, found = others.seen(load("vllm bench serve"), ended("vllm bench serve", json.dumps(told)))
    done = [each for each in found["seen"] if not each["error"]]
    assert [(each["tokens"], each["counted"]) for each in done] == [(each["pieces"], "pieces") for each in done]


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_asks_what_the_load_says(driver: str) -> None:
    """With prompts of its own numbers, and no key where a process list shows it."""
    made = program(load(driver, temperature=0.5, timeout_s=7.0, seed=3))
    prompts = [next(iter(json.loads(line).values())) for line in made.files[others.PROMPTS].splitlines()]
    assert prompts[:2] == ["Request 1000000: a ship", "Request 1000001: a ship"]
    assert len(prompts) == len(set(prompts)) >= 5.0 * 2 / 0.1
    told = made.command + made.files.get(others.CONFIG, "")
    assert "http://127.0.0.1:8000" in told
    assert "tiny" in told
    assert "temperature" in told
    assert KEY not in made.command
    assert made.env[others.KEY] == KEY


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_open_loop_is_one_there_too(driver: str) -> None:
    closed, opened = (program(load(driver, **pace)) for pace in ({}, {"rate": 7.25, "concurrency": 0}))
    told = [each.command + each.files.get(others.CONFIG, "") for each in (closed, opened)]
    assert ["7.25" in each for each in told] == [False, True]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "asked",
    [
        lambda driver: chat(
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], model="m", driver=driver
        ),
        lambda driver: completions(model="m", stream=False, driver=driver),
    ],
)
def test_what_they_cannot_ask_is_a_usage_error(driver: str, asked: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"driver='{driver}' asks one text at a time"):
        program(asked(driver))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"exit_code": 127, "said": "sh: 1: not found"},
            "is not on the instance: install it with the workload's setup",
        ),
        ({"exit_code": 2, "said": "usage:\x1b[31m unrecognized"}, "failed with exit code 2; it said: usage:"),
        ({"exit_code": -9, "killed": True, "said": "50 %"}, "did not end in time; it said: 50 %"),
        ({"results": []}, "tells of no request"),
        ({"results": ["{}"]}, "of another form"),
        ({"results": ["oops"]}, "of another form"),
    ],
)
def test_one_that_fails_says_why(driver: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        others.seen(load(driver), ended(driver, **more))
    assert said in str(caught.value)
    assert str(caught.value).count("\n") == str(caught.value).count("\x1b") == 0


def test_the_gpus_lines_are_on_the_clock_of_the_requests() -> None:
    """The first request was sent 2 s after the program was started."""
    told = {"start_times": [102.0, 103.0], "ttfts": [0.1, 0.1], "itls": [[0.1], [0.1]], "latencies": [0.2, 0.2]}
    text = json.dumps({**told, "output_lens": [2, 2], "errors": ["", ""]})
    seconds, found = others.seen(load("vllm bench serve"), ended("vllm bench serve", text, monotonic=100.0))
    assert (seconds, found["gpu_at"], [each["start"] for each in found["seen"]]) == (1.0, [1.0], [0.0, 1.0])
