"""The identity of an account on a market."""

from __future__ import annotations

import hashlib

from pytest_vastgpu.core.secret import Secret


def account_identity(url: str, api_key: str | Secret) -> str:
    """Identity of an account on a market, as a file name that reveals nothing about the key."""
    return hashlib.sha256(f"{url}\0{Secret.of(api_key).reveal()}".encode()).hexdigest()[:20]
