"""The API of a running market, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.local.api import Api
from tests.local.api import plain_http
from tests.local.api import until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPyJ1m0C1m7b7yq1n9Y0V0m5y0yQ1hYy0wWmK0q9W5aB me"
FLEET: dict[str, Any] = {
    "market": {"rate_limits": False, "log_delay_s": 0.1},
    "this_machine": True,
    "machines": [
        {"machine_id": 100, "slots": 50, "gpu_name": "RTX 4090", "storage_usd_gb_month": 0.72, "price_usd_h": 0.36},
        {"machine_id": 200, "gpu_name": "H100 SXM"},
        {"machine_id": 300, "gpu_name": "H200", "rentable": False},
    ],
}


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    with LocalMarket(FLEET, images={"me/server*": "echo serving"}) as market:
        yield market


@pytest.fixture
def api(market: LocalMarket) -> Iterator[Api]:
    with Api(market) as api:
        yield api
        for row in api.listed()["instances"]:
            api.destroy(row["id"])
        for key in api.http.get("/api/v0/ssh").json():
            api.http.delete(f"/api/v0/ssh/{key['id']}/")


def stopped(api: Api, **body: object) -> int:
    """An instance that exists and has no processes."""
    return api.rent(100, target_state="stopped", **body)


# --- life -------------------------------------------------------------------------------------------------------------


def test_an_instance_from_create_to_destroy(api: Api) -> None:
    instance_id = api.rent(
        1, label="mine", runtype="ssh_direct", env={"FOO": "bar", "-p 8000:8000": "1"}, onstart="echo up $FOO", disk=8
    )
    row = api.becomes(instance_id, actual_status="running")
    assert (row["label"], row["intended_status"], row["cur_state"]) == ("mine", "running", "running")
    assert row["status_msg"] == "success, running any/ssh"
    assert row["image_runtype"] == "ssh_direc ssh_proxy"
    assert row["extra_env"] == [["FOO", "bar"], ["-p 8000:8000", "1"]]
    assert set(row["ports"]) == {"22/tcp", "8000/tcp"}
    assert all(isinstance(binding[0]["HostPort"], str) for binding in row["ports"].values())
    assert row["public_ipaddr"] == row["ssh_host"] == "127.0.0.1"
    assert log_of(api, instance_id, lambda text: "up" in text) == "up bar\n"
    assert api.destroy(instance_id).json() == {"success": True}
    assert api.get(instance_id).json() == {"instances": None}
    gone = api.destroy(instance_id)
    assert (gone.status_code, gone.json()["error"]) == (404, "no_such_instance")


def log_of(api: Api, instance_id: int, good: Any, **body: str) -> str:
    def look() -> str:
        answer = api.http.put(f"/api/v0/instances/request_logs/{instance_id}/", json={"tail": "10", **body}).json()
        with plain_http() as stranger:
            url = answer["result_url"]
            assert stranger.get(url).status_code == 404
            return until(lambda: stranger.get(url), lambda response: response.status_code == 200).text

    return str(until(look, good))


def test_stop_start_and_reboot_keep_the_disk_and_recycle_does_not(api: Api) -> None:
    instance_id = api.rent(1, onstart='echo "run $(cat seen 2>/dev/null)"; printf x >> seen')
    api.becomes(instance_id, actual_status="running")
    log_of(api, instance_id, lambda text: text.count("run") == 1)
    assert api.change(instance_id, state="stopped").json() == {"success": True}
    assert api.becomes(instance_id, intended_status="stopped")["actual_status"] == "exited"
    listing = api.http.put(f"/api/v0/instances/command/{instance_id}/", json={"command": "ls"}).json()
    assert "seen" in until(lambda: api.http.get(listing["result_url"]), lambda got: got.status_code == 200).text
    assert api.change(instance_id, state="running").json() == {"success": True}
    api.becomes(instance_id, actual_status="running")
    assert "run x" in log_of(api, instance_id, lambda text: text.count("run") == 2)
    for action, wanted in (("reboot", "run xx"), ("recycle", "run \n")):
        assert api.http.put(f"/api/v0/instances/{action}/{instance_id}/", json={}).json() == {"success": True}
        api.becomes(instance_id, actual_status="running")
        log_of(api, instance_id, lambda text, wanted=wanted: wanted in text)


def test_the_args_run_type_runs_the_images_entrypoint(api: Api) -> None:
    instance_id = api.rent(1, image="me/server:1", args=["a b", "c"])
    row = api.becomes(instance_id, actual_status="exited")
    assert (row["image_runtype"], row["image_args"], row["ssh_port"]) == ("args", ["a b", "c"], None)
    assert log_of(api, instance_id, bool) == "serving a b c\n"


def test_an_image_that_nobody_knows_is_an_unknown_manifest(api: Api) -> None:
    instance_id = api.rent(1, image="who/knows:1", runtype="args")
    until(
        lambda: api.show(instance_id), lambda row: row is not None and "manifest unknown" in (row["status_msg"] or "")
    )


def test_a_machine_is_let_once_and_comes_back_under_another_offer(api: Api) -> None:
    offer_id = api.offer_of(200)
    first = api.create(offer_id, target_state="running").json()["new_contract"]
    assert api.offers(machine_id={"eq": 200}) == []
    refused = api.create(offer_id)
    assert (refused.status_code, refused.json()["error"]) == (410, "no_such_ask")
    leftover = api.create(offer_id, cancel_unavail=False).json()
    assert leftover["success"] is False
    assert api.becomes(leftover["new_contract"], intended_status="stopped")
    assert api.destroy(leftover["new_contract"]).json() == {"success": True}
    api.destroy(first)
    assert api.offer_of(200) != offer_id
    assert api.create(offer_id).status_code == 410
    unknown = api.create(7)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "no_such_ask")


def test_a_start_waits_for_who_has_the_gpus_and_then_happens(api: Api) -> None:
    first = api.rent(200)
    api.becomes(first, actual_status="running")
    api.change(first, state="stopped")
    second = api.rent(200)
    queued = api.change(first, state="running").json()
    assert (queued["success"], queued["error"]) == (False, "resources_unavailable")
    assert queued["msg"] == "Required resources are currently unavailable, state change queued."
    api.destroy(second)
    api.becomes(first, actual_status="running")


# --- requests that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"image": ""}, "'image' is required"),
        ({"image": None}, "'image' is required"),
        ({"label": "x" * 257}, "label_too_long"),
        ({"env": ["A=b"]}, "'env' must be an object"),
        ({"env": {"-p eighty": "1"}}, "is not a port"),
        ({"env": {f"-p {port}:{port}": "1" for port in range(1000, 1065)}}, "more than 64 ports"),
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


def test_a_start_or_bid_that_does_not_fit(api: Api) -> None:
    instance_id = stopped(api)
    assert api.change(instance_id, state="flying").json()["msg"] == "Invalid target state"
    assert api.change(instance_id, label="x" * 1025).json()["msg"] == "label_too_long"
    bid = api.http.put(f"/api/v0/instances/bid_price/{instance_id}/", json={"client_id": "me", "price": 0.2})
    assert bid.json()["msg"] == "Can't change price of on-demand contract."
    reboot = api.http.put(f"/api/v0/instances/reboot/{instance_id}/", json={})
    assert (reboot.status_code, reboot.json()["error"]) == (200, "invalid_id")
    for command in ("cat /etc/passwd", "ls ../..", "rm -rf /../../x", "ls 'un", ""):
        answer = api.http.put(f"/api/v0/instances/command/{instance_id}/", json={"command": command})
        assert answer.status_code == 400, command


# --- keys -------------------------------------------------------------------------------------------------------------


def test_who_may_ask(market: LocalMarket, api: Api) -> None:
    with Api(market, key="") as nobody, Api(market, key="wrong") as stranger:
        assert len(nobody.offers()) >= 2
        assert nobody.http.get("/api/v0/users/current").status_code == 401
        refused = stranger.http.get("/api/v0/users/current")
        assert (refused.status_code, refused.json()["error"]) == (401, "auth_error")
        assert stranger.http.post("/api/v0/bundles/", json={}).status_code == 404
        in_query = nobody.http.get("/api/v0/users/current", params={"api_key": market.api_key})
        assert in_query.json()["id"] == 1
        assert nobody.http.get("/_market/status").status_code == 401


def test_the_containers_key_is_for_its_own_instance(market: LocalMarket, api: Api) -> None:
    offer_id = api.offer_of(100)
    made = [api.create(offer_id, target_state="stopped").json() for _ in range(2)]
    own, other = (each["new_contract"] for each in made)
    with Api(market, key=made[0]["instance_api_key"]) as inside:
        assert inside.get(own).json()["instances"]["id"] == own
        for refused in (
            inside.get(other),
            inside.destroy(other),
            inside.create(offer_id),
            inside.http.get("/api/v0/ssh"),
        ):
            assert (refused.status_code, refused.json()["error"]) == (403, "not_authorized")
        assert inside.http.get("/api/v1/instances/").status_code == 403
        assert inside.http.get("/_market/status").status_code == 403
        assert inside.destroy(own).json() == {"success": True}
        assert inside.get(own).status_code == 401
    assert api.show(other) is not None


def test_ssh_keys_of_the_account_and_of_an_instance(api: Api) -> None:
    added = api.http.post("/api/v0/ssh/", json={"ssh_key": KEY}).json()["key"]
    assert api.http.post("/api/v0/ssh/", json={"ssh_key": KEY + " again"}).status_code == 400
    assert api.http.post("/api/v0/ssh/", json={"ssh_key": "id_rsa.pub"}).status_code == 400
    assert [key["public_key"] for key in api.http.get("/api/v0/ssh/").json()] == [KEY]
    instance_id = stopped(api)
    path = f"/api/v0/instances/{instance_id}/ssh/"
    assert [key["public_key"] for key in json.loads(api.http.get(path).json()["ssh_keys"])] == [KEY]
    again = api.http.post(path, json={"ssh_key": KEY})
    assert (again.status_code, again.json()["success"]) == (200, False)
    assert again.json()["msg"] == "SSH key already associated with instance."
    assert api.http.delete(f"{path}{added['id']}/").json() == {"success": True}
    assert api.http.post(path, json={"ssh_key": KEY}).json()["msg"] == "SSH key added to instance."
    other = KEY.replace("aB me", "aC you")
    assert api.http.put(f"/api/v0/ssh/{added['id']}/", json={"id": added["id"], "ssh_key": other}).status_code == 200
    assert [key["public_key"] for key in api.http.get("/api/v0/ssh/").json()] == [other]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_the_list_in_pages(api: Api) -> None:
    offer_id = api.offer_of(100)
    made = [api.create(offer_id, target_state="stopped", label=f"l{n % 2}").json()["new_contract"] for n in range(30)]
    first = api.listed(select_filters="{}", order_by='[{"col": "id", "dir": "asc"}]', limit="100")
    assert (first["total_instances"], first["instances_found"]) == (30, 25)
    assert first["label_counts"] == {"l0": 15, "l1": 15}
    api.destroy(made[24])
    second = api.listed(after_token=first["next_token"])
    assert [row["id"] for row in first["instances"] + second["instances"]] == made
    assert second["next_token"] is None
    assert len(api.listed(limit="0")["instances"]) == 5
    down = api.listed(order_by='[{"col": "id", "dir": "desc"}]', limit="3")
    assert [row["id"] for row in down["instances"]] == made[:-4:-1]
    below = api.listed(order_by='[{"col": "id", "dir": "desc"}]', limit="3", after_token=down["next_token"])
    assert [row["id"] for row in below["instances"]] == [made[26], made[25], made[23]]
    some = api.listed(select_filters='{"label": {"in": ["l1"]}}', select_cols='["id", "nothing"]')
    assert some["total_instances"] == 15
    assert some["instances"][0] == {"id": made[1], "nothing": None}
    bulk = api.http.request("DELETE", "/api/v0/instances/", json={"instance_ids": made})
    assert bulk.json()["success"]
    assert api.listed()["total_instances"] == 0


def test_many_at_once(api: Api) -> None:
    offers = [api.offer_of(100), api.offer_of(200), 7]
    made = api.http.post("/api/v0/asks/bulk/", json={"image": "any", "ids": offers, "target_state": "stopped"}).json()
    assert (made["success"], len(made["created"]), made["failed"]) == (False, 2, [7])
    assert [result.get("error") for result in made["results"]] == [None, None, "no_such_ask"]
    assert api.http.put("/api/v0/instances/", json={"state": "stopped", "ids": made["created"]}).json()["success"]


def test_launch_is_search_and_create(api: Api) -> None:
    query = {"gpu_name": {"eq": "H100 SXM"}, "order": [["score", "desc"]], "limit": 3}
    body = {"image": "any", "q": query, "target_state": "stopped"}
    made = api.http.put("/api/v0/launch_instance/", json=body).json()
    assert api.becomes(made["new_contract"])["machine_id"] == 200
    none = api.http.put("/api/v0/launch_instance/", json={**body, "q": {"gpu_name": {"eq": "TPU"}}})
    assert none.status_code == 404


def test_other_ways_to_search(api: Api) -> None:
    query = {"gpu_name": {"eq": "H100 SXM"}}
    found = api.http.put("/api/v0/search/asks/", json={"select_cols": ["id", "machine_id"], "q": query}).json()
    assert found["offers"] == [{"id": api.offer_of(200), "machine_id": 200}]
    got = api.http.get("/api/v0/bundles", params={"q": json.dumps(query)}).json()
    assert [row["machine_id"] for row in got["offers"]] == [200]
    names = api.http.get("/api/v0/gpu_names/unique/").json()["gpu_names"]
    assert {"RTX 4090", "H100 SXM"} <= set(names)


def test_templates(api: Api) -> None:
    body = {"name": "t", "image": "me/t", "env": "-e A=1 -e B=2 -p 8000:8000", "onstart": "echo t", "ssh_direct": True}
    template = api.http.post("/api/v0/template/", json=body).json()["template"]
    again = api.http.post("/api/v0/template/", json=body).json()
    assert (again["success"], again["msg"]) == (False, "Existing Template Found")
    listed = api.http.get("/api/v0/template/", params={"select_filters": '{"name": {"eq": "t"}}'}).json()
    assert listed["templates"] == [template]
    instance_id = stopped(api, image=None, template_hash_id=template["hash_id"], env={"B": "3"})
    row = api.becomes(instance_id)
    assert (row["image_uuid"], row["onstart"], row["image_runtype"]) == ("me/t", "echo t", "ssh_direc ssh_proxy")
    assert row["extra_env"] == [["A", "1"], ["B", "3"], ["-p 8000:8000", "1"]]
    changed = api.http.put("/api/v0/template/", json={"hash_id": template["hash_id"], "image": "me/u"}).json()[
        "template"
    ]
    assert changed["hash_id"] != template["hash_id"]
    assert api.http.request("DELETE", "/api/v0/template/", json={"hash_id": changed["hash_id"]}).json()["success"]


# --- money ------------------------------------------------------------------------------------------------------------


def test_the_bill_follows_the_documented_rules(market: LocalMarket, api: Api) -> None:
    instance_id = api.rent(100, disk=100, label="billed")
    api.becomes(instance_id, actual_status="running")
    rate = api.http.get("/api/v0/users/spend-rate").json()
    assert rate["gpu_cost_per_hour"] == pytest.approx(0.36)
    assert rate["container_storage_cost_per_hour"] == pytest.approx(0.1)
    api.destroy(instance_id)
    ended = next(each for each in market.status()["ended"] if each["id"] == instance_id)
    cost, states = ended["cost"], ended["states"]
    ran = next(state["at"] for state in states if state["state"] == "running")
    assert cost["gpu_usd"] == pytest.approx((ended["ended_at"] - ran) * 0.36 / 3600)
    assert cost["storage_usd"] == pytest.approx((ended["ended_at"] - ended["created_at"]) * 0.1 / 3600)
    assert market.status()["rents_per_label"]["billed"] == 1


def test_a_bid_is_what_it_costs(api: Api) -> None:
    instance_id = stopped(api, price=0.2)
    row = api.becomes(instance_id)
    assert (row["is_bid"], row["dph_base"]) == (True, 0.2)
    assert api.http.put(f"/api/v0/instances/bid_price/{instance_id}/", json={"price": 0.25}).json()["success"]
    assert api.becomes(instance_id)["dph_base"] == 0.25


def test_the_market_counts_calls(market: LocalMarket, api: Api) -> None:
    def counted() -> int:
        return sum(
            each["count"]
            for each in market.status()["calls"]
            if (each["endpoint"], each["key"]) == ("spend_rate", "account")
        )

    before = counted()
    api.http.get("/api/v0/users/spend-rate/")
    api.http.get("/api/v0/users/spend-rate")
    assert counted() == before + 2
