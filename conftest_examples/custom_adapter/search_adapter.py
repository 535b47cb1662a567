"""What the plugin must know of the search server: how to start it, when it is ready, whose fault a failure is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pytest_vastgpu import Failed
from pytest_vastgpu import FailureClass
from pytest_vastgpu import Launch
from pytest_vastgpu import Observation
from pytest_vastgpu import Probe
from pytest_vastgpu import Progress
from pytest_vastgpu import Readiness
from pytest_vastgpu import Ready
from pytest_vastgpu import Verdict
from pytest_vastgpu import Warming
from pytest_vastgpu import Workload

HERE = Path(__file__).parent
BAD_DOCUMENT = 3
"""The exit code that means: a document cannot be indexed."""


def search(documents: Path) -> Workload:
    """A workload that serves a search over the lines of a file."""
    files = (("documents.txt", str(documents)), ("search_server.py", str(HERE / "search_server.py")))
    return Workload(adapter="search", files=files, gpus=0)


class SearchAdapter:
    """The search server: ready when every document is indexed."""

    name = "search"
    default_image = "python:3.12-slim"
    warmup_s = 60.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch(f"exec python3 search_server.py {workload.port}\n", {"SEARCH_KEY": api_key})

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        return {"X-Search-Key": api_key}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{workload.port}/status').read().decode())"
        return (Probe("status", f'python3 -c "{ask}"'),)

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
        if seen.exit_code is not None:
            evidence = f"exit code {seen.exit_code}; its last line: {seen.log.strip().rpartition(chr(10))[2]}"
            return Failed(Verdict(FailureClass.UNKNOWN, "server_ended", evidence, "read the server's log"))
        status = seen.probes.get("status")
        if status is not None and status.ok:
            answer = json.loads(status.stdout)
            if answer["indexed"] == answer["documents"]:
                return Ready()
        done = re.findall(r"^indexed (\d+)/(\d+)$", seen.log, re.MULTILINE)
        return Warming(Progress("indexing", *map(int, done[-1])) if done else Progress("starting"))
