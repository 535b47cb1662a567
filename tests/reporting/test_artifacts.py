from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting import artifacts

SECRETS = artifacts.secrets_of(
    Workload("vllm", env=(("HF_TOKEN", "abc"), ("MODE", "on"), ("PLACE", "somewhere private"))), account="a1b2c3"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HF_TOKEN abc, MODE on", "HF_TOKEN <HF_TOKEN>, MODE on"),
        ("read somewhere private", "read <PLACE>"),
        ("key a1b2c3", "key <account>"),
        ("Authorization: Bearer s3cr3t!", "Authorization: Bearer <removed>"),
        ("use hf_0123456789xyz now", "use <removed> now"),
        ("vllm serve m --api-key topsecret --port 1", "vllm serve m --api-key <removed> --port 1"),
        ("args: {'api_key': ['topsecret'], 'port': 1}", "args: {'api_key': ['<removed>'], 'port': 1}"),
        ('{"api_key": "topsecret"}', '{"api_key": "<removed>"}'),
        ("VLLM_API_KEY=topsecret", "VLLM_API_KEY=<removed>"),
        ("max_tokens 16, 5 tokens/s", "max_tokens 16, 5 tokens/s"),
    ],
)
def test_secrets_are_removed_and_nothing_else(text: str, shown: str) -> None:
    assert artifacts.redacted(text, SECRETS) == shown


def test_a_secret_that_is_part_of_another_gives_nothing_of_it_away() -> None:
    assert artifacts.redacted("abcdef", {"abc": "<short>", "abcdef": "<long>"}) == "<long>"


def test_a_long_text_keeps_its_start_and_its_end() -> None:
    text = artifacts.bounded("a" * 500 + "b" * 500, 100)
    assert text.startswith("a" * 50)
    assert text.endswith("b" * 50)
    assert "900 characters left out" in text
    assert artifacts.bounded("short", 100) == "short"


def test_the_timeline_is_of_one_attempt_only() -> None:
    rows = [json.dumps({"time": 1, "label": label, "text": "t"}) + "\n" for label in ("run-1", "run-11", "run-1")]
    assert artifacts.timeline("".join(rows), "run-1") == rows[0] + rows[2]


def test_all_files_together_are_bounded_and_free_of_secrets(tmp_path: Path) -> None:
    files = {f"{n}.txt": "a1b2c3 " + "x" * artifacts.FILE_CHARS for n in range(6)}
    artifacts.write_files(tmp_path, files, SECRETS)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) == len(files)
    assert max(map(len, texts)) < artifacts.FILE_CHARS + 100
    assert sum(map(len, texts)) < artifacts.TOTAL_CHARS + 6 * 100
    assert not any("a1b2c3" in text for text in texts)
