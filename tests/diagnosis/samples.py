"""Reading the data that verdicts are tested on."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_DATA = Path(__file__).parent / "data"


HEALTHY = frozenset({FailureClass.WARMUP, FailureClass.READY})


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
    accept: frozenset[FailureClass] = frozenset()
    """Classes that are right as well."""

    @property
    def is_healthy_start(self) -> bool:
        """A log of a start that is under way, or complete."""
        return self.channel is Channel.SERVER_LOG and self.label in HEALTHY

    def right(self, failure_class: FailureClass) -> bool:
        """Whether a class is right for it."""
        return failure_class is self.label or failure_class in self.accept


def load(path: Path) -> list[Sample]:
    """Labelled outputs of a file, one JSON object a line.

    :raises ValueError: for a line that is not such an object.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            item = json.loads(line)
            found.append(
                Sample(
                    id=item.get("id") or f"{path.stem}-{number}",
                    server=item.get("server") or "",
                    channel=Channel(item["channel"]),
                    context=item.get("context") or "",
                    text=item["text"],
                    label=FailureClass(item.get("label") or item["class"]),
                    reason=item.get("reason") or "",
                    fidelity=item.get("fidelity") or "",
                    accept=frozenset(map(FailureClass, item.get("accept") or ())),
                )
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: no labelled output: {type(error).__name__}: {error}") from error
    return found


def samples() -> list[Sample]:
    """Labelled outputs of failures and of healthy starts, the texts on which the rules were developed."""
    return load(_DATA / "failures.jsonl")


def servers() -> list[Sample]:
    """Short logs of many kinds of servers, written for this project."""
    return load(_DATA / "servers.jsonl")


def judging() -> list[Sample]:
    """Short logs of nine servers, written by somebody who had not seen the rules, to judge the rules by."""
    return load(_DATA / "judging.jsonl")


def started() -> list[Sample]:
    """The logs of real vLLM starts that became ready, up to where something was done to them."""
    return [
        Sample(name, "vllm", Channel.SERVER_LOG, "gpus=0", _until_ready(text), FailureClass.READY, "", "local")
        for name, text in logs().items()
        if name.startswith(("good-", "crash-"))
    ]


def _until_ready(log: str) -> str:
    found = re.search(r".*Application startup complete.*\n", log)
    assert found
    return log[: found.end()]


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
