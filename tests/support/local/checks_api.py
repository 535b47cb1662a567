"""Checks of the faults of the API and of the status."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from pytest_vastgpu.local.faults.catalogue import catalogue
from pytest_vastgpu.local.faults.effects import NeverBoots
from tests.support.local.scene import Check
from tests.support.local.scene import Scene
from tests.support.local.scene import check
from tests.support.looks import until

# --- API --------------------------------------------------------------------------------------------------------------


@check("offer_taken", status=404)
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id))
    assert (answer.status_code, answer.json()["error"]) == (404, "no_such_ask")
    assert scene.api.offers(machine_id={"eq": scene.machine_id}) != []


@check("offer_refused", status=410, text="not for you")
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id))
    assert (answer.status_code, answer.json()["error"], answer.json()["msg"]) == (410, "invalid_args", "not for you")
    assert scene.api.offers(machine_id={"eq": scene.machine_id}) != []


@check("image_private", login="-u bob -p s3cret-word ghcr.io")
def _(scene: Scene) -> None:
    for login in ({}, {"image_login": "-u bob -p another-word ghcr.io"}):
        image = "docker.io/me/it"
        refused = (
            "Error response from daemon: pull access denied for docker.io/me/it, repository does not exist or may "
        )
        refused += "require 'docker login'"
        row = scene.api.becomes(scene.booting(image=image, **login), actual_status="loading", status_msg=refused)
        scene.api.destroy(row["id"])
    row = scene.running(image_login="-u bob -p s3cret-word ghcr.io")
    assert "s3cret-word" not in str(row)


@check("pull_stalls")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(), actual_status="loading")
    assert row["status_msg"].endswith(": Pulling fs layer")
    scene.api.destroy(row["id"])
    scene.running(image_login="-u bob -p s3cret-word docker.io")


@check("offer_sold_twice", how="ports")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(), actual_status="created", intended_status="running")
    assert "port is already allocated" in row["status_msg"]


@check("create_lost")
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id), label="lost", target_state="stopped")
    assert answer.status_code == 504
    assert scene.api.listed(select_filters='{"label": {"eq": "lost"}}')["total_instances"] == 1


@check("create_dropped")
def _(scene: Scene) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        scene.api.create(scene.api.offer_of(scene.machine_id), label="dropped", target_state="stopped")
    assert scene.api.listed(select_filters='{"label": {"eq": "dropped"}}')["total_instances"] == 1


@check("create_slow", delay_s=60.0)
def _(scene: Scene) -> None:
    with pytest.raises(httpx.ReadTimeout):
        scene.api.http.put(
            f"/api/v0/asks/{scene.api.offer_of(scene.machine_id)}/",
            json={"image": "any", "label": "slow", "target_state": "stopped"},
            timeout=0.3,
        )
    assert scene.api.listed(select_filters='{"label": {"eq": "slow"}}')["total_instances"] == 1


@check("create_silent")
def _(scene: Scene) -> None:
    with pytest.raises(httpx.ReadTimeout):
        scene.api.http.put(
            f"/api/v0/asks/{scene.api.offer_of(scene.machine_id)}/",
            json={"image": "any", "label": "silent", "target_state": "stopped"},
            timeout=0.3,
        )
    assert scene.api.listed(select_filters='{"label": {"eq": "silent"}}')["total_instances"] == 1


@check("create_success_false")
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id))
    assert (answer.status_code, answer.json()["success"]) == (200, False)
    row = scene.api.show(answer.json()["new_contract"])
    assert row is not None
    assert (row["actual_status"], row["intended_status"]) == ("stopped", "stopped")


@check("price_higher", times=3)
def _(scene: Scene) -> None:
    [offer] = scene.api.offers(machine_id={"eq": scene.machine_id})
    row = scene.api.show(scene.instance())
    assert row is not None
    assert row["dph_base"] == pytest.approx(3 * offer["dph_base"])
    assert row["dph_total"] > 2 * offer["dph_total"]


def refuses_create(status: int, code: str) -> Check:
    def look(scene: Scene) -> None:
        answer = scene.api.create(scene.api.offer_of(scene.machine_id))
        assert (answer.status_code, answer.json()["error"]) == (status, code)

    return look


check("no_credit")(refuses_create(400, "insufficient_credit"))
check("spend_rate_limit")(refuses_create(400, "spend_rate_limit"))


@check("destroy_fails", times=2)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    assert [scene.api.destroy(instance_id).status_code for _ in range(3)] == [500, 500, 200]
    assert scene.api.show(instance_id) is None


@check("destroy_lies")
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    assert scene.api.destroy(instance_id).json() == {"success": True}
    assert scene.api.show(instance_id) is not None
    scene.api.destroy(instance_id)
    assert scene.api.show(instance_id) is None


@check("destroy_lost")
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with pytest.raises(httpx.RemoteProtocolError):
        scene.api.destroy(instance_id)
    assert scene.api.show(instance_id) is None


def spoils_show(status: int, good: Callable[[httpx.Response], bool], *, for_ever: bool = False) -> Check:
    """The first ``show`` gets the wrong answer, and later ones the normal one, unless the fault is for ever."""

    def look(scene: Scene) -> None:
        instance_id = scene.instance()
        answer = scene.api.get(instance_id)
        assert answer.status_code == status
        assert good(answer), answer.text
        if not for_ever:
            until(lambda: scene.api.get(instance_id).text, lambda text: f'"id":{instance_id}' in text)

    return look


def says(**wanted: object) -> Callable[[httpx.Response], bool]:
    return lambda answer: all(answer.json().get(name) == value for name, value in wanted.items())


for _name, _status, _good in (
    ("rate_limited", 429, lambda answer: answer.headers["Retry-After"] == "1" and answer.json()["retry_after"] == 1),
    ("rate_limited_text", 429, lambda answer: answer.text == "API requests too frequent"),
    ("rate_limited_detail", 429, lambda answer: "too frequent" in answer.json()["detail"]),
    ("server_error", 500, lambda answer: answer.text == "Internal Server Error"),
    ("bad_gateway", 502, lambda answer: answer.text.startswith("<html>")),
    ("unavailable", 503, lambda answer: answer.text == "Service Unavailable"),
    (
        "bad_json",
        200,
        lambda answer: answer.headers["Content-Type"] == "application/json" and answer.text.endswith("tru"),
    ),
    ("empty_answer", 200, lambda answer: answer.text == ""),
    ("show_null", 200, says(instances=None)),
):
    check(_name, endpoint="show")(spoils_show(_status, _good))
for _name, _status, _code in (
    ("gone_404", 404, "instance_not_found"),
    ("search_quota", 429, "search_quota_exceeded"),
    ("auth_404", 404, "auth_error"),
    ("auth_401", 401, "auth_error"),
    ("not_authorized", 403, "not_authorized"),
):
    check(_name, endpoint="show")(spoils_show(_status, says(error=_code), for_ever=True))


@check("truncated", endpoint="show", times=1)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with pytest.raises(httpx.RemoteProtocolError):
        scene.api.get(instance_id)
    assert scene.api.show(instance_id) is not None


@check("connection_dropped", endpoint="destroy", times=1)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with pytest.raises(httpx.RemoteProtocolError):
        scene.api.destroy(instance_id)
    assert scene.api.show(instance_id) is not None


@check("slow_answer", endpoint="show", delay_s=60.0, times=1)
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with pytest.raises(httpx.ReadTimeout):
        scene.api.http.get(f"/api/v0/instances/{instance_id}/", timeout=0.1)
    assert scene.api.show(instance_id) is not None


@check("never_answers", endpoint="destroy")
def _(scene: Scene) -> None:
    instance_id = scene.instance()
    with pytest.raises(httpx.ReadTimeout):
        scene.api.http.delete(f"/api/v0/instances/{instance_id}/", timeout=0.3)
    assert scene.api.show(instance_id) is not None


@check("attach_refused", times=2)
def _(scene: Scene) -> None:
    path = f"/api/v0/instances/{scene.instance()}/ssh/"
    answers = [scene.api.http.post(path, json={"ssh_key": "ssh-ed25519 AAAA"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 200]
    assert answers[0].json()["error"] == "team_ssh_keys_not_supported"


# --- status -----------------------------------------------------------------------------------------------------------


def never_runs(effect: NeverBoots, *, stops: bool) -> Check:
    def look(scene: Scene) -> None:
        text = effect.text.replace("{image}", "some/image:1") or None
        instance_id = scene.booting(image="some/image:1")
        row = scene.api.becomes(instance_id, actual_status=effect.actual_status, status_msg=text)
        if stops:
            row = scene.api.becomes(instance_id, intended_status="stopped", cur_state="stopped")
        assert (row["actual_status"], row["ports"]) == (effect.actual_status, {})

    return look


for _kind in catalogue().values():
    if isinstance(_kind.effect, NeverBoots):
        _stops = _kind.parameters["stops_after_s"] != float("inf")
        check(_kind.name, **({"stops_after_s": 0.2} if _stops else {}))(never_runs(_kind.effect, stops=_stops))


@check("status_frozen", for_s=2.0)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="loading", status_msg="5f70bf18a086: Pull complete")
    scene.api.becomes(instance_id, actual_status="running")


@check("heartbeat_gap", for_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="running")
    states = scene.states(instance_id)
    assert states[states.index("unknown") :] == ["unknown", "loading", "running"]


@check("report_gap", after=1, looks=2)
def _(scene: Scene) -> None:
    instance_id = scene.api.rent(scene.machine_id, runtype="ssh_direct")
    rows = [scene.api.show(instance_id) for _ in range(4)]
    assert [row and row["intended_status"] for row in rows] == ["running", "stopped", "stopped", "running"]


@check("queued")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(), actual_status="scheduling")
    assert row["intended_status"] == "running"


@check("stale_status")
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    row = scene.api.becomes(instance_id, actual_status="exited")
    assert (row["cur_state"], row["status_msg"]) == ("running", "success, running any/ssh")


@check("trailing_newlines")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(), actual_status="running")
    assert (row["public_ipaddr"], row["status_msg"]) == ("127.0.0.1\n", "success, running\n")
