"""The rights of API keys, and the SSH keys of the account and of an instance."""

from __future__ import annotations

import json

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPyJ1m0C1m7b7yq1n9Y0V0m5y0yQ1hYy0wWmK0q9W5aB me"


def test_the_rights_of_each_key(market: LocalMarket, api: Api) -> None:
    with Api(market, key="") as anonymous, Api(market, key="wrong") as unknown:
        assert len(anonymous.offers()) >= 2
        assert anonymous.http.get("/api/v0/users/current").status_code == 401
        refused = unknown.http.get("/api/v0/users/current")
        assert (refused.status_code, refused.json()["error"]) == (401, "auth_error")
        assert unknown.http.post("/api/v0/bundles/", json={}).status_code == 404
        in_query = anonymous.http.get("/api/v0/users/current", params={"api_key": market.api_key})
        assert in_query.json()["id"] == 1
        assert anonymous.http.get("/_market/status").status_code == 401


def test_the_containers_key_is_for_its_own_instance(market: LocalMarket, api: Api) -> None:
    offer_id = api.offer_of(100)
    made = [api.create(offer_id, target_state="stopped").json() for _ in range(2)]
    own, other = (each["new_contract"] for each in made)
    with Api(market, key=made[0]["instance_api_key"]) as inside:
        assert inside.get(own).json()["instances"]["id"] == own
        assert inside.change(own, state="running").json() == {"success": True}
        assert inside.change(own, state="stopped").json() == {"success": True}
        for refused in (
            inside.change(own, label="mine"),
            inside.change(other, state="stopped"),
            inside.http.put(f"/api/v0/instances/reboot/{own}/", json={}),
            inside.http.put(f"/api/v0/instances/request_logs/{own}/", json={}),
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


def test_a_fault_of_the_api_may_be_for_one_kind_of_caller() -> None:
    faults = [{"name": "not_authorized", "caller": "container", "endpoint": "show"}]
    with LocalMarket(fleet={"machines": [{"machine_id": 100, "faults": faults}]}) as market, Api(market) as api:
        made = api.create(api.offer_of(100), target_state="stopped").json()
        with Api(market, key=made["instance_api_key"]) as inside:
            assert inside.get(made["new_contract"]).status_code == 403
            assert api.get(made["new_contract"]).status_code == 200
            assert inside.destroy(made["new_contract"]).json() == {"success": True}


def test_ssh_keys_of_the_account_and_of_an_instance(api: Api) -> None:
    added = api.http.post("/api/v0/ssh/", json={"ssh_key": KEY}).json()["key"]
    assert api.http.post("/api/v0/ssh/", json={"ssh_key": KEY + " again"}).status_code == 400
    assert api.http.post("/api/v0/ssh/", json={"ssh_key": "id_rsa.pub"}).status_code == 400
    assert [key["public_key"] for key in api.http.get("/api/v0/ssh/").json()] == [KEY]
    instance_id = api.rent_stopped()
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
