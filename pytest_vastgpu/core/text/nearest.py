"""Finds the words that a person may have meant by a word that is not known. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from collections.abc import Iterable

_LIKELY = 0.6
"""Least likeness, from 0 to 1, of a word that is proposed."""
_PART = 3
"""Least characters of a word that is looked for in others."""
_MOST_CHARS = 80


def likeness(word: object, other: str) -> float:
    """How alike two words are, from 0 to 1; blanks, case and signs do not count. A part is very alike."""
    one, two = _plain(str(word)), _plain(other)
    ratio = difflib.SequenceMatcher(None, one, two).ratio()
    return (_PART + ratio) / (_PART + 1) if len(one) >= _PART and one in two else ratio


def nearest_first(word: object, known: Iterable[str]) -> list[str]:
    """The known words, the most alike first; equally alike ones keep their order."""
    return sorted(known, key=lambda other: -likeness(word, other))


def did_you_mean(word: object, known: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """``; did you mean strict?``, or an empty text where no known word is alike.

    :param shown: How a known word is shown.
    """
    best = next(iter(nearest_first(word, known)), "")
    return f"; did you mean {shown(best)}?" if best and likeness(word, best) >= _LIKELY else ""


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text[:_MOST_CHARS]).lower()
