"""The searches are made over HTTP, of a server that is told what to answer."""

from __future__ import annotations

from tests.providers.conftest import client
from tests.providers.conftest import server
from tests.providers.conftest import waited

__all__ = ["client", "server", "waited"]
