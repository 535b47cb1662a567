from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vastgpu.core.text.layout import columns_of
from pytest_vastgpu.model import Progress
from pytest_vastgpu.reporting.waiting import Waiting
from pytest_vastgpu.reporting.waiting import sentence
from pytest_vastgpu.reporting.waiting import stage
from pytest_vastgpu.reporting.waiting import status

WARMING = Waiting(
    "vllm 'Qwen/Qwen3-8B'", 270.0, "loading weights 3/8", 123, "RTX 4090", "warm-up window", 600.0, 500.0, 0.021
)
SENDING = replace(
    WARMING, workload="llama.cpp 'model.gguf'", seconds=75.0, doing="bringing files: 266.1 of 300.0 MB, 38 MB/s"
)
SEARCHING = Waiting("vllm 'Qwen/Qwen3-8B'", 45.0, "looking for an offer")
OPENING = Waiting("the market", 31.0, "")
WHOLE = (
    "waiting 4 min 30 s for vllm 'Qwen/Qwen3-8B' on instance 123 (RTX 4090): loading weights 3/8; "
    "warm-up window 10 min, 8 min 20 s left; 0.0210 USD so far"
)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (WARMING, WHOLE),
        (
            replace(WARMING, window="", machine="RTX 4090, attempt 2"),
            "waiting 4 min 30 s for vllm 'Qwen/Qwen3-8B' on instance 123 (RTX 4090, attempt 2): loading weights 3/8; "
            "0.0210 USD so far",
        ),
        (SEARCHING, "waiting 45 s for vllm 'Qwen/Qwen3-8B': looking for an offer"),
        (OPENING, "waiting 31 s for the market"),
    ],
)
def test_a_wait_is_a_sentence(waiting: Waiting, expected: str) -> None:
    assert sentence(waiting) == expected


def test_time_goes_on_between_two_reports() -> None:
    assert sentence(WARMING, 12.0).startswith("waiting 4 min 42 s for")
    assert "8 min 8 s left" in sentence(WARMING, 12.0)
    assert "; warm-up window 10 min, 0 s left;" in sentence(WARMING, 999.0)


@pytest.mark.parametrize(
    ("waiting", "columns", "expected"),
    [
        (WARMING, 160, WHOLE),
        (WARMING, 110, "4 min 30 s (8 min left), 0.0210 USD, vllm 'Qwen/Qwen3-8B': loading weights 3/8"),
        (WARMING, 70, "4 min 30 s (8 min left), 0.0210 USD, vllm 'Qwen/…: loading weights 3/8"),
        (replace(WARMING, left_s=63), 70, "4 min 30 s (1 min 3 s left), 0.0210 USD, vllm 'Q…: loading weights 3/8"),
        (replace(WARMING, left_s=63), 66, "4 min 30 s (1 min 3 s left), 0.0210 USD, loading weights 3/8"),
        (SENDING, 70, "1 min 15 s (8 min left), bringing files: 266.1 of 300.0 MB, 38 MB/s"),
        (replace(SENDING, seconds=7), 70, "7 s (8 min left), llama.c…: bringing files: 266.1 of 300.0 MB, 38 MB/s"),
        (SENDING, 60, "1 min 15 s (8 min left), 0.0210 USD, llama.…: bringing file…"),
        (SEARCHING, 70, "waiting 45 s for vllm 'Qwen/Qwen3-8B': looking for an offer"),
        (SEARCHING, 40, "45 s, vllm 'Qwen/…: looking for an offer"),
        (OPENING, 70, "waiting 31 s for the market"),
    ],
)
def test_a_narrow_terminal_gets_the_facts_first(waiting: Waiting, columns: int, expected: str) -> None:
    assert status(waiting, columns) == expected


@pytest.mark.parametrize("columns", range(1, 180))
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    for waiting in (WARMING, SEARCHING, OPENING, replace(WARMING, doing="模型" * 60, workload="模" * 70)):
        assert columns_of(status(waiting, columns)) <= columns


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress("weights", 3, 8), "loading weights 3/8"),
        (Progress("graphs"), "capturing graphs"),
        (Progress("downloading", 40, 100), "downloading 40/100"),
        (Progress("indexing", 1, 2), "indexing 1/2"),
        (Progress("starting"), ""),
    ],
)
def test_a_stage_is_said_in_words(progress: Progress, words: str) -> None:
    assert stage(progress) == words
