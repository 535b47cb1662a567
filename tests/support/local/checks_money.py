"""Checks of the faults of prices and values, and of answers that are too large."""

from __future__ import annotations

import gzip
import math
import socket

import httpx
import pytest

from tests.support.local.scene import Scene
from tests.support.local.scene import check
from tests.support.looks import until


@check("offer_says", field="inet_up_cost", says="NaN")
def _(scene: Scene) -> None:
    [offer] = scene.api.offers(machine_id={"eq": scene.machine_id})
    assert math.isnan(offer["inet_up_cost"])


@check("instance_says", field="dph_total", says="missing")
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    until(lambda: scene.api.show(instance_id), lambda row: row is not None and "dph_total" not in row)


@check("price_raised", times=10, after_s=0.2)
def _(scene: Scene) -> None:
    [offer] = scene.api.offers(machine_id={"eq": scene.machine_id})
    instance_id = scene.booting()
    raised = pytest.approx(10 * offer["dph_base"])
    until(lambda: scene.api.show(instance_id), lambda row: row is not None and row["dph_base"] == raised)


@check("gzip_bomb", endpoint="show", mb=3)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with scene.api.http.stream("GET", f"/api/v0/instances/{instance_id}/") as answer:
        packed = b"".join(answer.iter_raw())
    assert len(gzip.decompress(packed)) == 3 << 20 > 100 * len(packed)


@check("endless_answer", endpoint="show")
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with scene.api.http.stream("GET", f"/api/v0/instances/{instance_id}/") as answer:
        pieces = answer.iter_raw()
        assert sum(len(next(pieces)) for _ in range(200)) > 1 << 20


@check("endless_headers", endpoint="show", pause_s=0.01)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    address = scene.api.http.base_url
    with socket.create_connection((address.host, address.port or 80), 30) as sock:
        key = scene.api.http.headers["Authorization"]
        head = f"GET /api/v0/instances/{instance_id}/ HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n"
        sock.sendall(head.encode())
        said = b""
        while len(said) < 200:
            said += sock.recv(4096)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in said


@check("key_echoed", endpoint="show")
def _(scene: Scene) -> None:
    answer: httpx.Response = scene.api.get(scene.instance())
    assert (answer.status_code, answer.json()["success"]) == (200, False)
    assert answer.request.headers["Authorization"].partition(" ")[2] in answer.json()["msg"]


@check("endless_line", program="yes", argument="no")
def _(scene: Scene) -> None:
    row = scene.running()
    assert scene.ssh(row, "yes no | head -c 3000000 | wc -l").stdout.strip() == "0"
    assert scene.ssh(row, "yes si | head -n 1").stdout == "si\n"
