"""Sends a growing log repeatedly, each time only its new part. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

_KEPT = 16
"""Number of logs that both sides remember; any other log is sent in full."""
_LEAST = 64
"""Characters at the end of a part that must match before the part counts as the same text."""
_SURE = 4096
"""Characters that are searched for first, because a shorter text may be a line that is printed repeatedly."""


@dataclass(frozen=True)
class LogDelta:
    """A text, described by its difference from an earlier one."""

    name: int
    """The number under which both sides remember the text."""
    base: int
    """The number of the earlier text; 0: none."""
    head: int = 0
    """The text begins with this many characters of the earlier one's start."""
    middle: str = ""
    tail: int = 0
    """Then follow this many characters of the earlier one's end."""
    end: str = ""
    forget: int = 0
    """The number of a text that is not needed any more; 0: none."""


class LogSender:
    """The sending side. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._names = itertools.count(1)

    def pack(self, text: str) -> LogDelta:
        """The difference from which the receiver can rebuild the text."""
        base = max(
            (name for name, old in self._known.items() if _continues(text, old)),
            key=lambda name: len(self._known[name]),
            default=0,
        )
        old = self._known.pop(base, "")
        forget = base
        if not base and len(self._known) >= _KEPT:
            forget = next(iter(self._known))
            del self._known[forget]
        name = next(self._names)
        self._known[name] = text
        if text.startswith(old):
            return LogDelta(name, base, len(old), text[len(old) :], forget=forget)
        head, tail, at = _parts(text, old)
        return LogDelta(name, base, head, text[head : at - tail], tail, text[at:], forget)


class LogReceiver:
    """The receiving side. It must unpack the texts in the order in which they were packed."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def unpack(self, delta: LogDelta) -> str:
        """The text."""
        old = self._known.get(delta.base, "")
        self._known.pop(delta.forget, None)
        kept_end = old[len(old) - delta.tail :]
        text = self._known[delta.name] = f"{old[: delta.head]}{delta.middle}{kept_end}{delta.end}"
        return text


def _continues(text: str, old: str) -> bool:
    """Whether a text is the continuation of an earlier one, perhaps with its middle cut out."""
    if text.startswith(old):
        return True
    return text[:_LEAST] == old[:_LEAST] and len(old) > _LEAST and _parts(text, old)[1] >= _LEAST


def _parts(text: str, old: str) -> tuple[int, int, int]:
    """How much of the old text's start and end a text contains, and the position in the text where that end stops."""
    head = _same(text, old)
    for size in (_SURE, _LEAST):
        found = text.rfind(end := old[-size:], head)
        if found >= 0:
            at = found + len(end)
            return head, _same(text[head:at][::-1], old[::-1]), at
    return head, 0, head


def _same(one: str, other: str) -> int:
    """Number of equal characters at the starts of two texts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
