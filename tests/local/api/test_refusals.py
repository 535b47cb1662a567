"""Errors in the documented form."""

from __future__ import annotations

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"image": ""}, "'image' is required"),
        ({"image": None}, "'image' is required"),
        ({"label": "x" * 257}, "label_too_long"),
        ({"env": ["A=b"]}, "'env' must be an object"),
        ({"env": {"-p eighty": "1"}}, "is not a port"),
        ({"env": {"-p 66000:66000": "1"}}, "is not a port"),
        ({"env": {"-h": "two words"}}, "is not a host name"),
        ({"env": {f"-p {port}:{port}": "1" for port in range(1000, 1065)}}, "more than 64 ports"),
        ({"onstart": "x" * 4049}, "'onstart' must be at most 4048 characters long, not 4049"),
        ({"image_login": "bob:s3cret@ghcr.io"}, "'image_login' must be of the form '-u USER -p PASSWORD REGISTRY'"),
        ({"disk": "much"}, "'disk' must be a number"),
        ({"disk": 7.9}, "'disk' must be at least 8 GB"),
        ({"disk": 10**6}, "more than the machine's"),
        ({"price": 0.0001}, "bid price >= 0.001"),
        ({"price": 0.01}, "bid price >= 0.15"),
        ({"runtype": "vnc"}, "Invalid runtype"),
        ({"target_state": "flying"}, "Invalid target state"),
        ({"template_hash_id": "none"}, "Template none not found"),
    ],
)
def test_a_create_that_makes_no_sense(api: Api, body: dict[str, object], message: str) -> None:
    answer = api.create(api.offer_of(100), **body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_args")
    assert message in answer.json()["msg"]
    assert api.listed()["total_instances"] == 0


def test_errors_have_the_documented_form(api: Api) -> None:
    for method, path, body, status, code in (
        ("POST", "/api/v0/bundles/", "{", 400, "invalid_request"),
        ("POST", "/api/v0/bundles/", "[1]", 400, "invalid_request"),
        ("POST", "/api/v0/bundles/", '{"gpu_name": "x"}', 400, "bad_request"),
        ("GET", "/api/v0/instances/", "", 410, "deprecated_endpoint"),
        ("GET", "/api/v0/instances/abc/", "", 400, "invalid_args"),
        ("PUT", "/api/v0/instances/7/", '{"label": "x"}', 404, "no_such_instance"),
        ("PUT", "/api/v0/instances/request_logs/7/", "{}", 404, "invalid_id"),
        ("PUT", "/api/v0/instances/prepay/7/", '{"amount": 5}', 404, "no_such_instance"),
        ("GET", "/api/v0/what/", "", 404, "not_found"),
        ("GET", '/api/v1/instances/?select_filters={"dph_total":{"gt":1}}', "", 400, "invalid_request"),
        ("GET", "/api/v1/instances/?after_token=nonsense", "", 400, "invalid_token"),
        ("DELETE", "/api/v0/instances/", '{"instance_ids": [7]}', 404, "instances_not_found"),
        ("DELETE", "/api/v0/ssh/99/", "{}", 400, "invalid_args"),
        ("PUT", "/api/v0/machines/100/report", "{}", 403, "not_authorized"),
    ):
        answer = api.http.request(method, path, content=body)
        assert (answer.status_code, answer.json()["error"]) == (status, code), path
        assert answer.json()["success"] is False
        assert answer.headers["Content-Type"] == "application/json"


def test_slashes_do_not_matter(market: LocalMarket, api: Api) -> None:
    for path in ("/api/v0/users/current", "//api/v0/users/current"):
        assert api.http.get(f"{market.url}{path}").json()["id"] == 1
    for path in ("/api/v0/ssh", "/api/v0/ssh/"):
        assert api.http.get(f"{market.url}{path}").status_code == 200
    moved = api.http.get("/api/v0/users/current/", follow_redirects=False)
    assert (moved.status_code, moved.headers["Location"]) == (301, "/api/v0/users/current")


def test_a_start_or_bid_that_does_not_fit(api: Api) -> None:
    instance_id = api.rent_stopped()
    assert api.change(instance_id, state="flying").json()["msg"] == "Invalid target state"
    assert api.change(instance_id, label="x" * 1025).json()["msg"] == "label_too_long"
    bid = api.http.put(f"/api/v0/instances/bid_price/{instance_id}/", json={"client_id": "me", "price": 0.2})
    assert bid.json()["msg"] == "Can't change price of on-demand contract."
    reboot = api.http.put(f"/api/v0/instances/reboot/{instance_id}/", json={})
    assert (reboot.status_code, reboot.json()["error"]) == (200, "invalid_id")
    for command in ("cat /etc/passwd", "ls ../..", "rm -rf /../../x", "ls 'un", ""):
        answer = api.http.put(f"/api/v0/instances/command/{instance_id}/", json={"command": command})
        assert answer.status_code == 400, command
