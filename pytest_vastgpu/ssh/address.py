"""The address of an SSH server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SshAddress:
    """Host and port of an instance's SSH server, directly or at the market's proxy."""

    host: str
    port: int
    kind: Literal["direct", "proxy"]

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.kind})"
