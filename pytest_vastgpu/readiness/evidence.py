"""How a line of somebody's log is shown to people: bounded, and without secrets."""

from __future__ import annotations

import re

MAX_CHARS = 500
_SECRETS = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{8,} | \bsk-[A-Za-z0-9_-]{8,} | \bghp_[A-Za-z0-9]{8,}
    | (?<=Bearer\ )\S+ | (?<=Basic\ )[A-Za-z0-9+/=]{8,}
    | (?i:(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=password=)|(?<=api_key':\ ')|(?<=Signature=))[^\s&'",)]+
    """,
    re.VERBOSE,
)


def shown(line: str) -> str:
    """A line as evidence. A long one is cut in the middle: causes stand at the start, numbers often at the end."""
    line = _SECRETS.sub("<removed>", line.strip())
    if len(line) <= MAX_CHARS:
        return line
    half = MAX_CHARS // 2
    return f"{line[:half]} … {line[-half:]}"
