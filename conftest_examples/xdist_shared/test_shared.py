"""Eight tests, four workers, one instance."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from pytest_vastgpu import VastInstance

LEARNED = {
    "Nothing is": " left running.",
    "A port that is open": " is not yet a model that answers.",
    "The cheapest machine": " is the one that works.",
    "One success": " does not make a host reliable.",
    "Tests that share": " a server share its bill.",
    "Who are you?\n": "A very small language model.",
    "What is left running?\n": "Nothing at all.",
    "What is the capital of Sweden?\n": "Stockholm.",
}


def first(path: Path, text: str) -> str:
    """What the first one to come wrote there; a link to a complete file appears at once or not at all."""
    own = path.with_name(uuid4().hex)
    own.write_text(text, encoding="utf-8")
    with suppress(FileExistsError):
        path.hardlink_to(own)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("prompt", LEARNED)
def test_every_worker_talks_to_the_same_instance(vast_instance: VastInstance, run_directory: Path, prompt: str):
    asked = {"model": "quickstart-30k", "prompt": prompt, "temperature": 0}
    answer = httpx.post(
        f"{vast_instance.endpoint}/v1/completions", json=asked, headers=vast_instance.headers, timeout=30
    )
    assert answer.raise_for_status().json()["choices"][0]["text"] == LEARNED[prompt]

    # Whoever is first leaves a mark on the instance, and here what it was; all others find both.
    own = uuid4().hex
    mark = vast_instance.run(f"echo {own} > {own}; ln {own} mark 2>/dev/null; cat mark").stdout
    assert mark
    assert first(run_directory / "mark", f"{vast_instance.id} {mark}") == f"{vast_instance.id} {mark}"
