"""Every verb of Vast's own client that rents, uses and gives back, against the local market."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from tests.behaviour.contract.conftest import Vastai
from tests.support.looks import until

RICH = (
    "reliability>0.99 num_gpus=1 gpu_name=RTX_4090 gpu_ram>=20 duration>3 cuda_vers>=12.1 geolocation in [SE,NO] "
    "driver_version>=535.86.05 datacenter=true"
)


def offer(vastai: Vastai) -> str:
    return str(vastai.raw("search", "offers", "machine_id=100")[0]["id"])


def create(vastai: Vastai, *words: str) -> str:
    made = vastai.raw("create", "instance", offer(vastai), "--image", "ubuntu:22.04", "--cancel-unavail", *words)
    assert made["success"]
    return str(made["new_contract"])


def running(vastai: Vastai, instance: str) -> None:
    until(lambda: vastai.raw("show", "instance", instance)["actual_status"], lambda status: status == "running")


def test_search(vastai: Vastai) -> None:
    found = vastai.raw("search", "offers", RICH, "-o", "dph,score-", "--limit", "5", "--storage", "20")
    assert [row["machine_id"] for row in found] == [100]
    assert found[0]["dph_total"] > found[0]["dph_base"]
    assert "RTX_4090" in vastai.says("search", "offers", RICH)
    assert [row["machine_id"] for row in vastai.raw("search", "offers", "verified=false")] == [200]
    assert vastai.raw("search", "offers", "gpu_name=H100_SXM verified=true") == []
    bids = vastai.raw("search", "offers", "-n", "gpu_name=RTX_4090", "--type", "bid")
    assert [row["is_bid"] for row in bids] == [True]
    assert [row["machine_id"] for row in vastai.raw("search", "offers", "--new")] == [100]


def test_a_life(vastai: Vastai, tmp_path: Path) -> None:
    instance = create(
        vastai,
        *("--disk", "20", "--ssh", "--direct", "--label", "lab", "--login", "-u bob -p pw docker.io"),
        *("--env", "-e FOO=bar -e QUOTED='a b' -p 8000:8000 -h myhost", "--onstart-cmd", 'echo "$FOO, $QUOTED"'),
    )
    running(vastai, instance)
    shown = vastai.raw("show", "instance", instance)
    assert (shown["label"], shown["image_runtype"]) == ("lab", "ssh_direc ssh_proxy")
    assert instance in vastai.says("show", "instance", instance)
    assert (
        until(lambda: vastai.says("logs", instance, "--tail", "50"), lambda text: "a b" in text).strip() == "bar, a b"
    )
    assert "a b" not in vastai.says("logs", instance, "--filter", "nothing-like-that")

    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert "True" in vastai.says("attach", "ssh", instance, f"{key}.pub")
    url = vastai.says("ssh-url", instance).strip()
    port = url.rpartition(":")[2]
    assert url == f"ssh://root@127.0.0.1:{port}"
    options = ["-F", "/dev/null", "-i", str(key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", f"UserKnownHostsFile={tmp_path / 'known'}"]
    file = tmp_path / "file"
    file.write_text("carried over")
    subprocess.run(["scp", *options, "-P", port, str(file), "root@127.0.0.1:file"], check=True, capture_output=True)
    done = subprocess.run(
        ["ssh", *options, "-p", port, "root@127.0.0.1", "cat file; echo $FOO"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "carried over\n"
    assert "Welcome to vast.ai" in done.stderr

    assert "newlabel" in vastai.says("label", "instance", instance, "newlabel")
    listed = vastai.raw("show", "instances", "--label", "newlabel", "--status", "running", "--limit", "5")
    assert [str(row["id"]) for row in listed["instances"]] == [instance]
    vastai.says("reboot", "instance", instance)
    running(vastai, instance)
    vastai.says("stop", "instance", instance)
    assert vastai.raw("show", "instance", instance)["intended_status"] == "stopped"
    vastai.says("start", "instance", instance)
    running(vastai, instance)
    vastai.says("recycle", "instance", instance)
    running(vastai, instance)
    vastai.says("update", "instance", instance, "--image", "ubuntu:24.04")
    assert vastai.raw("show", "instance", instance)["image_uuid"] == "ubuntu:24.04"
    vastai.says("destroy", "instance", instance, "-y")
    assert vastai.says("show", "instances", "-q").split() == []


def test_many_on_several_pages(vastai: Vastai) -> None:
    ask = offer(vastai)
    script = (
        "import json; from vastai import VastAI; v = VastAI()\n"
        f"print(json.dumps([v.create_instance(id={ask}, image='x', label='many')['new_contract'] for _ in range(30)]))"
    )
    ids = vastai.script(script)
    shown = vastai.script("import json; from vastai import VastAI; print(json.dumps(VastAI().show_instances()))")
    assert sorted(row["id"] for row in shown) == sorted(ids)
    assert all(str(each) in vastai.says("show", "instances", "-q").split() for each in ids)
    assert vastai.says("show", "instances", "-v")
    vastai.says("stop", "instances", *map(str, ids[:2]))
    vastai.says("destroy", "instances", *map(str, ids), "-y")


def test_bids_bulk_and_launch(vastai: Vastai) -> None:
    bid = create(vastai, "--ssh", "--bid_price", "0.2")
    vastai.says("change", "bid", bid, "--price", "0.25")
    assert vastai.raw("show", "instance", bid)["dph_base"] == 0.25
    vastai.says("create", "instances", offer(vastai), "--image", "ubuntu:22.04")
    assert vastai.raw("launch", "instance", "-g", "RTX_4090", "-n", "1", "-i", "ubuntu:22.04", "--ssh", "--direct")[
        "success"
    ]
    assert len(vastai.says("show", "instances", "-q").split()) == 3


def test_keys_templates_and_user(vastai: Vastai, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    vastai.says("create", "ssh-key", public, "-y")
    [record] = [each for each in vastai.raw("show", "ssh-keys") if each["public_key"] == public]
    vastai.says("update", "ssh-key", str(record["id"]), public + "2")
    instance = create(vastai)
    vastai.says("detach", "ssh", instance, str(record["id"]))
    vastai.says("delete", "ssh-key", str(record["id"]))
    assert all(each["id"] != record["id"] for each in vastai.raw("show", "ssh-keys"))
    assert vastai.raw("search", "templates", "name=t") == []
    user = vastai.raw("show", "user")
    assert user["credit"] > 0
    assert user["email"] in vastai.says("show", "user")


def test_what_it_says_to_refusals(vastai: Vastai) -> None:
    for words, text in (
        (("create", "instance", "5", "--image", "x"), "Failed with error 404: error 404/3603: no_such_ask"),
        (("destroy", "instance", "5", "-y"), "Failed with error 404: Instance 5 not found."),
        (("show", "user", "--api-key", "wrong"), "Failed with error 401: Invalid user key"),
    ):
        done = vastai.run(*words)
        assert text in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    refused = vastai.run("create", "instance", "5", "--image", "x", "--raw")
    assert json.loads(refused.stderr)["status_code"] == 404
    instance = create(vastai)
    assert "on-demand contract" in vastai.run("change", "bid", instance, "--price", "0.2").stderr
    assert "Aborted" in vastai.run("destroy", "instance", instance).stdout


def test_a_program_of_ones_own(vastai: Vastai) -> None:
    """``--args`` takes all that follows, and so it comes last."""
    words = ("create", "instance", offer(vastai), "--image", "ubuntu:22.04", "--raw", "--entrypoint", "bash")
    made = json.loads(vastai.says(*words, "--args", "-c", "echo hello from $0"))
    instance = str(made["new_contract"])
    shown = until(lambda: vastai.raw("show", "instance", instance), lambda row: bool(row["actual_status"] == "exited"))
    assert (shown["image_runtype"], shown["image_args"]) == ("args", ["-c", "echo hello from $0"])
    assert until(lambda: vastai.says("logs", instance), bool).strip() == "hello from bash"
    assert vastai.says("logs", instance, "--daemon-logs").strip().startswith("container exited")


def test_jupyter_has_ssh_beside_it(vastai: Vastai) -> None:
    proxied = create(vastai, "--jupyter")
    running(vastai, proxied)
    direct = create(vastai, "--jupyter", "--direct", "--jupyter-lab")
    running(vastai, direct)
    assert set(vastai.raw("show", "instance", direct)["ports"]) == {"22/tcp", "8080/tcp"}
    for instance in (proxied, direct):
        host, _, port = vastai.says("ssh-url", instance).strip().rpartition("/")[2].partition("@")[2].partition(":")
        with socket.create_connection((host, int(port)), 30) as connection:
            assert connection.recv(8).startswith(b"SSH-2.0-")


def test_a_template_from_its_making_to_its_end(vastai: Vastai) -> None:
    flags = ("--env", "-e A=1 -p 8000:8000", "--onstart-cmd", "echo started with $A", "--ssh", "--direct")
    vastai.says("create", "template", "--name", "mine", "--image", "me/t", *flags, "--disk_space", "20")
    [template] = vastai.raw("search", "templates", "name=mine")
    instance = str(
        vastai.raw("create", "instance", offer(vastai), "--template_hash", template["hash_id"], "--disk", "16")[
            "new_contract"
        ]
    )
    running(vastai, instance)
    shown = vastai.raw("show", "instance", instance)
    assert (shown["image_uuid"], shown["disk_space"]) == ("me/t", 16)
    assert until(lambda: vastai.says("logs", instance), bool).strip() == "started with 1"
    vastai.says("update", "template", template["hash_id"], "--name", "mine", "--image", "me/u")
    [changed] = vastai.raw("search", "templates", "name=mine")
    assert (changed["id"], changed["image"]) == (template["id"], "me/u")
    vastai.says("delete", "template", "--hash-id", changed["hash_id"])
    assert vastai.raw("search", "templates", "name=mine") == []


def test_money_beforehand(vastai: Vastai) -> None:
    instance = create(vastai)
    before = vastai.raw("show", "user")["credit"]
    assert "months of instance" in vastai.says("prepay", "instance", instance, "5")
    assert before - vastai.raw("show", "user")["credit"] == pytest.approx(5, abs=0.1)
    vastai.says("destroy", "instance", instance, "-y")
    assert vastai.raw("show", "user")["credit"] == pytest.approx(before, abs=0.1)


def test_a_url_that_ends_in_a_slash(vastai: Vastai, market: LocalMarket) -> None:
    assert vastai.raw("--url", f"{market.url}/", "show", "user")["id"] == 1


def own_market(client: Path, home: Path, market: LocalMarket) -> Vastai:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "VAST_URL": market.url}
    return Vastai(client, {**environment, "VAST_API_KEY": market.api_key, "VASTAI_NO_UPDATE_CHECK": "1"})


def test_limits_hold_it_up_and_do_not_break_it(client: Path, tmp_path: Path) -> None:
    with LocalMarket({"machines": [{"machine_id": 100}]}) as market:
        vastai = own_market(client, tmp_path, market)
        for _ in range(2):
            assert [row["machine_id"] for row in vastai.raw("search", "offers")] == [100]


def test_it_rents_twice_where_the_answer_to_a_create_is_lost(client: Path, tmp_path: Path) -> None:
    """It asks again after a 503, as it does of the real market: that is what the fault is there to show."""
    machine = {"machine_id": 100, "slots": 2, "faults": [{"name": "create_lost", "status": 503}]}
    with LocalMarket({"market": {"rate_limits": False}, "machines": [machine]}) as market:
        vastai = own_market(client, tmp_path, market)
        create(vastai, "--label", "twin")
        assert market.status()["rents_per_label"] == {"twin": 2}
        assert [each["label"] for each in market.status()["alive"]] == ["twin", "twin"]
