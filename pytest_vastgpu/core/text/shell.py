"""Checks what may become part of a shell's text."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_variable_name(name: object) -> bool:
    """Whether a shell can export a variable of this name. Any other name could end the export and begin a command."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
