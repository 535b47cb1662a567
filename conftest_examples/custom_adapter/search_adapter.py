"""What the plugin must know of the search server: how to start it, when it is ready, whose fault a failure is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_vastgpu import Answer
from pytest_vastgpu import Failed
from pytest_vastgpu import FailureClass
from pytest_vastgpu import HttpServer
from pytest_vastgpu import Launch
from pytest_vastgpu import Observation
from pytest_vastgpu import Progress
from pytest_vastgpu import Question
from pytest_vastgpu import Readiness
from pytest_vastgpu import Ready
from pytest_vastgpu import Verdict
from pytest_vastgpu import Warming
from pytest_vastgpu import Workload
from pytest_vastgpu import build

HERE = Path(__file__).parent
BAD_DOCUMENT = 3
"""The exit code that means: a document cannot be indexed."""


def search(documents: Path) -> Workload:
    """A workload that serves a search over the lines of a file."""
    files = {"documents.txt": documents, "search_server.py": HERE / "search_server.py"}
    return build("search", files=files, gpus=0)


class SearchAdapter(HttpServer):
    """The search server: ready when every document is indexed."""

    name = "search"
    default_image = "python:3.12-slim"
    warmup_s = 60.0
    key_header = "X-Search-Key: "

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch(f"exec python3 search_server.py {workload.port}\n", {"SEARCH_KEY": api_key})

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        return (Question("status", "/status"),)

    def served(self, workload: Workload, answers: Mapping[str, Answer]) -> Readiness | None:
        answer = answers.get("status")
        told = answer.json() if answer is not None and answer.status == 200 else None
        if not isinstance(told, dict):
            return None  # nothing answers yet: log, exit and GPUs decide
        if told["indexed"] == told["documents"]:
            return Ready()
        return Warming(Progress("indexing", told["indexed"], told["documents"]))

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        if seen.exit_code == BAD_DOCUMENT:
            return Failed(
                Verdict(
                    FailureClass.WORKLOAD_FATAL,  # every other host would be given the same document
                    "bad_document",
                    seen.log.strip().rpartition("\n")[2],
                    "correct that line of the documents file",
                )
            )
        return super().assess(workload, seen)
