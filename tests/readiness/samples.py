"""Reading the data that verdicts are tested on."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Sample:
    """One labelled output."""

    id: str
    server: str
    channel: Channel
    context: str
    text: str
    label: FailureClass
    reason: str
    fidelity: str


def samples() -> list[Sample]:
    """All labelled outputs."""
    found = []
    for line in (_DATA / "failures.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        found.append(
            Sample(
                id=item["id"],
                server=item["server"] or "",
                channel=Channel(item["channel"]),
                context=item["context"] or "",
                text=item["text"],
                label=FailureClass(item["label"]),
                reason=item["reason"],
                fidelity=item["fidelity"],
            )
        )
    return found


def logs() -> dict[str, str]:
    """Complete logs of real vLLM starts by name, e.g. ``fail-port-in-use``."""
    with zipfile.ZipFile(_DATA / "vllm-logs.zip") as archive:
        return {
            name.removesuffix(".log"): archive.read(name).decode("utf-8", "replace")
            for name in sorted(archive.namelist())
        }
