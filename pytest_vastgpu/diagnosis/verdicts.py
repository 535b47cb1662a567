"""Gives the verdict of a text: whose fault it reports. :mod:`log_reader` is the engine, ``rules/`` has the causes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

from pytest_vastgpu.diagnosis.log_reader import LogReader
from pytest_vastgpu.diagnosis.rules.gpu import BUILT_WITHOUT_GPU
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict

__all__ = ["FINAL", "Judgement", "LogReader", "classify", "judge_end", "judge_log"]

FINAL = frozenset({FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE, FailureClass.WORKLOAD_FATAL})
"""Classes that end a start, because waiting longer cannot help."""


def ends_start(verdict: Verdict) -> bool:
    """Whether this verdict ends the start of a server that still runs and may even answer."""
    return verdict.failure_class in FINAL or verdict.reason == BUILT_WITHOUT_GPU.reason


def classify(
    text: str, *, channel: Channel, server: str = "", context: str = "", exit_code: int | None = None
) -> Verdict:
    """The verdict of a text: whose fault it reports.

    :param text: The text, all of it or its end.
    :param channel: The source of the text.
    :param server: Kind of server, e.g. ``vllm``; empty if unknown.
    :param context: Further facts about the situation: ``phase=booting``, ``phase=running_for_minutes``.
    :param exit_code: Exit code of the program that printed the text; None while it runs, or if unknown.
    """
    reader = LogReader(channel=channel, server=server, context=context)
    reader.feed(text)
    reader.finish()
    return reader.verdict(exit_code, complete=True)


class Judgement(NamedTuple):
    """The result of a server's log so far."""

    verdict: Verdict
    progress: Progress


_KEPT = 16
_lock = threading.Lock()
_readers: OrderedDict[tuple[str, str, str], LogReader] = OrderedDict()
"""Readers by kind of server, context and text read so far: a growing log is judged about ten times a second."""


def judge_log(
    log: str, *, server: str = "", context: str = "", exit_code: int | None = None, still_s: float = 0.0
) -> Judgement:
    """Judge a server's log. Each line is read once, however often the growing log is judged.

    :param log: The whole log so far, from the first byte of this start.
    :param server: Kind of server, e.g. ``vllm``; empty if unknown.
    :param context: Further facts, e.g. ``gpus=0``.
    :param exit_code: The server's exit code, or None while it runs.
    :param still_s: Seconds since the running server last printed something new.
    """
    with _lock:
        known = [key for key in _readers if key[:2] == (server, context) and log.startswith(key[2])]
        longest = max(known, key=lambda key: len(key[2]), default=None)
        reader = _readers.pop(longest) if longest else LogReader(server=server, context=context)
        reader.feed(log[len(longest[2]) if longest else 0 :])
        if exit_code is None:
            _readers[server, context, log] = reader
            if len(_readers) > _KEPT:
                _readers.popitem(last=False)
        else:
            reader.finish()
        return Judgement(reader.verdict(exit_code, still_s=still_s), reader.progress)


def prepare() -> None:
    """Do at once what the first judgement of a log would do. That takes some hundredths of a second."""
    LogReader()


def judge_end(log: str, *, exit_code: int, server: str = "", context: str = "") -> Verdict:
    """The verdict of the log of a server that has ended while the instance still answers: the machine is not lost."""
    verdict = judge_log(log, server=server, context=context, exit_code=exit_code).verdict
    if verdict.failure_class is FailureClass.RUNTIME_LOST:
        return replace(verdict, failure_class=FailureClass.UNKNOWN)
    return verdict
