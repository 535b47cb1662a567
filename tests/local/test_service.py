from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn
from starlette.applications import Starlette

from pytest_vastgpu.local import service


@pytest.mark.parametrize("told", ["before", "while it serves"])
def test_the_server_ends_without_waiting_for_its_next_tick(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_TICK_S", 1e6)

    async def serve() -> bool:
        server = service._Server(uvicorn.Config(Starlette(), http="h11", ws="none", lifespan="off", log_config=None))
        if told == "before":
            server.end()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            while not (server.started or serving.done()):
                await asyncio.sleep(0)
            server.end()
            await serving
        return server.should_exit

    assert asyncio.run(serve())
