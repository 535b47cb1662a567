"""Where an SSH server is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SshAddress:
    """Where an instance's SSH server can be reached."""

    host: str
    port: int
    kind: Literal["direct", "proxy"]

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.kind})"
