"""Instances from create to destroy, over HTTP."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.embed import LocalMarket
from tests.support.local.api import Api
from tests.support.local.api import plain_http
from tests.support.looks import until


def contains(wanted: str, text: str) -> bool:
    return wanted in text


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
    assert api.log(instance_id, lambda text: "up" in text) == "up bar\n"
    assert api.destroy(instance_id).json() == {"success": True}
    assert api.get(instance_id).json() == {"instances": None}
    gone = api.destroy(instance_id)
    assert (gone.status_code, gone.json()["error"]) == (404, "no_such_instance")


def test_stop_start_and_reboot_keep_the_disk_and_recycle_does_not(api: Api) -> None:
    instance_id = api.rent(1, onstart='old="$(cat seen 2>/dev/null)"; printf x >> seen; echo "run $old"')
    api.becomes(instance_id, actual_status="running")
    api.log(instance_id, lambda text: text.count("run") == 1)
    assert api.change(instance_id, state="stopped").json() == {"success": True}
    assert api.becomes(instance_id, intended_status="stopped")["actual_status"] == "exited"
    listing = api.http.put(f"/api/v0/instances/command/{instance_id}/", json={"command": "ls"}).json()
    assert "seen" in until(lambda: api.http.get(listing["result_url"]), lambda got: got.status_code == 200).text
    assert api.change(instance_id, state="running").json() == {"success": True}
    api.becomes(instance_id, actual_status="running")
    assert "run x" in api.log(instance_id, lambda text: text.count("run") == 2)
    for action, wanted in (("reboot", "run xx"), ("recycle", "run \n")):
        assert api.http.put(f"/api/v0/instances/{action}/{instance_id}/", json={}).json() == {"success": True}
        api.becomes(instance_id, actual_status="running")
        until(lambda: api.log(instance_id, bool), partial(contains, wanted))


def test_a_fault_on_demand(market: LocalMarket, api: Api) -> None:
    instance_id = api.rent(1)
    api.becomes(instance_id, actual_status="running")
    for words, fault, given in (
        ("unknown fault 'nonsense'; there are: ", "nonsense", {}),
        ("fault 'ssh_refused' does not happen to a running instance: give it to its machine", "ssh_refused", {}),
        (
            "parameter 'after_s' of fault 'outbid' must be a number that is not negative, not -1",
            "outbid",
            {"after_s": -1},
        ),
        ("fault 'outbid' has no parameter 'for_s'; it takes: after_s", "outbid", {"for_s": 1}),
    ):
        with pytest.raises(LocalMarketError, match=words):
            market.strike(instance_id, fault, **given)
    with pytest.raises(LocalMarketError, match="Instance 7 not found"):
        market.strike(7, "outbid")
    api.becomes(instance_id, actual_status="running")
    market.strike(instance_id, "outbid")
    api.becomes(instance_id, actual_status="stopped", intended_status="stopped", status_msg="Outbid")
    with pytest.raises(LocalMarketError, match=f"instance {instance_id} is not running, but stopped"):
        market.strike(instance_id, "outbid")


def test_a_log_is_there_a_little_later_and_needs_no_key(api: Api) -> None:
    def asked(api: Api, instance_id: int) -> str:
        path = f"/api/v0/instances/request_logs/{instance_id}/"
        return str(api.http.put(path, json={"tail": "5"}).json()["result_url"])

    url = asked(api, api.rent_stopped())
    with plain_http() as anonymous:
        assert until(lambda: anonymous.get(url), lambda got: got.status_code == 200).text == ""
        rules = {"rate_limits": False, "log_delay_s": 3600}
        with LocalMarket({"market": rules, "machines": [{"machine_id": 100}]}) as market, Api(market) as later:
            assert anonymous.get(asked(later, later.rent_stopped())).status_code == 404


def test_the_args_run_type_runs_the_images_entrypoint(api: Api) -> None:
    instance_id = api.rent(1, image="me/server:1", args=["a b", "c"])
    row = api.becomes(instance_id, actual_status="exited")
    assert (row["image_runtype"], row["image_args"], row["ssh_port"]) == ("args", ["a b", "c"], None)
    assert api.log(instance_id, bool) == "serving a b c\n"


def test_a_given_entrypoint_needs_no_known_image(api: Api) -> None:
    """The official client sends this for ``--entrypoint bash --args -c …``."""
    words = ["-c", "echo started $0 $A", "by me"]
    instance_id = api.rent(1, image="who/knows:1", runtype="args", onstart="/bin/sh", args=words, env={"A": "all"})
    api.becomes(instance_id, actual_status="exited")
    assert api.log(instance_id, bool) == "started by me all\n"


@pytest.mark.parametrize(
    ("runtype", "reported", "ports"),
    [
        ("ssh", "ssh_proxy", set()),
        ("ssh_proxy", "ssh_proxy", set()),
        ("ssh_direct", "ssh_direc ssh_proxy", {"22/tcp"}),
        ("ssh_direc ssh_proxy", "ssh_direc ssh_proxy", {"22/tcp"}),
        ("jupyter", "jupyter_proxy ssh_proxy", set()),
        ("jupyter_direct", "jupyter_direc ssh_direc ssh_proxy", {"22/tcp", "8080/tcp"}),
        ("jupyter_direc ssh_direc ssh_proxy", "jupyter_direc ssh_direc ssh_proxy", {"22/tcp", "8080/tcp"}),
    ],
)
def test_what_each_run_type_opens(api: Api, runtype: str, reported: str, ports: set[str]) -> None:
    row = api.becomes(api.rent(1, runtype=runtype), actual_status="running")
    assert (row["image_runtype"], set(row["ports"])) == (reported, ports)
    assert row["ssh_port"] > 0


def test_flags_in_the_environment_are_carried_out(api: Api) -> None:
    env = {"-p 9000:9000/udp": "1", "-p 70000:70000": "1", "-p 70001:70001/udp": "1", "-h": "billybob", "A": "b"}
    row = api.becomes(api.rent(100, env=env, onstart="hostname; env | grep _PORT_7 | sort"), actual_status="running")
    numbers = {name: bindings[0]["HostPort"] for name, bindings in row["ports"].items()}
    [tcp] = [name for name in numbers if name.endswith("/tcp")]
    [udp] = [name for name in numbers if name.endswith("/udp") and name != "9000/udp"]
    assert (tcp, udp) == (f"{numbers[tcp]}/tcp", f"{numbers[udp]}/udp")
    told = f"VAST_TCP_PORT_70000={numbers[tcp]}\nVAST_UDP_PORT_70001={numbers[udp]}\n"
    assert api.log(row["id"], partial(contains, "UDP")).endswith(told)


def test_an_unknown_image_is_an_unknown_manifest(api: Api) -> None:
    instance_id = api.rent(1, image="who/knows:1", runtype="args")
    until(
        lambda: api.show(instance_id), lambda row: row is not None and "manifest unknown" in (row["status_msg"] or "")
    )


def test_a_machine_is_rented_once_and_comes_back_under_another_offer(api: Api) -> None:
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


def test_a_start_is_queued_until_the_gpus_are_free(api: Api) -> None:
    first = api.rent(200)
    api.becomes(first, actual_status="running")
    api.change(first, state="stopped")
    second = api.rent(200)
    queued = api.change(first, state="running").json()
    assert (queued["success"], queued["error"]) == (False, "resources_unavailable")
    assert queued["msg"] == "Required resources are currently unavailable, state change queued."
    api.destroy(second)
    api.becomes(first, actual_status="running")


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
