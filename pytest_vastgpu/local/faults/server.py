"""Servers that fail: a program of that name takes the place of the real one in the instance.

Each takes ``program``, the server's name as its start script calls it, and ``argument``, which one of its arguments
must contain for the call to be the server's: ``vllm`` and ``serve``, or ``python3`` and ``my_server.py``. A path to
the program, such as ``/usr/bin/python3``, is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.effects import Parameters
from pytest_vastgpu.local.faults.effects import Within
from pytest_vastgpu.local.faults.server_texts import CRASHES
from pytest_vastgpu.local.faults.server_texts import STAGES

_PROGRAM: Mapping[str, float | str] = {"program": "vllm", "argument": "serve"}
_SAYS = {"says": frozenset(CRASHES)}
_STAGE = {"stage": frozenset(STAGES)}
_KILLED = 137


def _said_until(stage: str) -> list[str]:
    """What a server says on its way to a stage."""
    names = list(STAGES)
    return [STAGES[name] for name in names[: names.index(stage) + 1]]


def _crash(given: Parameters) -> dict[str, Any]:
    """What a server says as its last."""
    says = given["says"]
    return {"text": given["text"] or CRASHES[says], "exit_code": _KILLED if says == "killed" else 1}


def _server(kind: str, more: Parameters) -> Mapping[str, Any]:
    lines = _said_until(more.get("stage", "capturing"))
    return {"server": {"kind": kind, "lines": lines, "text": "", "exit_code": 1, **more}}


SERVER_FAULTS: tuple[FaultKind, ...] = (
    FaultKind(
        "server_crash",
        "The server says how far it is, then why it fails, and ends; text: words of your own instead",
        Layer.SERVER,
        Within(lambda given: _server("crashes", {**given, **_crash(given)})),
        {**_PROGRAM, "stage": "loading", "says": "out_of_memory_loading", "text": "", "after_s": 0.0},
        {**_SAYS, **_STAGE},
    ),
    FaultKind(
        "server_hangs",
        "The server gets as far as a stage, and no further",
        Layer.SERVER,
        Within(lambda given: _server("hangs", given)),
        {**_PROGRAM, "stage": "loading"},
        _STAGE,
    ),
    FaultKind(
        "server_other_model",
        "The server serves another model than it was asked for",
        Layer.SERVER,
        Within(lambda given: _server("serves", {**given, "for_s": 0.0})),
        {**_PROGRAM, "model": "other/model", "port": 8000},
    ),
    FaultKind(
        "server_ready_too_early",
        "The server answers 200 and lists its model, and completes nothing for a time",
        Layer.SERVER,
        Within(lambda given: _server("serves", {**given, "model": ""})),
        {**_PROGRAM, "for_s": 30.0, "port": 8000},
    ),
    FaultKind(
        "endless_line",
        "A program prints a line without end; by default our own watcher's, as a host could have it",
        Layer.SERVER,
        Within(lambda given: _server("floods", given)),
        {"program": "bash", "argument": "watch.sh"},
    ),
    FaultKind(
        "server_dies",
        "The real server is killed a time after its port first answered; says: what it prints then",
        Layer.MID_TEST,
        Within(lambda given: _server("dies", {**given, **_crash({**given, "text": ""})})),
        {**_PROGRAM, "after_s": 5.0, "says": "silent", "port": 8000},
        _SAYS,
    ),
    FaultKind(
        "server_freezes",
        "The real server is stopped, not ended, a time after its port first answered",
        Layer.MID_TEST,
        Within(lambda given: _server("freezes", given)),
        {**_PROGRAM, "after_s": 5.0, "port": 8000},
    ),
)
