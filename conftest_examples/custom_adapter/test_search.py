"""The search server, rented and asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from search_adapter import search

from pytest_vastgpu import VastInstance
from pytest_vastgpu import Workload


@pytest.mark.parametrize(
    ("query", "words"),
    [("pressing Ctrl-C on the keyboard", "interrupts a run"), ("is a port opened?", "tunnel through SSH")],
)
def test_the_best_document_comes_first(vast_instance: VastInstance, query: str, words: str):
    found = httpx.get(
        f"{vast_instance.endpoint}/search", params={"q": query}, headers=vast_instance.headers, timeout=30
    ).json()
    assert words in found[0]["text"]
    assert found[0]["score"] > found[1]["score"]


def test_the_adapters_own_header_is_needed(vast_instance: VastInstance):
    assert httpx.get(f"{vast_instance.endpoint}/search", params={"q": "tunnel"}, timeout=30).status_code == 403


def test_all_documents_were_indexed_before_the_first_test(vast_instance: VastInstance):
    assert "indexed 8/8" in vast_instance.logs()


def test_a_document_that_cannot_be_indexed_is_our_fault(
    vast_instance_factory: Callable[[Workload], VastInstance], tmp_path: Path
):
    documents = tmp_path / "documents.txt"
    documents.write_text("A document that is long enough.\nno\n", encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match="bad_document") as failed:
        vast_instance_factory(search(documents))
    assert "cannot index document 2 of 2: 'no' is too short" in str(failed.value)
