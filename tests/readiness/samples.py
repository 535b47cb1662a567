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


@dataclass(frozen=True)
class Message:
    """What one program prints, and whose fault it tells of."""

    label: FailureClass
    channel: Channel
    server: str
    context: str
    text: str


def messages() -> list[Message]:
    """Messages of many programs."""
    lines = (_DATA / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Message(
            label=FailureClass(item["class"]),
            channel=Channel(item["channel"]),
            server=item.get("server", ""),
            context=item.get("context", ""),
            text=item["text"],
        )
        for item in map(json.loads, lines)
    ]


def healthy_lines() -> list[str]:
    """Lines that starts print which become ready."""
    return (_DATA / "healthy_lines.txt").read_text(encoding="utf-8").splitlines()


def logs() -> dict[str, str]:
    """Complete logs of real vLLM starts by name, e.g. ``fail-port-in-use``."""
    with zipfile.ZipFile(_DATA / "vllm-logs.zip") as archive:
        return {
            name.removesuffix(".log"): archive.read(name).decode("utf-8", "replace")
            for name in sorted(archive.namelist())
        }
