"""Requests with invalid values: each gets an error in the API's form, and the market keeps running."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api

NONSENSE: tuple[object, ...] = (-1, "x", [], {}, True, {"a": 1}, [1], [{}], {"eq": []}, {"gt": None}, "1e999")
FIELDS: dict[str, tuple[str, ...]] = {
    "POST /api/v0/bundles/": ("type", "order", "limit", "allocated_storage", "gpu_name", "num_gpus", "geolocation"),
    "PUT /api/v0/search/asks/": ("select_cols", "q"),
    "PUT /api/v0/asks/1000001/": (
        *("image", "disk", "label", "runtype", "env", "onstart", "args", "args_str", "price"),
        *("target_state", "cancel_unavail", "template_hash_id"),
    ),
    "POST /api/v0/asks/bulk/": ("ids",),
    "PUT /api/v0/launch_instance/": ("q",),
    "PUT /api/v0/instances/": ("ids", "state"),
    "DELETE /api/v0/instances/": ("instance_ids",),
    "PUT /api/v0/instances/{}/": ("state", "label"),
    "PUT /api/v0/instances/bid_price/{}/": ("price",),
    "PUT /api/v0/instances/update_template/{}/": ("image", "env", "onstart", "template_hash_id"),
    "PUT /api/v0/instances/request_logs/{}/": ("tail", "filter", "daemon_logs"),
    "PUT /api/v0/instances/command/{}/": ("command",),
    "POST /api/v0/ssh/": ("ssh_key",),
    "POST /api/v0/instances/{}/ssh/": ("ssh_key",),
    "POST /api/v0/template/": ("name", "image", "env"),
    "PUT /api/v0/machines/7/report": ("message",),
}
PARAMETERS: dict[str, tuple[str, ...]] = {
    "/api/v1/instances/": ("select_filters", "order_by", "select_cols", "limit", "after_token"),
    "/api/v0/template/": ("select_filters",),
    "/api/v0/bundles/": ("q",),
}


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{"machine_id": 7, "slots": 1000}]}) as market:
        yield market


@pytest.mark.parametrize("call", FIELDS)
def test_a_body_of_nonsense(market: LocalMarket, call: str) -> None:
    method, _, path = call.partition(" ")
    with Api(market) as api:
        instance_id = api.rent(7, target_state="stopped")
        base = {"image": "any", "target_state": "stopped"} if "asks" in path or "launch" in path else {}
        for field in FIELDS[call]:
            for value in NONSENSE:
                answer = api.http.request(method, path.format(instance_id), json={**base, field: value})
                assert answer.status_code < 500, (field, value)
                assert answer.status_code == 200 or answer.json()["msg"], (field, value)
        for body in (b"{", b"[]", b"3", b'"x"'):
            assert api.http.request(method, path.format(instance_id), content=body).status_code < 500


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters_of_nonsense(market: LocalMarket, path: str) -> None:
    with Api(market) as api:
        for name in PARAMETERS[path]:
            for value in (*NONSENSE, {"label": 3}, [{"col": []}], [{"col": "id", "dir": 3}]):
                answer = api.http.get(path, params={name: json.dumps(value)})
                assert answer.status_code < 500, (name, value)
            assert api.http.get(path, params={name: "{"}).status_code == 400


def test_a_price_and_a_run_type_that_are_not_allowed(market: LocalMarket) -> None:
    with Api(market) as api:
        for body, text in (
            ({"price": 129}, "Please set a bid price <= 128."),
            ({"runtype": "ssh", "use_ssh": True}, "runtype and use_ssh cannot both be set"),
        ):
            answer = api.create(api.offer_of(7), **body)
            assert (answer.status_code, answer.json()["error"], answer.json()["msg"]) == (400, "invalid_args", text)


def test_lone_surrogates_and_nul_are_rejected(market: LocalMarket) -> None:
    with Api(market) as api:
        offer = api.offer_of(7)
        bodies = (b'"label": "\\ud800"', b'"env": {"A": "\\ud800"}', b'"env": {"A": "\\u0000"}')
        for field in bodies:
            body = b'{"image": "any", "target_state": "stopped", %s}' % field
            answer = api.http.put(f"/api/v0/asks/{offer}/", content=body)
            assert (answer.status_code, answer.json()["success"]) == (400, False)
        assert api.listed()["success"] is True


@pytest.mark.parametrize("key", ["", "wrong", None])
@pytest.mark.parametrize("size", [(1 << 20) + 1, 5 << 20])
def test_a_too_large_body_is_rejected_with_any_key(market: LocalMarket, key: str | None, size: int) -> None:
    with Api(market, key) as api:
        for content in (b" " * size, iter([b" " * 65536] * (size // 65536 + 1))):  # with and without a Content-Length
            answer = api.http.post("/api/v0/bundles/", content=content)
            assert (answer.status_code, answer.json()["msg"]) == (413, "The request is too large")


def test_a_body_that_says_it_is_huge_is_not_waited_for(market: LocalMarket) -> None:
    with socket.create_connection(("127.0.0.1", int(market.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(b"POST /api/v0/bundles/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
