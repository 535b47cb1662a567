"""Checks what may become part of a shell's text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME_RULE = "letters, digits and _ only"
"""What a name may have, for people."""


def wrong_name(name: object, most_chars: int | None = None) -> str:
    """What is wrong with the name of an environment variable; empty where a shell can export one of this name.

    Anything else could end the export and begin a command.

    :param most_chars: Characters of the name that are shown; None for all.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return ""
    return f"{repr(name)[:most_chars]} is no name for an environment variable"


def exports(env: Mapping[str, str]) -> str:
    """Lines that export an environment, every value quoted. The names must have been checked."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def exported(text: str) -> dict[str, str]:
    """The environment of lines that :func:`exports` has written; what cannot be read is left out."""
    try:
        words = shlex.split(text)
    except ValueError:  # it was cut short
        return {}
    pairs = (word.partition("=") for word in words if word != "export")
    return {name: value for name, equals, value in pairs if equals and not wrong_name(name)}
