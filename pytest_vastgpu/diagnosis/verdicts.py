"""Whose fault: from what was printed to a verdict. The engine is in :mod:`log_reader`, what it knows in ``rules/``."""

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
"""Classes that end a start: waiting longer cannot help."""


def ends_start(verdict: Verdict) -> bool:
    """Whether a server that lives, and may even answer, is given up for this."""
    return verdict.failure_class in FINAL or verdict.reason == BUILT_WITHOUT_GPU.reason


def classify(
    text: str, *, channel: Channel, server: str = "", context: str = "", exit_code: int | None = None
) -> Verdict:
    """Whose fault a text tells of.

    :param text: What was read, all of it or its end.
    :param channel: Where it was read.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param context: What else is known of the moment: ``phase=booting``, ``phase=running_for_minutes``.
    :param exit_code: Of the program that printed it; None while it runs, or where that is not known.
    """
    reader = LogReader(channel=channel, server=server, context=context)
    reader.feed(text)
    reader.finish()
    return reader.verdict(exit_code, complete=True)


class Judgement(NamedTuple):
    """What a server's log says so far."""

    verdict: Verdict
    progress: Progress


_KEPT = 16
_lock = threading.Lock()
_readers: OrderedDict[tuple[str, str, str], LogReader] = OrderedDict()
"""Readers by kind of server, context and what they have read: a growing log is asked about ten times a second."""


def judge_log(
    log: str, *, server: str = "", context: str = "", exit_code: int | None = None, still_s: float = 0.0
) -> Judgement:
    """What a server's log says, each line of it read once however often it is asked about while it grows.

    :param log: All of it so far, from the first byte of this start.
    :param server: Kind of server, e.g. ``vllm``; empty where it is not known.
    :param context: What else is known, e.g. ``gpus=0``.
    :param exit_code: The server's, or None while it runs.
    :param still_s: Seconds for which the running server has shown nothing new.
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


def judge_end(log: str, *, exit_code: int, server: str = "", context: str = "") -> Verdict:
    """What a server's log says of its end, where the instance still answers: then the machine did not go away."""
    verdict = judge_log(log, server=server, context=context, exit_code=exit_code).verdict
    if verdict.failure_class is FailureClass.RUNTIME_LOST:
        return replace(verdict, failure_class=FailureClass.UNKNOWN)
    return verdict
