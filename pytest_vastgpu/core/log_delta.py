"""A log that grows, sent again and again: only what is new travels. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

_KEPT = 16
"""The number of logs that both sides remember; one that is not remembered is sent as a whole."""
_LEAST = 64
"""Characters that must be the same at the end before a part of the old text is taken for a part of the new one."""
_SURE = 4096
"""The number that is looked for first: less may be a line that is printed again and again."""


@dataclass(frozen=True)
class LogDelta:
    """A text, told by what is known of an earlier one."""

    name: int
    """Under which it is remembered."""
    base: int
    """The earlier one; 0: none."""
    head: int = 0
    """It begins with this many characters of the earlier one's start."""
    middle: str = ""
    tail: int = 0
    """Then follow this many characters of the earlier one's end."""
    end: str = ""
    forget: int = 0
    """Will not be asked for again; 0: none."""


class LogSender:
    """The side that has the texts. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._names = itertools.count(1)

    def pack(self, text: str) -> LogDelta:
        """A text as the receiver can put it together."""
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
    """The side that puts the texts together, in the order in which they were packed."""

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
    """Whether a text is an earlier one that has grown, maybe with its middle cut out."""
    if text.startswith(old):
        return True
    return text[:_LEAST] == old[:_LEAST] and len(old) > _LEAST and _parts(text, old)[1] >= _LEAST


def _parts(text: str, old: str) -> tuple[int, int, int]:
    """How much of the old one's start and end a text has, and where in the text that end stops."""
    head = _same(text, old)
    for size in (_SURE, _LEAST):
        found = text.rfind(end := old[-size:], head)
        if found >= 0:
            at = found + len(end)
            return head, _same(text[head:at][::-1], old[::-1]), at
    return head, 0, head


def _same(one: str, other: str) -> int:
    """How many characters at their starts are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
