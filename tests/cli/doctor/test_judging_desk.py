"""What is made of what was seen of this machine: tables, without looking at anything."""

from __future__ import annotations

import pytest

from pytest_vastgpu.cli.doctor import files
from pytest_vastgpu.cli.doctor import machine
from pytest_vastgpu.cli.doctor import ssh
from pytest_vastgpu.hostcheck.facts import Gpu
from pytest_vastgpu.hostcheck.facts import Holder
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.ssh.address import SshAddress
from tests.cli.doctor.words import said
from tests.support.vast import make_status

# --- SSH --------------------------------------------------------------------------------------------------------------

DIRECT = SshAddress("203.0.113.7", 40022, "direct")
PROXY = SshAddress("ssh7.vast.ai", 17044, "proxy")
USUAL = SshAddress("ssh5.vast.ai", 22022, "proxy")


@pytest.mark.parametrize(
    ("answered", "silent", "certain", "level", "words"),
    [
        (PROXY, [DIRECT], False, "ok", ["ssh7.vast.ai answers at port 17044"]),
        (None, [], False, "ok", ["not tried"]),
        (None, [USUAL], True, "warning", ["see market"]),
        (None, [PROXY, USUAL], False, "warning", ["ssh7.vast.ai:17044 and ssh5", "all TCP ports", "nc -vz ssh5"]),
    ],
)
def test_the_way_out(
    answered: SshAddress | None, silent: list[SshAddress], certain: bool, level: str, words: list[str]
) -> None:
    finding = ssh.judge_way_out(answered, silent, certain=certain)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


def test_addresses_of_living_instances_are_tried_first() -> None:
    direct = {"public_ipaddr": "203.0.113.7", "ports": {"22/tcp": 40022}}
    living = [
        make_status(id=number, ssh_host="ssh7.vast.ai", ssh_port=17000 + number, **direct) for number in (1, 2, 3)
    ]
    tried = ssh.to_try(living, USUAL)
    assert [(address.host, address.port) for address in tried] == [
        ("ssh7.vast.ai", 17001),
        ("ssh7.vast.ai", 17002),
        ("ssh5.vast.ai", 22022),
    ]
    assert len(ssh.to_try(living, None)) == 3
    assert ssh.to_try([], USUAL) == [USUAL]
    assert ssh.to_try([], None) == []


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warning"), (0o604, "warning")])
def test_the_mode_of_a_key(mode: int, level: str) -> None:
    finding = ssh.judge_mode(mode, "k (ssh-ed25519)", "/k")
    assert finding.level == level
    assert finding.command == ("" if level == "ok" else "chmod 600 /k")


def test_no_ssh_program_is_a_warning() -> None:
    assert ssh.judge_program("/usr/bin/ssh").level == "ok"
    assert "openssh-client" in ssh.judge_program(None).command


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (files.Place("/s/runs", free_mb=90_000), "ok", ["/s/runs (90.0 GB free)"]),
        (files.Place("/s/runs", free_mb=499), "warning", ["499 MB left"]),
        (files.Place("/s/runs", free_mb=19), "problem", ["19 MB left"]),
        (files.Place("/s/runs", there="/", error="Read-only file system"), "problem", ["/ cannot", "XDG_STATE_HOME"]),
        (files.Place("/s/runs", foreign="/s"), "problem", ["/s belongs to another user"]),
        (files.Place("/s/runs", open_to_all="/s"), "problem", ["everybody may write to /s", "chmod 700 /s"]),
    ],
)
def test_the_place_of_records(seen: files.Place, level: str, words: list[str]) -> None:
    finding = files.judge_place(seen)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


# --- this machine -----------------------------------------------------------------------------------------------------

NONE = Isolation("none", "this system allows no namespaces (EPERM)")


@pytest.mark.parametrize(
    ("found", "switches", "in_container", "level", "words"),
    [
        (Isolation("root"), {}, False, "ok", ["with root's rights"]),
        (Isolation("user"), {}, True, "ok", ["user namespace"]),
        (NONE, {}, True, "warning", ["cannot both serve port 8000", "--cap-add SYS_ADMIN"]),
        (NONE, {}, False, "warning", ["one instance at a time"]),
        (
            NONE,
            {"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "9"},
            False,
            "warning",
            ["sudo sysctl -w kernel.unprivileged_userns_clone=1"],
        ),
        (
            NONE,
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            False,
            "warning",
            ["sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
        ),
        (NONE, {"user.max_user_namespaces": "0"}, True, "warning", ["container's host", "max_user_namespaces=15000"]),
    ],
)
def test_namespaces(
    found: Isolation, switches: dict[str, str], in_container: bool, level: str, words: list[str]
) -> None:
    finding = machine.judge_namespaces(found, switches, in_container=in_container)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


FREE = Gpu("NVIDIA H100", 81_000, 500, "550.54")
FULL = Gpu("NVIDIA H100", 81_000, 60_000, "550.54")


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (HostFacts(), "ok", ["no GPU here; the local market rents this machine without one"]),
        (HostFacts(gpus=(FREE,), libcuda=True), "ok", ["NVIDIA H100 (80 GB free), driver 550.54"]),
        (
            HostFacts(gpus=(FREE, FULL), holders=(Holder(71, "python3", 59_000),)),
            "warning",
            ["60.0 GB are in use by process 71 (python3): 59.0 GB", "kill 71"],
        ),
        (HostFacts(gpus=(FULL,)), "warning", ["60.0 GB are in use", "$ nvidia-smi"]),
        (HostFacts(gpus=(FREE,), libcuda=False), "warning", ["no libcuda", "--gpus all"]),
        (HostFacts(smi_present=True, smi_exit_code=9, smi_text="mismatch"), "warning", ["nvidia-smi fails (mismatch)"]),
        (HostFacts(libcuda=True), "warning", ["no nvidia-smi"]),
        (HostFacts(device_nodes=1), "warning", ["no nvidia-smi"]),
    ],
)
def test_gpus(seen: HostFacts, level: str, words: list[str]) -> None:
    finding = machine.judge_gpus(seen)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []
