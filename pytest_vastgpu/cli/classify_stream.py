"""What ``vastgpu classify`` does: reads text and prints whose fault it reports."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import TextIO

from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.diagnosis.verdicts import LogReader
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict

USAGE_EXIT_CODE = 2
EXIT_CODES = {
    FailureClass.INFRA_FATAL: 10,
    FailureClass.INCOMPATIBLE: 11,
    FailureClass.WORKLOAD_FATAL: 12,
    FailureClass.RUNTIME_LOST: 13,
    FailureClass.OWN_FAULT: 14,
    FailureClass.UNKNOWN: 15,
    FailureClass.WARMUP: 0,
    FailureClass.READY: 0,
}
"""Exit codes by class, on request."""
_NO_TEXT = Verdict(FailureClass.UNKNOWN, "no_text", "", "there is no text to judge: give the log on standard input")
_CHUNK_CHARS = 1 << 16
_MEANING = {
    FailureClass.INFRA_FATAL: "this machine is at fault; an equal one would do",
    FailureClass.INCOMPATIBLE: "nobody's fault; another kind of machine is needed",
    FailureClass.WORKLOAD_FATAL: "the workload is at fault; it would fail the same everywhere",
    FailureClass.RUNTIME_LOST: "it was ready, and ended",
    FailureClass.OWN_FAULT: "this side's own network, key, credit or time limit",
    FailureClass.WARMUP: "still under way; nothing wrong is seen",
    FailureClass.UNKNOWN: "cannot be said from this text",
    FailureClass.READY: "the start is complete",
}


def classify_stream(
    stdin: TextIO,
    stdout: TextIO,
    *,
    server: str = "",
    channel: str = Channel.SERVER_LOG.value,
    context: str = "",
    as_json: bool = False,
    jsonl: bool = False,
    exit_code: bool = False,
    stderr: TextIO | None = None,
) -> int:
    """Judge a whole text, or each line by itself.

    :param server: Kind of server, e.g. ``vllm``; empty if unknown.
    :param channel: Source of the text, one of the values of :class:`~pytest_vastgpu.model.Channel`.
    :param context: Further facts about the situation, e.g. ``phase=booting``.
    :param as_json: Print one JSON object instead of words.
    :param jsonl: Each input line is a JSON object with ``text`` and optionally ``server``, ``channel``, ``context``;
        these take precedence over the parameters of that name. For each line one JSON object is printed, in order, also
        for a line that cannot be judged.
    :param exit_code: Return the verdict's number in :data:`EXIT_CODES`; not with ``jsonl``.
    :param stderr: Where errors are printed; None: the process's own.
    :returns: 0, or 2 for an unknown channel or a line that is not such an object.
    """
    errors = stderr or sys.stderr
    try:
        if jsonl:
            return _judge_lines(stdin, stdout, errors, {"server": server, "channel": channel, "context": context})
        verdict = _judge_text(stdin, server, _channel(channel), context)
        stdout.write(json.dumps(_as_dict(verdict)) + "\n" if as_json else _in_words(verdict))
    except ValueError as error:
        errors.write(f"vastgpu classify: {error}\n")
        return USAGE_EXIT_CODE
    return EXIT_CODES[verdict.failure_class] if exit_code else 0


def _judge_text(stdin: TextIO, server: str, channel: Channel, context: str) -> Verdict:
    reader = LogReader(channel=channel, server=server, context=context)
    blank = True
    while chunk := stdin.read(_CHUNK_CHARS):
        blank = blank and not chunk.strip()
        reader.feed(chunk)
    reader.finish()
    return _NO_TEXT if blank else reader.verdict(complete=True)


def _judge_lines(stdin: TextIO, stdout: TextIO, errors: TextIO, defaults: Mapping[str, str]) -> int:
    code = 0
    for number, line in enumerate(stdin, 1):
        if not line.strip():
            continue
        try:
            fields = _fields(line, defaults)
            channel = _channel(fields["channel"])
        except ValueError as error:
            errors.write(f"vastgpu classify: line {number}: {error}\n")
            verdict = Verdict(FailureClass.UNKNOWN, "not_judged", str(error), "mend this line of the input")
            code = USAGE_EXIT_CODE
        else:
            verdict = _judge_text(io.StringIO(fields["text"]), fields["server"], channel, fields["context"])
        stdout.write(json.dumps(_as_dict(verdict)) + "\n")
    return code


def _fields(line: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """The named fields of one line.

    :raises ValueError: if the line is not such an object.
    """
    try:
        given = json.loads(line.lstrip("\ufeff"))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - the user's wrong value is a ValueError, like the others
            f"must be a JSON object with a field 'text'; it is a {type(given).__name__}"
        )
    if not isinstance(given.get("text"), str):
        raise ValueError("has no field 'text' that is a string")  # noqa: TRY004 - see above
    fields = {"text": given["text"]}
    for name, default in defaults.items():
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"field {name!r} must be a string; it is {json.dumps(value)}")
        fields[name] = value or default
    return fields


def _channel(name: str) -> Channel:
    try:
        return Channel(name)
    except ValueError:
        known = ", ".join(nearest_first(name, [channel.value for channel in Channel]))
        raise ValueError(f"unknown channel {name!r}; known are {known}") from None


def _as_dict(verdict: Verdict) -> dict[str, str]:
    return {
        "class": verdict.failure_class.value,
        "reason": verdict.reason,
        "evidence": verdict.evidence,
        "remedy": verdict.remedy,
    }


def _in_words(verdict: Verdict) -> str:
    lines = [
        f"class:  {verdict.failure_class.value} ({_MEANING[verdict.failure_class]})",
        f"reason: {verdict.reason}",
    ]
    if verdict.evidence:
        lines.append(f"line:   {verdict.evidence}")
    if verdict.remedy:
        lines.append(f"remedy: {verdict.remedy}")
    return "\n".join(lines) + "\n"
