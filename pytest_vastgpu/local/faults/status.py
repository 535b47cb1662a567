"""Faults of the boot, as the status of the instance shows them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_vastgpu.local.faults.base import FOR_EVER
from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.effects import NeverBoots
from pytest_vastgpu.local.faults.effects import Says
from pytest_vastgpu.local.faults.effects import SlowBoot
from pytest_vastgpu.local.faults.effects import SoldTwice

_DAEMON = "Error response from daemon: "
_OCI = f"{_DAEMON}failed to create task for container: failed to create shim task: OCI runtime create failed: "
_REGISTRY = f'{_DAEMON}Get "https://registry-1.docker.io/v2/": '

SOLD_TWICE: Mapping[str, str] = {
    "vanishes": "",
    "stopped": "",
    "ports": f"{_DAEMON}driver failed programming external connectivity on endpoint C.1 (5f70bf18a086): "
    "Bind for 0.0.0.0:40123 failed: port is already allocated",
}
"""The ways in which an instance dies whose machine another client has got, each with its last status text."""


def _stuck(
    name: str,
    description: str,
    text: str,
    actual: str | None = "loading",
    *,
    stops: bool = False,
    for_strangers: bool = False,
) -> FaultKind:
    """A fault that keeps an instance from ever running, with its status text.

    :param for_strangers: Whether it runs if its image is pulled with a login.
    """
    parameters: dict[str, float | str] = {"stops_after_s": 420.0 if stops else FOR_EVER}
    if for_strangers:
        parameters["login"] = ""
    return FaultKind(name, description, Layer.STATUS, NeverBoots(actual, text, for_strangers), parameters)


STATUS_FAULTS: tuple[FaultKind, ...] = (
    _stuck(
        "oci_runtime_failed",
        "The host's container toolkit cannot hand over the GPU",
        f"{_OCI}could not apply required modification to OCI specification: error modifying OCI spec: "
        "failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=0",
        "created",
    ),
    _stuck(
        "nvidia_container_cli",
        "The host's driver and library versions differ, so that no container with a GPU starts",
        f"{_OCI}unable to start container process: error during container init: error running prestart hook #0: "
        "exit status 1, stderr: nvidia-container-cli: initialization error: nvml error: driver/library version "
        "mismatch",
        "created",
    ),
    _stuck(
        "invalid_runtime",
        "The host's Docker does not know the nvidia runtime",
        f"{_DAEMON}unknown or invalid runtime name: nvidia",
        "created",
    ),
    _stuck("gpu_error", "The host reports a GPU error at start", "GPU error, unable to start instance.", "created"),
    _stuck(
        "image_manifest_unknown",
        "The image's tag does not exist",
        f"{_DAEMON}manifest for {{image}} not found: manifest unknown: manifest unknown",
        stops=True,
    ),
    _stuck(
        "image_not_found",
        "The host does not find the image",
        f"{_DAEMON}unable to find image '{{image}}' locally: manifest for {{image}} not found",
        stops=True,
    ),
    _stuck(
        "image_denied",
        "The image's repository does not exist or is private",
        f"{_DAEMON}pull access denied for {{image}}, repository does not exist or may require 'docker login'",
        stops=True,
    ),
    _stuck(
        "image_unauthorized",
        "The registry wants other credentials",
        f"{_DAEMON}Head of {{image}}: unauthorized: authentication required",
        stops=True,
    ),
    _stuck(
        "image_private",
        "The image is pulled only with the login -u USER -p PASSWORD REGISTRY; without login: with any",
        f"{_DAEMON}pull access denied for {{image}}, repository does not exist or may require 'docker login'",
        stops=True,
        for_strangers=True,
    ),
    _stuck(
        "pull_stalls",
        "The registry holds back pulls without a login: they never get further",
        "{image}: Pulling fs layer",
        for_strangers=True,
    ),
    _stuck(
        "registry_rate_limit",
        "The registry has had too many pulls from this host",
        f"{_DAEMON}toomanyrequests: You have reached your pull rate limit.",
    ),
    _stuck(
        "registry_reset",
        "The host's connection to the registry is reset",
        f"{_REGISTRY}read tcp 10.0.0.2:41234->44.208.254.194:443: read: connection reset by peer",
    ),
    _stuck("registry_timeout", "The host does not reach the registry", f"{_REGISTRY}dial tcp: i/o timeout"),
    _stuck(
        "registry_name_unknown",
        "The host's name resolution does not work",
        f"{_REGISTRY}dial tcp: lookup registry-1.docker.io: Temporary failure in name resolution",
    ),
    _stuck("pull_broken", "The pull of the image breaks off", "failed to pull image {image}: unexpected EOF"),
    _stuck(
        "host_disk_full",
        "The host has no space for the image",
        "failed to register layer: write /usr/lib/x86_64-linux-gnu/libcudnn.so.9: no space left on device",
    ),
    _stuck(
        "exec_format_error",
        "The image is for another kind of processor",
        f"{_OCI}exec /.launch: exec format error",
        "created",
    ),
    _stuck(
        "daemon_crashed",
        "The host's Docker daemon dies",
        "unexpected fault address 0x7f2c8a000000\nfatal error: fault",
    ),
    _stuck("template_missing", "The instance's template is not found", "Template not found"),
    _stuck("never_loads", "The instance loads for ever", "{image}: Pulling fs layer"),
    FaultKind(
        "dead_host",
        "A host that does nothing: no status text, and the instance is taken as stopped at once",
        Layer.STATUS,
        NeverBoots("loading", ""),
        {"stops_after_s": 0.0},
    ),
    FaultKind(
        "never_provisioned",
        "The host never takes the instance: its status stays null",
        Layer.STATUS,
        NeverBoots(None, ""),
        {"stops_after_s": FOR_EVER},
    ),
    FaultKind(
        "stops_while_loading",
        "The instance is taken as stopped while it still says that it loads",
        Layer.STATUS,
        NeverBoots("loading", "{image}: Verifying Checksum"),
        {"stops_after_s": 0.5},
    ),
    FaultKind(
        "exits_at_start",
        "The container ends as soon as it is started",
        Layer.STATUS,
        NeverBoots("exited", "container exited with code 1"),
        {"stops_after_s": FOR_EVER},
    ),
    FaultKind(
        "offline_while_loading",
        "The host goes away while the instance loads, and stays away",
        Layer.STATUS,
        NeverBoots("offline", ""),
        {"stops_after_s": FOR_EVER},
    ),
    FaultKind(
        "status_frozen",
        "The status text stands still for a long time on a healthy host",
        Layer.STATUS,
        SlowBoot("loading", "5f70bf18a086: Pull complete"),
        {"for_s": 600.0},
    ),
    FaultKind(
        "heartbeat_gap",
        "The host is not heard of for a while before the instance runs",
        Layer.STATUS,
        SlowBoot("unknown", ""),
        {"for_s": 20.0},
    ),
    FaultKind(
        "report_gap",
        "Some looks at the instance show something else in one field, in JSON's words or as a text",
        Layer.STATUS,
        Says("look"),
        {"field": "intended_status", "says": "stopped", "looks": 1, "after": 0},
    ),
    FaultKind(
        "offer_sold_twice",
        "Another client rents the offer at the same moment: both are told yes, and this instance dies; how: it "
        "vanishes, is stopped, or its ports are taken",
        Layer.STATUS,
        SoldTwice(),
        {"how": "vanishes", "after_s": 0.5},
        {"how": SOLD_TWICE.keys()},
    ),
    FaultKind(
        "queued",
        "The GPU is let to somebody else: the instance waits to be scheduled",
        Layer.STATUS,
        SlowBoot("scheduling", ""),
        {"for_s": FOR_EVER},
    ),
)
