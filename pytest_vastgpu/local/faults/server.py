"""Faults of servers: a program replaces the real server in the instance.

Parameter ``program`` is the name by which the start script calls the server. A call is the server's if one of its
arguments contains parameter ``argument``: ``vllm`` and ``serve``, or ``python3`` and ``my_server.py``. Calls by a path,
such as ``/usr/bin/python3``, are not replaced.
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


def _log_until(stage: str) -> list[str]:
    """Return the log of a server until it reaches a stage."""
    names = list(STAGES)
    return [STAGES[name] for name in names[: names.index(stage) + 1]]


def _crash(given: Parameters) -> dict[str, Any]:
    """Return the final message of a server and its exit code."""
    says = given["says"]
    return {"text": given["text"] or CRASHES[says], "exit_code": _KILLED if says == "killed" else 1}


def _server(kind: str, more: Parameters) -> Mapping[str, Any]:
    """Return the container fault that installs :mod:`~pytest_vastgpu.local.faults.server_shim`, with its settings."""
    lines = _log_until(more.get("stage", "capturing"))
    more = {"model": "", "for_s": 0.0, "status": 0, "instead": 0, **more}
    return {"server": {"kind": kind, "lines": lines, "text": "", "exit_code": 1, **more}}


_SERVES = Within(lambda given: _server("serves", given))
"""The server serves, and something about it is wrong."""

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
        _SERVES,
        {**_PROGRAM, "model": "other/model", "port": 8000},
    ),
    FaultKind(
        "server_ready_too_early",
        "The server answers 200 and lists its model, and completes nothing for a time",
        Layer.SERVER,
        _SERVES,
        {**_PROGRAM, "for_s": 30.0, "port": 8000},
    ),
    FaultKind(
        "server_answers",
        "The server answers every request with one status, and never with another",
        Layer.SERVER,
        _SERVES,
        {**_PROGRAM, "status": 404, "port": 8000},
    ),
    FaultKind(
        "server_other_port",
        "The server listens on another port than it was asked to",
        Layer.SERVER,
        _SERVES,
        {**_PROGRAM, "instead": 9000, "port": 8000},
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
