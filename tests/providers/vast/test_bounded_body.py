"""An answer is read within bounds, whatever it is packed as and however slowly it comes."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest

from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.providers.vast import bounded_body
from pytest_vastgpu.providers.vast.client import MarketClient
from tests.providers.conftest import KEY
from tests.providers.vast.scripted import Answer
from tests.providers.vast.scripted import ScriptedServer

BOMB = gzip.compress(bytes(300 << 20), 9)
PACKED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_that_unpacks_to_too_much_is_not_unpacked(
    client: MarketClient, server: ScriptedServer, status: int
) -> None:
    server.will_answer(Answer(status, BOMB, PACKED))
    tracemalloc.start()
    try:
        with pytest.raises(MarketAnswerInvalid, match="the market's answer is larger than 8 MB"):
            client.account()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * bounded_body.LIMIT_BYTES
    assert len(server.asked) == 1, "it would be the same again"


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_packed_answer_is_read(client: MarketClient, server: ScriptedServer, packed: type) -> None:
    encoding = "gzip" if packed is gzip.compress else "deflate"
    body = packed(json.dumps({"id": 1, "credit": 2.5}).encode())
    server.will_answer(Answer(200, body, {"Content-Encoding": encoding}))
    assert client.account().credit_usd == 2.5


@pytest.mark.parametrize("headers", [PACKED, {"Content-Encoding": "br"}, {"Content-Encoding": "gzip, gzip"}])
def test_what_cannot_be_unpacked_is_said(client: MarketClient, server: ScriptedServer, headers: dict[str, str]) -> None:
    server.will_answer(Answer(200, "no gzip", headers))
    with pytest.raises(MarketAnswerInvalid, match=r"cannot be unpacked|was not asked for"):
        client.account()


def test_a_log_that_is_too_large_is_cut(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"success": True, "result_url": f"{server.url}/log"}, Answer(200, BOMB, PACKED))
    log = client.logs(7, 10)
    assert len(log) < bounded_body.LIMIT_BYTES + 200
    assert log.endswith("[the rest is left out: it is larger than 8 MB]\n")


def test_a_refusal_inside_a_200_does_not_give_the_key_away(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer({"success": False, "error": KEY, "msg": f"no user has the key {KEY}\n::error::x"})
    with pytest.raises(RequestRejected) as told:
        client.logs(7, 10)
    assert KEY not in f"{told.value} {told.value!r} {told.value.code}"
    assert "<VAST_API_KEY>" in str(told.value)
