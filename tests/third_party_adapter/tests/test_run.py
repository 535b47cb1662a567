"""The search server, rented and asked."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from vastgpu_adapter_search import search

from pytest_vastgpu import VastInstance
from pytest_vastgpu import Workload


@pytest.fixture(scope="session")
def vast_workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    documents = tmp_path_factory.mktemp("documents") / "documents.txt"
    documents.write_text("zebra zoo\nbanana\n", encoding="utf-8")
    return search(documents)


def found(instance: VastInstance, query: str) -> str:
    request = urllib.request.Request(
        f"{instance.endpoint}/search", json.dumps({"query": query}).encode(), dict(instance.headers)
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["found"])


def test_the_best_document_is_found(vast_instance: VastInstance) -> None:
    assert found(vast_instance, "zz") == "zebra zoo"
    assert found(vast_instance, "aaan") == "banana"


def test_all_documents_were_indexed_before_the_first_test(vast_instance: VastInstance) -> None:
    assert "indexed 2/2" in vast_instance.logs()


def test_a_document_that_cannot_be_indexed_is_our_fault(
    vast_instance_factory: Callable[[Workload], VastInstance], tmp_path: Path
) -> None:
    documents = tmp_path / "documents.txt"
    documents.write_text("long enough\nno\n", encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match="bad_document") as failed:
        vast_instance_factory(search(documents))
    assert "cannot index document 2 of 2: 'no' is too short" in str(failed.value)
