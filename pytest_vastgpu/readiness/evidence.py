"""How a line of somebody's log is shown to people: bounded, and without secrets."""

from __future__ import annotations

import re

MAX_CHARS = 500
_SECRETS = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{8,} | \bsk-[A-Za-z0-9_-]{8,} | \bghp_[A-Za-z0-9]{8,}
    | (?<=Bearer\ )\S+ | (?<=Basic\ )[A-Za-z0-9+/=]{8,}
    | (?i:(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=password=)|(?<=api_key':\ ')|(?<=Signature=))[^\s&'",)]+
    | (?i:(?<=--api-key\ )|(?<=api_key':\ \[')|(?<=api_key":\ ")|(?<=token":\ ")|(?<=password":\ "))[^\s&'",)]+
    """,
    re.VERBOSE,
)


def without_secrets(text: str) -> str:
    """A text without what looks like a key, a token or a password."""
    return _SECRETS.sub("<removed>", text)


def shown(line: str) -> str:
    """A line as evidence. A long one is cut in the middle: causes stand at the start, numbers often at the end."""
    line = without_secrets(line.strip())
    if len(line) <= MAX_CHARS:
        return line
    half = MAX_CHARS // 2
    return f"{line[:half]} … {line[-half:]}"
