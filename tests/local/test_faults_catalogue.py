"""Every fault of the catalogue, seen from outside: over HTTP and with OpenSSH's own client.

One market holds one machine for each fault. An instance that only the API has to be wrong about is never started.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_vastgpu.local.effects import NeverBoots
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.faults import Layer
from pytest_vastgpu.local.faults import catalogue
from tests.local.api import Api
from tests.local.api import until

Check = Callable[["Scene"], None]
CHECKS: dict[str, Check] = {}
PARAMETERS: dict[str, dict[str, object]] = {}
"""What a fault is given in the fleet, to be quick and to be told from others."""


class Scene:
    """A fault's machine, and what a test does with it."""

    def __init__(self, api: Api, machine_id: int, key: Path) -> None:
        self.api = api
        self.machine_id = machine_id
        self.key = key

    def instance(self, **body: object) -> int:
        """An instance that is not started."""
        return self.api.rent(self.machine_id, target_state="stopped", **body)

    def booting(self, **body: object) -> int:
        return self.api.rent(self.machine_id, runtype="ssh_direct", **body)

    def running(self, **body: object) -> dict[str, Any]:
        instance_id = self.booting(**body)
        public = self.key.with_suffix(".pub").read_text()
        self.api.http.post(f"/api/v0/instances/{instance_id}/ssh/", json={"ssh_key": public})
        return self.api.becomes(instance_id, actual_status="running")

    def ssh(self, row: dict[str, Any], command: str, *options: str) -> subprocess.CompletedProcess[str]:
        flags = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes"]
        flags += ["ConnectTimeout=5", *options]
        line = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(row["ssh_port"])]
        line += [word for flag in flags for word in ("-o", flag)]
        return subprocess.run(
            [*line, f"root@{row['ssh_host']}", command], capture_output=True, text=True, timeout=60, check=False
        )

    def inside(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.ssh(self.running(), command)


def check(name: str, **parameters: object) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        PARAMETERS[name] = parameters
        return function

    return add


# --- API --------------------------------------------------------------------------------------------------------------


@check("offer_taken", status=404)
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id))
    assert (answer.status_code, answer.json()["error"]) == (404, "no_such_ask")
    assert scene.api.offers(machine_id={"eq": scene.machine_id}) != []


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


@check("create_slow", delay_s=1.0)
def _(scene: Scene) -> None:
    with pytest.raises(httpx.ReadTimeout):
        scene.api.http.put(
            f"/api/v0/asks/{scene.api.offer_of(scene.machine_id)}/",
            json={"image": "any", "label": "slow", "target_state": "stopped"},
            timeout=0.3,
        )
    assert scene.api.listed(select_filters='{"label": {"eq": "slow"}}')["total_instances"] == 1


@check("create_success_false")
def _(scene: Scene) -> None:
    answer = scene.api.create(scene.api.offer_of(scene.machine_id))
    assert (answer.status_code, answer.json()["success"]) == (200, False)
    row = scene.api.show(answer.json()["new_contract"])
    assert row is not None
    assert (row["actual_status"], row["intended_status"]) == ("stopped", "stopped")


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
    """The first look at an instance is answered wrongly, and later ones truly unless the fault is for ever."""

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


@check("slow_answer", endpoint="show", delay_s=0.5)
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


@check("status_frozen", for_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="loading", status_msg="5f70bf18a086: Pull complete")
    scene.api.becomes(instance_id, actual_status="running")


@check("heartbeat_gap", for_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="unknown")
    scene.api.becomes(instance_id, actual_status="running")


@check("queued")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(), actual_status="scheduling")
    assert row["intended_status"] == "running"


@check("stale_status")
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    row = scene.api.becomes(instance_id, actual_status="exited")
    assert (row["cur_state"], row["status_msg"]) == ("running", "success, running any/ssh")


# --- SSH --------------------------------------------------------------------------------------------------------------


@check("ssh_refused", for_s=1.5)
def _(scene: Scene) -> None:
    row = scene.running()
    assert "refused" in scene.ssh(row, "true").stderr
    until(lambda: scene.ssh(row, "true").returncode, lambda code: code == 0)


@check("ssh_black_hole")
def _(scene: Scene) -> None:
    row = scene.running()
    with pytest.raises(TimeoutError), socket.create_connection((row["ssh_host"], row["ssh_port"]), timeout=0.5) as s:
        s.recv(1)


@check("ssh_reset", times=2)
def _(scene: Scene) -> None:
    row = scene.running()
    codes = [scene.ssh(row, "true").returncode for _ in range(3)]
    assert codes == [255, 255, 0]


@check("ssh_key_refused", for_s=1.5)
def _(scene: Scene) -> None:
    row = scene.running()
    assert "Permission denied" in scene.ssh(row, "true").stderr
    until(lambda: scene.ssh(row, "true").returncode, lambda code: code == 0)


@check("host_key_changed", after_s=1.0)
def _(scene: Scene) -> None:
    row = scene.running()
    known = scene.key.parent / f"known-{scene.machine_id}"
    trust = (f"UserKnownHostsFile={known}", "StrictHostKeyChecking=accept-new")

    def login() -> subprocess.CompletedProcess[str]:
        line = ["ssh", "-F", "/dev/null", "-i", str(scene.key), "-p", str(row["ssh_port"]), "-o", "BatchMode=yes"]
        line += [word for flag in trust for word in ("-o", flag)]
        return subprocess.run([*line, f"root@{row['ssh_host']}", "true"], capture_output=True, text=True, check=False)

    assert login().returncode == 0
    assert "IDENTIFICATION HAS CHANGED" in until(login, lambda done: done.returncode != 0).stderr


@check("ssh_address_missing")
def _(scene: Scene) -> None:
    row = scene.running()
    assert row["ssh_host"] is row["ssh_port"] is None
    assert "ports" not in row


@check("ports_missing")
def _(scene: Scene) -> None:
    row = scene.running()
    assert "ports" not in row
    assert row["ssh_port"]


@check("tunnel_dies", after_s=0.5)
def _(scene: Scene) -> None:
    row = scene.running(onstart="exec python3 -m http.server 8000 --bind 127.0.0.1")
    ask = "curl --silent --output /dev/null http://127.0.0.1:8000/"
    until(lambda: scene.ssh(row, ask).returncode, lambda code: code == 0)
    line = ["ssh", "-F", "/dev/null", "-i", str(scene.key), "-p", str(row["ssh_port"]), "-o", "BatchMode=yes"]
    line += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-W", "127.0.0.1:8000"]
    with subprocess.Popen([*line, "root@127.0.0.1"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tunnel:
        assert tunnel.wait(60) != 0


# --- GPU and machine --------------------------------------------------------------------------------------------------

QUERY = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits"


@check("driver_too_old")
def _(scene: Scene) -> None:
    assert scene.inside(QUERY).stdout.strip().endswith(", 470.57.02")


@check("fewer_gpus")
def _(scene: Scene) -> None:
    done = scene.inside(QUERY)
    assert "RTX" not in done.stdout
    assert scene.api.listed()["instances"][0]["num_gpus"] == 1


@check("less_vram")
def _(scene: Scene) -> None:
    assert ", 4096, " in scene.inside(QUERY).stdout


@check("other_gpu")
def _(scene: Scene) -> None:
    assert "GTX 1060" in scene.inside(QUERY).stdout


@check("nvidia_smi_fails")
def _(scene: Scene) -> None:
    done = scene.inside("nvidia-smi")
    assert done.returncode == 9
    assert "couldn't communicate with the NVIDIA driver" in done.stdout + done.stderr


@check("libcuda_missing")
def _(scene: Scene) -> None:
    assert scene.inside("ldconfig -p | grep -c libcuda.so").stdout.strip() == "0"


@check("disk_full")
def _(scene: Scene) -> None:
    assert "No space left" in scene.inside("head -c 8000000 /dev/zero > ~/file").stderr


@check("onstart_never_runs")
def _(scene: Scene) -> None:
    row = scene.api.becomes(scene.booting(onstart="echo started"), actual_status="running")
    answer = scene.api.http.put(f"/api/v0/instances/request_logs/{row['id']}/", json={"tail": "10"}).json()
    assert until(lambda: scene.api.http.get(answer["result_url"]), lambda got: got.status_code == 200).text == ""


@check("no_network")
def _(scene: Scene) -> None:
    done = scene.inside("curl --silent --max-time 3 https://example.com; echo $?; env | grep -i _proxy")
    assert done.stdout.split()[0] != "0"
    assert "proxy" not in done.stdout.lower()


# --- mid-test ---------------------------------------------------------------------------------------------------------


@check("offline", after_s=0.3, for_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="offline", intended_status="running")
    scene.api.becomes(instance_id, actual_status="running")


def ends_as(actual: str, intended: str) -> Check:
    def look(scene: Scene) -> None:
        row = scene.running()
        scene.api.becomes(row["id"], actual_status=actual, intended_status=intended)
        until(lambda: scene.ssh(row, "true").returncode, lambda code: code == 255)

    return look


for _name, _actual, _intended in (
    ("host_lost", "offline", "running"),
    ("stops_by_itself", "exited", "stopped"),
    ("outbid", "stopped", "stopped"),
    ("container_exits", "exited", "running"),
    ("frozen", "frozen", "frozen"),
):
    check(_name, after_s=0.5)(ends_as(_actual, _intended))


@check("instance_vanishes", after_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    scene.api.becomes(instance_id, actual_status="running")
    until(lambda: scene.api.show(instance_id), lambda row: row is None)
    assert scene.api.listed()["total_instances"] == 0


# --- the test ---------------------------------------------------------------------------------------------------------

ON_THE_MARKET = {"list_lags"}
"""Faults of the API as a whole, which have a test of their own below."""
NAMES = sorted(CHECKS)


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    machines = [
        {"machine_id": 1000 + number, "host_id": number, "faults": [{"name": name, **PARAMETERS[name]}]}
        for number, name in enumerate(NAMES)
    ]
    with LocalMarket({"market": {"rate_limits": False}, "machines": machines}) as market:
        yield market


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


@pytest.fixture
def api(market: LocalMarket) -> Iterator[Api]:
    with Api(market) as api:
        yield api
        ids = [row["id"] for row in api.listed()["instances"]]
        if ids:
            api.http.request("DELETE", "/api/v0/instances/", json={"instance_ids": ids})


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_shows_from_outside(name: str, api: Api, key: Path) -> None:
    CHECKS[name](Scene(api, 1000 + NAMES.index(name), key))


def test_every_fault_has_a_test_and_a_description() -> None:
    kinds = catalogue()
    assert set(CHECKS) | ON_THE_MARKET == set(kinds)
    assert len(kinds) >= 40
    assert {kind.layer for kind in kinds.values()} == set(Layer)
    for kind in kinds.values():
        assert "\n" not in kind.description
        assert kind.description.strip() == kind.description != ""


def test_list_lags() -> None:
    fleet = {"market": {"rate_limits": False}, "machines": [{"machine_id": 7}], "faults": ["list_lags"]}
    with LocalMarket(fleet) as market, Api(market) as api:
        api.rent(7, target_state="stopped")
        assert [api.listed()["total_instances"] for _ in range(3)] == [0, 0, 1]
