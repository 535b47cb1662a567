"""Finds texts that every match of a regular expression contains: searching for them first is far quicker. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

LEAST_CHARS = 3
"""Shorter texts occur in too many lines."""

_TOKEN = re.compile(
    r"""
      (?P<again> \( \?P=\w+ \) )
    | (?P<around> \( \? <? [=!] )
    | (?P<group> \( (?: \?: | \?P<\w+> )? )
    | (?P<close> \) )
    | (?P<either> \| )
    | (?P<maybe> [*?] | \{ \d* ,? \d* \} )
    | (?P<other> \+ | [.^$] | \\[A-Za-z0-9] | \[ \^? \]? (?: \\. | [^\]\\] )* \] )
    | (?P<literal> \\. | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_Texts = frozenset[str]
"""Alternative texts; every match contains at least one of them."""


def required_literals(pattern: str) -> frozenset[str] | None:
    """Texts in lower case; every match of the expression contains at least one of them, in any case.

    :returns: None if a match need not contain any text that is worth searching for.
    """
    found = _read(_TOKEN.finditer(pattern))
    return found if _worth(found) >= LEAST_CHARS else None


def _read(tokens: Iterator[re.Match[str]]) -> _Texts:
    """The best texts of an expression, up to the end of its group."""
    ways: list[_Texts] = []
    needed: list[_Texts] = []
    run = ""
    previous: str | None = None
    for token in tokens:
        kind, text = token.lastgroup, token.group()
        previous, before = kind, previous
        if kind == "literal":
            run += text[-1].lower()
            continue
        if kind == "maybe" and before == "literal":
            run = run[:-1]
        elif kind == "maybe" and before == "group":
            needed.pop()
        if run:
            needed.append(frozenset({run}))
            run = ""
        if kind == "group":
            needed.append(_read(tokens))
        elif kind == "around":
            _read(tokens)
        elif kind == "either":
            ways.append(_best(needed))
            needed = []
        elif kind == "close":
            break
    if run:
        needed.append(frozenset({run}))
    return frozenset().union(*ways, _best(needed))


def _best(needed: list[_Texts]) -> _Texts:
    return max(needed, key=_worth, default=frozenset({""}))


def _worth(texts: _Texts) -> int:
    return min(map(len, texts))
