"""Reads a server's answer, on the instance: what came when, how many tokens it was, and whether it is an answer at all.

Part of the program of :mod:`.driver`.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

MOST_BYTES = 1 << 26
"""Of an answer that is read for what it says. Of others, the rest is read and forgotten."""
MOST_LINE_BYTES = 1 << 20
"""Of a stream."""
MOST_TOKENS = 10000000
"""Of an answer: who tells of more does not count."""
FORMS = {"completions": ("OpenAI", "choices"), "chat": ("OpenAI", "choices"), "kserve": ("KServe", "outputs")}
"""By the kind of load: whose protocol its answers have, and what they hold at least."""


class Failed(Exception):
    """A request has failed for a reason that can be counted; the text that comes second is the whole story."""


def read(answer: Any, seen: dict[str, Any], kind: str, *, stream: bool) -> None:
    """Read an answer to its end, and note what it tells.

    :param answer: Of ``http.client``; ``stamped.at`` is when the last of its bytes came.
    :param kind: Of the load.
    :raises Failed: if it is no answer to such a load.
    """
    if not 200 <= answer.status < 300:
        raise Failed(f"HTTP {answer.status}", f"HTTP {answer.status}: {readable(answer.read(2000))}")
    (_read_stream if stream else _read_whole)(answer, seen, kind)


def readable(data: bytes) -> str:
    """A text, whatever the bytes are."""
    return data.decode("utf-8", "replace")


def _no_answer(kind: str, text: bytes) -> Failed:
    protocol = FORMS[kind][0]
    return Failed(f"no answer of {protocol}'s form", f"that is no answer of {protocol}'s form: {readable(text[:500])}")


def _too_long(most: int, what: str) -> Failed:
    return Failed("too long", f"{what} is longer than {most >> 20} MiB")


def _read_whole(answer: Any, seen: dict[str, Any], kind: str) -> None:
    parts, size = [], 0
    while True:
        data = answer.read(1 << 16)
        if not data:
            break
        size += len(data)
        if size <= MOST_BYTES:
            parts.append(data)
        elif kind in FORMS:
            raise _too_long(MOST_BYTES, "the answer")
    if answer.length:  # which read() finds by itself, but for a part
        raise http.client.IncompleteRead(b"", answer.length)
    body = b"".join(parts)
    try:
        parsed = json.loads(body) if size <= MOST_BYTES else None
    except (ValueError, RecursionError):
        parsed = None
    parsed = parsed if isinstance(parsed, dict) else {}
    if kind in FORMS and not (isinstance(parsed.get(FORMS[kind][1]), list) and parsed[FORMS[kind][1]]):
        raise _no_answer(kind, body)
    _count(parsed, seen)


def _count(parsed: dict[str, Any], seen: dict[str, Any]) -> bool:
    """Take in how many tokens the server says that it has made; returns False if that has no form."""
    usage = parsed.get("usage") or {}
    used = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(used) is int and 0 <= used <= MOST_TOKENS:
        seen["tokens"], seen["counted"] = used, "usage"
    return isinstance(usage, dict)


def _read_stream(answer: Any, seen: dict[str, Any], kind: str) -> None:
    """Read server-sent events; a piece came when the last of its bytes did, however late it is looked at here."""
    rest, done, began, ended, size = b"", False, b"", 0.0, 0
    while True:
        data = answer.read1(1 << 16)
        if not data:
            break
        began = began or data[:500]
        size += len(data)
        if size > MOST_BYTES:
            raise _too_long(MOST_BYTES, "the stream")
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MOST_LINE_BYTES:
            raise _too_long(MOST_LINE_BYTES, "a line of the stream")
        for line in lines:
            if line.startswith(b"data:"):
                done = _piece(line[5:].strip(), answer.stamped.at, seen, kind) or done
                ended = ended or (answer.stamped.at if done else 0.0)
    if rest.startswith(b"data:"):
        done = _piece(rest[5:].strip(), answer.stamped.at, seen, kind) or done
    if not seen["pieces"] and b"data:" not in began:
        raise Failed("no stream", f"the answer is no stream of events: {readable(began)}")
    if not done:
        raise Failed("broken stream", f"the stream broke off after {seen['pieces']} pieces")
    if seen["first"] is None:
        if not seen["tokens"]:
            raise Failed("no token", "the answer held no token; ask something else, or give ignore_eos=True")
        seen["first"] = seen["last"] = ended  # the token that says that there is nothing to say
    if not seen["counted"]:
        seen["tokens"], seen["counted"] = seen["pieces"], "pieces"


def _piece(text: bytes, now: float, seen: dict[str, Any], kind: str) -> bool:
    """Take in one event; returns whether the server says that the answer is complete."""
    if text == b"[DONE]":
        return True
    try:
        piece = json.loads(text)
    except (ValueError, RecursionError):
        raise Failed("no JSON", f"a piece of the stream is no JSON: {readable(text)}") from None
    if not isinstance(piece, dict):
        raise _no_answer(kind, text)
    if piece.get("error"):
        raise Failed("error in the stream", json.dumps(piece["error"]))
    choices = piece.get("choices") or []
    if not _count(piece, seen) or not isinstance(choices, list):
        raise _no_answer(kind, text)
    done = False
    for choice in choices:
        # The first piece of a chat has its role, and no token yet.
        delta = (choice.get("delta") or choice) if isinstance(choice, dict) else None
        if not isinstance(delta, dict):
            raise _no_answer(kind, text)
        done = done or bool(choice.get("finish_reason"))
        if any(delta.get(key) for key in ("content", "text", "reasoning_content", "reasoning", "tool_calls")):
            seen["pieces"] += 1
            if seen["first"] is None:
                seen["first"] = now
            else:
                seen["gaps"].append(now - seen["last"])
            seen["last"] = now
    return done
