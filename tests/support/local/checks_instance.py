"""Checks of the faults of instances that run."""

from __future__ import annotations

import json
import socket
import subprocess
import time

import pytest

from tests.support.local.scene import Check
from tests.support.local.scene import Scene
from tests.support.local.scene import check
from tests.support.looks import until

# --- SSH --------------------------------------------------------------------------------------------------------------


@check("ssh_refused", for_s=5.0)
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


@check("ssh_slow", delay_s=1.5)
def _(scene: Scene) -> None:
    row = scene.running()
    began = time.monotonic()
    with socket.create_connection((row["ssh_host"], row["ssh_port"]), timeout=30) as connection:
        assert connection.recv(7) == b"SSH-2.0"
    assert time.monotonic() - began >= 1.5
    assert scene.ssh(row, "echo after all").stdout == "after all\n"


@check("ssh_proxy_broken")
def _(scene: Scene) -> None:
    row = scene.running(onstart="echo up")
    assert "refused" in scene.ssh(row, "true").stderr
    direct = {**row, "ssh_port": row["ports"]["22/tcp"][0]["HostPort"]}
    assert scene.ssh(direct, "echo direct").stdout == "direct\n"
    log = scene.api.log(row["id"], lambda text: "up" in text)
    assert f"remote port forwarding failed for listen port {row['ssh_port']}" in log


@check("ssh_address_early")
def _(scene: Scene) -> None:
    row = scene.api.show(scene.instance())
    assert row is not None
    assert (row["actual_status"], row["ssh_host"], row["ssh_port"]) == ("stopped", "127.0.0.1", 9)
    assert scene.ssh(row, "true").returncode == 255
    assert scene.ssh(scene.running(), "true").returncode == 0


@check("ssh_key_refused", for_s=5.0)
def _(scene: Scene) -> None:
    row = scene.running()
    assert "Permission denied" in scene.ssh(row, "true").stderr
    until(lambda: scene.ssh(row, "true").returncode, lambda code: code == 0)


WRITE_KEY = 'mkdir -p ~/.ssh; echo "{key}" >> ~/.ssh/authorized_keys'


@check("key_needs_onstart")
def _(scene: Scene) -> None:
    row = scene.running()
    assert "Permission denied" in scene.ssh(row, "true").stderr
    scene.api.destroy(row["id"])
    row = scene.running(onstart=WRITE_KEY.format(key=scene.key.with_suffix(".pub").read_text().strip()))
    until(lambda: scene.ssh(row, "true").returncode, lambda code: code == 0)


@check("key_needs_attach")
def _(scene: Scene) -> None:
    public = scene.key.with_suffix(".pub").read_text().strip()
    instance_id = scene.booting(onstart=f"{WRITE_KEY.format(key=public)}; echo written")
    row = scene.api.becomes(instance_id, actual_status="running")
    scene.api.log(instance_id, lambda text: "written" in text)
    path = f"/api/v0/instances/{instance_id}/ssh/"
    for known in json.loads(scene.api.http.get(path).json()["ssh_keys"]):  # the account may have it
        scene.api.http.delete(f"{path}{known['id']}/")
    assert "Permission denied" in scene.ssh(row, "true").stderr
    scene.api.http.post(path, json={"ssh_key": public})
    assert scene.ssh(row, "true").returncode == 0


@check("login_hijacked", for_s=0.5)
def _(scene: Scene) -> None:
    row = scene.running(onstart="echo up")
    scene.api.log(row["id"], lambda text: "up" in text)
    done = scene.ssh(row, "echo not yet")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (1, "", "no sessions")
    scene.api.destroy(row["id"])
    row = scene.running(onstart="touch ~/.no_auto_tmux")
    until(lambda: scene.ssh(row, "echo after all").stdout, lambda said: said == "after all\n")


@check("host_key_changed", after_s=5.0)
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


@check("ports_late", looks=2)
def _(scene: Scene) -> None:
    row = scene.running()
    assert (row["public_ipaddr"], row["ports"]) == (None, None)
    shown = until(lambda: scene.api.show(row["id"]), lambda row: bool(row and row["ports"]))
    assert shown is not None
    assert shown["public_ipaddr"] == "127.0.0.1"


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


def gpus(scene: Scene, fields: str) -> str:
    return scene.inside(f"nvidia-smi --query-gpu={fields} --format=csv,noheader,nounits").stdout.strip()


@check("throttled")
def _(scene: Scene) -> None:
    fields = "clocks_event_reasons.active,clocks_throttle_reasons.hw_thermal_slowdown"
    assert gpus(scene, fields) == "0x0000000000000041, Active"


@check("narrow_pcie")
def _(scene: Scene) -> None:
    assert gpus(scene, "pcie.link.width.current,pcie.link.width.max") == "1, 16"


@check("busy_gpu")
def _(scene: Scene) -> None:
    assert gpus(scene, "utilization.gpu,pstate") == "60, P0"


@check("slow_memory")
def _(scene: Scene) -> None:
    copied = "import torch, time; t = torch.empty(10 ** 10, device='cuda:0'); b = time.time(); t.copy_(t)"
    assert float(scene.inside(f'python3 -c "{copied}; torch.cuda.synchronize(); print(time.time() - b)"').stdout) >= 0.1


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


@check("container_key_missing")
def _(scene: Scene) -> None:
    first = scene.inside("tr '\\0' '\\n' < /proc/1/environ").stdout
    assert "CONTAINER_ID=" in first
    assert "CONTAINER_API_KEY" not in first


@check("tools_missing", tools="curl wget python*")
def _(scene: Scene) -> None:
    row = scene.running()
    assert scene.ssh(row, "command -v curl wget python python3").stdout == ""
    assert scene.ssh(row, "curl --version").returncode == 127
    assert scene.ssh(row, "ls / && nvidia-smi -L").returncode == 0


@check("image_env")
def _(scene: Scene) -> None:
    row = scene.running(onstart="command -v python3; echo looked")
    assert scene.ssh(row, "command -v python python3; bash -lc 'command -v python3'").stdout == ""
    assert scene.api.log(row["id"], lambda text: "looked" in text).splitlines()[0].endswith("/python3")


@check("no_network")
def _(scene: Scene) -> None:
    done = scene.inside("curl --silent --max-time 3 https://example.com; echo $?; env | grep -i _proxy")
    assert done.stdout.split()[0] != "0"
    assert "proxy" not in done.stdout.lower()


# --- mid-test ---------------------------------------------------------------------------------------------------------


@check("offline", after_s=0.3, for_s=0.5)
def _(scene: Scene) -> None:
    instance_id = scene.booting()
    until(lambda: scene.states(instance_id)[-3:], lambda states: states == ["running", "offline", "running"])
    assert scene.api.becomes(instance_id, actual_status="running")["intended_status"] == "running"


def ends_as(actual: str, intended: str) -> Check:
    def look(scene: Scene) -> None:
        row = scene.api.becomes(scene.booting(), actual_status=actual, intended_status=intended)
        until(lambda: scene.ssh(row, "true", "ConnectTimeout=5").returncode, lambda code: code == 255)

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
    until(lambda: scene.api.show(instance_id), lambda row: row is None)
    assert scene.states(instance_id)[-1] == "running"
    assert scene.api.listed()["total_instances"] == 0
