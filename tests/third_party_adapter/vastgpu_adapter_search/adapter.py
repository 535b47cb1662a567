"""The adapter: how the search server is started, when it is ready, whose fault a failure is."""

from __future__ import annotations

from collections.abc import Mapping

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
from pytest_vastgpu import detail

BAD_DOCUMENT = 3
"""The exit code that means: a document cannot be indexed."""


class SearchAdapter(HttpServer):
    """The search server: ready when every document is indexed and one is found."""

    name = "search"
    default_image = "python:3.12-slim"
    warmup_s = 60.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start the server that travelled along."""
        shortest = int(detail(workload, "shortest"))
        script = f'exec python3 search_server.py "${{VASTGPU_HOST:-127.0.0.1}}" {workload.port} {shortest}\n'
        return Launch(script, {"SEARCH_KEY": api_key})

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """How far the index is; and once it is complete, whether something is found."""
        return (
            Question("status", "/status", holds='"complete": true'),
            Question("found", "/search", {"query": "a"}),
        )

    def served(self, workload: Workload, answers: Mapping[str, Answer]) -> Readiness | None:
        """Ready once a search has an answer; until then as far as the index is."""
        found, status = answers.get("found"), answers.get("status")
        if found is not None and found.status == 200:
            return Ready()
        told = status.json() if status is not None and status.status == 200 else None
        if isinstance(told, dict) and not told["complete"]:
            return Warming(Progress("indexing", told["indexed"], told["documents"]))
        return None

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """What any HTTP server's state says, and one exit code of this server's own."""
        if seen.exit_code == BAD_DOCUMENT:
            last = seen.log.strip().rpartition("\n")[2]
            # Every other host would be given the same document.
            verdict = Verdict(FailureClass.WORKLOAD_FATAL, "bad_document", last, "correct that line of the documents")
            return Failed(verdict)
        return super().assess(workload, seen)
