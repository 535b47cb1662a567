"""Parsers for the values of options. Each parser raises ValueError with the expected form."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REUSE = "20m"
"""How long instances are kept warm where no duration is given."""
BASELINE = "baseline"
"""The name of a baseline that is given none."""
KEEP_S = 1800.0
"""Seconds that an instance is kept by default."""


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that accepts one of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            from pytest_vastgpu.core.text.nearest import did_you_mean

            raise ValueError(f"one of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text

    return parse


def number(unit: str, *, least: float, inclusive: bool = True) -> Callable[[str], float]:
    """A parser for a finite number with a lower limit."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and (number > least or (inclusive and number == least))):
            raise ValueError(f"a number of {unit} {'of at least' if inclusive else 'above'} {least:g}")
        return number

    return parse


def version(form: str) -> Callable[[str], float]:
    """A parser for a version of two numbers, which the market gives as one number; 0: any.

    :param form: What it is, with an example.
    """
    number_of = number("", least=0)

    def parse(text: str) -> float:
        try:
            return number_of(text)
        except ValueError:
            raise ValueError(form) from None

    return parse


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def whole(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isdecimal():
        raise ValueError("a whole number of at least 0")
    return int(text)


def whole_or_none(text: str) -> int | None:
    """Parse a whole number of at least 0, or the word none."""
    return None if text.lower() == "none" else whole(text)


def path_or_none(text: str) -> str:
    """Parse a path, or the word none: an empty text."""
    return "" if text.lower() == "none" else text


def several(text: str) -> tuple[str, ...]:
    """Parse texts with commas or line ends between them."""
    return tuple(part.strip() for line in text.splitlines() for part in line.split(",") if part.strip())


def below_root(text: str) -> tuple[str, ...]:
    """Parse patterns of files below a directory, with commas or line ends between them."""
    patterns = several(text)
    for pattern in patterns:
        parts = pattern.split("/")
        if pattern.startswith("/") or ".." in parts or any("**" in part and part != "**" for part in parts):
            raise ValueError("a pattern of files below the project's root directory, such as reports/**/*.json")
    return patterns


def count_or_none(text: str) -> int | None:
    """Parse a whole number of at least 1, or the word none."""
    if text.lower() == "none":
        return None
    try:
        return count(text)
    except ValueError as wrong:
        raise ValueError(f"{wrong}, or none") from None


class Keep:
    """Which instances are kept after their last use so that a person can look inside, and for how long.

    :param when: ``no``, ``failed`` (its bring-up or a test that used it failed) or ``always``.
    :param seconds: How long an instance is kept.
    """

    when: str
    seconds: float

    def __init__(self, when: str, seconds: float = KEEP_S) -> None:
        self.when = when
        self.seconds = seconds

    def __str__(self) -> str:
        if self.when == "no":
            return self.when
        from pytest_vastgpu.core.text.durations import shown

        return f"{self.when}:{shown(self.seconds)}"


def keep(text: str) -> Keep:
    """Parse ``no``, ``failed`` or ``always``; the latter two may have a duration: ``failed:90s``, ``always:2h``."""
    if text == "no":
        return Keep(text)
    from pytest_vastgpu.core.text.durations import UNITS_S

    form = re.fullmatch(r"(failed|always)(?::(\d+(?:\.\d+)?)([smh]?))?", text)
    if form is None:
        from pytest_vastgpu.core.text.nearest import did_you_mean

        meant = did_you_mean(text.partition(":")[0], ("no", "failed", "always"))
        raise ValueError(f"no, failed or always, the latter two with a duration if need be, such as failed:30m{meant}")
    when, amount, unit = form.groups()
    return Keep(when, float(amount) * UNITS_S[unit or "s"]) if amount else Keep(when)


def reuse(text: str) -> float:
    """Parse no, or a duration such as ``20m``; returns seconds, 0 for no."""
    if text.lower() == "no":
        return 0.0
    from pytest_vastgpu.core.text.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"no, or a duration such as {REUSE}, 90s or 1h30m") from None


def countries(text: str) -> frozenset[str]:
    """Parse two-letter codes with commas or blanks between, or the word none."""
    codes = [code.strip().upper() for code in text.replace(" ", ",").split(",") if code.strip()]
    if codes == ["NONE"]:
        return frozenset()
    from pytest_vastgpu.core.text.countries import NAMES
    from pytest_vastgpu.core.text.countries import meant

    if wrong := [code for code in codes if code not in NAMES]:
        raise ValueError(
            f"two-letter country codes with commas between, or none; {wrong[0]} is not one{meant(wrong[0])}"
        )
    return frozenset(codes)


def baseline(text: str) -> tuple[str, ...]:
    """Parse save or compare, each with a name if need be (``save:main``), or both with a comma between, or none."""
    if text == "none":
        return ()
    parts = [part.strip() for part in text.split(",")]
    forms = [re.fullmatch(r"(save|compare)(?::(\w[\w.-]{0,63}))?", part, re.ASCII) for part in parts]
    found = {form[1]: f"{form[1]}:{form[2] or BASELINE}" for form in forms if form is not None}
    if len(found) < len(parts):
        raise ValueError(
            "save, compare, save:NAME, compare:NAME, one of each with a comma between, or none; a NAME has up to 64 "
            "letters, digits, dots, dashes and underscores"
        )
    return tuple(found.values())


def switch(text: str) -> bool:
    """Parse yes or no, in the words that environment variables and ini files use."""
    switches = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in switches:
        raise ValueError("yes or no")
    return switches[text.lower()]
