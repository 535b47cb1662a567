"""Faults of instances that run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_vastgpu.local.faults.base import FOR_EVER
from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.effects import Delivers
from pytest_vastgpu.local.faults.effects import NoNetwork
from pytest_vastgpu.local.faults.effects import Parameters
from pytest_vastgpu.local.faults.effects import Reports
from pytest_vastgpu.local.faults.effects import Turns
from pytest_vastgpu.local.faults.effects import Unset
from pytest_vastgpu.local.faults.effects import Vanishes
from pytest_vastgpu.local.faults.effects import Within
from pytest_vastgpu.local.gpu import SimulatedGpu

Gpus = tuple[SimulatedGpu, ...]


def _old_driver(gpus: Gpus, given: Parameters) -> Gpus:
    version, cuda = str(given["driver_version"]), float(given["cuda"])
    return tuple(replace(gpu, driver_version=version, cuda_max_good=cuda) for gpu in gpus)


def _every_gpu(field: str, parameter: str) -> Delivers:
    """Sets one field of each GPU to a parameter."""

    def changed(gpus: Gpus, given: Parameters) -> Gpus:
        change: dict[str, Any] = {field: int(given[parameter])}
        return tuple(replace(gpu, **change) for gpu in gpus)

    return Delivers(changed)


def _within(
    name: str, description: str, layer: Layer, field: str, parameter: str = "", default: float | str = 0.0
) -> FaultKind:
    """A fault inside the instance: sets one field of ``ContainerFaults`` to a parameter, or to true."""
    if not parameter:
        return FaultKind(name, description, layer, Within(lambda _: {field: True}))
    return FaultKind(name, description, layer, Within(lambda given: {field: given[parameter]}), {parameter: default})


INSTANCE_FAULTS: tuple[FaultKind, ...] = (
    _within("ssh_refused", "SSH connections are refused for a time", Layer.SSH, "ssh_refused_s", "for_s", FOR_EVER),
    _within("ssh_black_hole", "SSH connections are never answered", Layer.SSH, "ssh_black_hole"),
    FaultKind(
        "ssh_reset",
        "The first SSH connections are reset",
        Layer.SSH,
        Within(lambda given: {"ssh_reset_first_n": given["times"]}),
        {"times": 1},
    ),
    _within("ssh_slow", "The SSH server is slow to say its first word", Layer.SSH, "ssh_slow_s", "delay_s", 8.0),
    _within("ssh_proxy_broken", "The proxy has lost the host; a direct address works", Layer.SSH, "proxy_broken"),
    _within("ssh_key_refused", "No SSH key is accepted for a time", Layer.SSH, "key_refused_s", "for_s", FOR_EVER),
    _within(
        "key_needs_onstart",
        "The image ignores attached SSH keys: only one that the start script writes is accepted",
        Layer.SSH,
        "attached_keys_ignored",
    ),
    _within(
        "key_needs_attach",
        "The image ignores SSH keys that the start script writes: only an attached one is accepted",
        Layer.SSH,
        "written_keys_ignored",
    ),
    _within(
        "login_hijacked",
        "SSH answers before the start script has run; until ~/.no_auto_tmux exists, no command is carried out",
        Layer.SSH,
        "login_hijacked_s",
        "for_s",
        20.0,
    ),
    _within(
        "host_key_changed",
        "The SSH server shows another host key after a time",
        Layer.SSH,
        "host_key_changes_after_s",
        "after_s",
        5.0,
    ),
    _within(
        "tunnel_dies",
        "An SSH connection is cut a time after its first forwarding",
        Layer.MID_TEST,
        "tunnels_die_after_s",
        "after_s",
        5.0,
    ),
    FaultKind(
        "ssh_address_missing",
        "The instance runs, but has no SSH address",
        Layer.SSH,
        Reports({"ssh_host": None, "ssh_port": None}, missing=("ports",)),
    ),
    FaultKind(
        "ssh_address_early",
        "An SSH address is shown while the instance still loads, and nobody is there",
        Layer.SSH,
        Reports({"ssh_host": "127.0.0.1", "ssh_port": 9}, while_running=False),
    ),
    FaultKind(
        "ports_late",
        "The instance runs, but for some looks its address and its ports are not published yet",
        Layer.SSH,
        Reports({"public_ipaddr": None, "ports": None}),
        {"looks": 3},
    ),
    FaultKind(
        "ports_missing",
        "The instance runs, but none of its ports was mapped",
        Layer.SSH,
        Reports({}, missing=("ports",)),
    ),
    FaultKind(
        "driver_too_old",
        "The driver is older than was sold",
        Layer.GPU,
        Delivers(_old_driver),
        {"driver_version": "470.57.02", "cuda": 11.4},
    ),
    FaultKind(
        "fewer_gpus",
        "Fewer GPUs are there than were sold",
        Layer.GPU,
        Delivers(lambda gpus, given: gpus[: int(given["gpus"])]),
        {"gpus": 0},
    ),
    FaultKind(
        "less_vram",
        "The GPUs have less memory than was sold",
        Layer.GPU,
        Delivers(lambda gpus, given: tuple(replace(gpu, ram_mb=int(given["ram_mb"])) for gpu in gpus)),
        {"ram_mb": 4096},
    ),
    FaultKind(
        "other_gpu",
        "Another GPU is there than was sold",
        Layer.GPU,
        Delivers(lambda gpus, given: tuple(replace(gpu, name=str(given["gpu_name"])) for gpu in gpus)),
        {"gpu_name": "GTX 1060"},
    ),
    FaultKind(
        "throttled",
        "The GPUs are slowed down; the reasons are NVML's bits, and 64 is a hardware that is too hot",
        Layer.GPU,
        _every_gpu("throttle_reasons", "reasons"),
        {"reasons": 64},
    ),
    FaultKind(
        "narrow_pcie",
        "The GPUs have fewer PCIe lanes than was sold",
        Layer.GPU,
        _every_gpu("pcie_lanes", "lanes"),
        {"lanes": 1},
    ),
    FaultKind(
        "busy_gpu",
        "A process outside the instance uses the GPUs",
        Layer.GPU,
        _every_gpu("busy_percent", "percent"),
        {"percent": 60},
    ),
    FaultKind(
        "slow_memory",
        "The GPUs' memory is slower than was sold, as the instance's PyTorch measures it",
        Layer.GPU,
        _every_gpu("memory_gb_s", "gb_s"),
        {"gb_s": 200},
    ),
    _within(
        "nvidia_smi_fails",
        "nvidia-smi does not reach the driver",
        Layer.GPU,
        "nvidia_smi_fails",
        "text",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    ),
    _within("libcuda_missing", "libcuda is not visible in the container", Layer.GPU, "libcuda_missing"),
    _within("disk_full", "The instance's disk is full from the start", Layer.MACHINE, "disk_full"),
    _within("onstart_never_runs", "The start script is not run", Layer.MACHINE, "onstart_never_runs"),
    FaultKind(
        "container_key_missing",
        "The instance is not given the key with which it could destroy itself",
        Layer.MACHINE,
        Unset(frozenset({"CONTAINER_API_KEY"})),
    ),
    FaultKind(
        "tools_missing",
        "Some programs are not to be found in the instance, as in an image that lacks them",
        Layer.MACHINE,
        Within(lambda given: {"tools_missing": str(given["tools"]).split()}),
        {"tools": "curl wget python*"},
    ),
    FaultKind(
        "image_env",
        "Some programs are found through the image's PATH only, which SSH sessions do not have",
        Layer.MACHINE,
        Within(lambda given: {"session_tools_missing": str(given["tools"]).split()}),
        {"tools": "python*"},
    ),
    FaultKind("no_network", "The host has no way out", Layer.MACHINE, NoNetwork()),
    FaultKind(
        "trailing_newlines",
        "Texts of the instance end in a line break",
        Layer.STATUS,
        Reports({"public_ipaddr": "127.0.0.1\n", "status_msg": "success, running\n"}),
    ),
    FaultKind(
        "stale_status",
        "The status lags behind: it says exited of an instance that runs",
        Layer.STATUS,
        Reports({"actual_status": "exited"}),
    ),
    FaultKind(
        "offline",
        "The host is not heard of for a time while the instance runs; its processes go on",
        Layer.MID_TEST,
        Turns("offline"),
        {"after_s": 0.0, "for_s": FOR_EVER},
    ),
    FaultKind(
        "host_lost",
        "The host goes away for good: its processes are gone and the market says offline",
        Layer.MID_TEST,
        Turns("offline", ends=True),
        {"after_s": 5.0},
    ),
    FaultKind(
        "stops_by_itself",
        "The instance is stopped by the market (out of credit, or its offer ended)",
        Layer.MID_TEST,
        Turns("exited", intended_status="stopped", cur_state="stopped", ends=True),
        {"after_s": 5.0},
    ),
    FaultKind(
        "outbid",
        "Somebody bids more: the interruptible instance is stopped",
        Layer.MID_TEST,
        Turns("stopped", intended_status="stopped", cur_state="stopped", ends=True, text="Outbid"),
        {"after_s": 5.0},
    ),
    FaultKind(
        "container_exits",
        "The container ends",
        Layer.MID_TEST,
        Turns("exited", ends=True, text="container exited with code 137"),
        {"after_s": 5.0},
    ),
    FaultKind(
        "frozen",
        "The instance is frozen; its GPU still costs",
        Layer.MID_TEST,
        Turns("frozen", intended_status="frozen", ends=True),
        {"after_s": 5.0},
    ),
    FaultKind(
        "instance_vanishes",
        "The instance is gone, and the market knows it no more",
        Layer.MID_TEST,
        Vanishes(),
        {"after_s": 5.0},
    ),
)
