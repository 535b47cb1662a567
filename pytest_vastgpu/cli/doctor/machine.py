"""Checks of this machine as the local market rents it out: namespaces and GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.core import child
from pytest_vastgpu.hostcheck import facts
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.local.container.isolation import probe

_SWITCHES = {
    "kernel.unprivileged_userns_clone": "0",
    "user.max_user_namespaces": "0",
    "user.max_net_namespaces": "0",
    "user.max_pid_namespaces": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
}
"""Settings of the kernel that forbid namespaces, with the value that does."""
_ALLOWS = {"0": "1", "1": "0"}
_MANY = "15000"
_CONTAINER_FLAGS = (
    "docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined …"
)
_MUCH = 0.1
"""Share of a GPU's memory that is worth a warning if others hold it."""


# --- namespaces -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Print how instances can be isolated here; in a process of its own, since it forks."""
    found = probe()
    sys.stdout.write(json.dumps({"how": found.how, "reason": found.reason}))


def check_namespaces(now: Situation) -> Sequence[Finding]:
    """Whether instances of the local market get ports and processes of their own."""
    done = subprocess.run(
        child.command(__name__),
        env=child.environment(now.environ),
        capture_output=True,
        text=True,
        timeout=now.limits.look_s,
        check=False,
    )
    if done.returncode:
        return [warning("namespaces", f"not known: {done.stderr[-200:]}", "see versions")]
    switches = {name: value for name in _SWITCHES if (value := _switch(name)) is not None}
    return [judge_namespaces(Isolation(**json.loads(done.stdout)), switches, in_container=_in_container(now.environ))]


def _switch(name: str) -> str | None:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def _in_container(environ: Mapping[str, str]) -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return any(Path(mark).exists() for mark in marks) or "KUBERNETES_SERVICE_HOST" in environ


def judge_namespaces(found: Isolation, switches: Mapping[str, str], *, in_container: bool) -> Finding:
    """Judge how instances can be isolated here. Pure.

    :param switches: Settings of the kernel, by name.
    """
    if found.isolated:
        how = "with root's rights" if found.how == "root" else "through a user namespace"
        return ok("namespaces", f"instances of the local market have ports and processes of their own ({how})")
    text = f"{found.reason}, so two instances cannot both serve port 8000"
    closed = [name for name, forbids in _SWITCHES.items() if switches.get(name) == forbids]
    if closed:
        name = closed[0]
        value = _MANY if "max_" in name else _ALLOWS[_SWITCHES[name]]
        where = " on the container's host" if in_container else ""
        return warning("namespaces", text, f"allow them{where}", f"sudo sysctl -w {name}={value}")
    if in_container:
        return warning("namespaces", text, "start this container with the rights to make them", _CONTAINER_FLAGS)
    return warning("namespaces", text, "run one instance at a time, each on a port of its own, or as root")


# --- GPUs -------------------------------------------------------------------------------------------------------------


def check_gpus(now: Situation) -> Sequence[Finding]:
    """Which GPUs this machine has, and who holds their memory; as a rented host is looked at."""
    done = subprocess.run(
        ["sh", "-c", facts.OFFLINE_SCRIPT],
        env=dict(now.environ) | {"PATH": now.environ.get("PATH", os.defpath)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return [judge_gpus(facts.parse(done.stdout))]


def judge_gpus(seen: HostFacts) -> Finding:
    """Judge the GPUs of this machine. Pure."""
    rents = "the local market rents this machine"
    if not seen.gpus:
        if seen.smi_exit_code:
            text = f"nvidia-smi fails ({' '.join(seen.smi_text.split())}): {rents} without a GPU"
            return warning("gpu", text, "mend the driver; often it was updated while in use, and a reboot helps")
        if seen.device_nodes or seen.libcuda:
            text = f"there is a GPU's driver, but no nvidia-smi: {rents} without a GPU"
            return warning("gpu", text, "install the driver's tools, or give the container the capability 'utility'")
        return ok("gpu", f"no GPU here; {rents} without one")
    names = ", ".join(f"{gpu.name} ({(gpu.total_mb - gpu.used_mb) / 1000:.0f} GB free)" for gpu in seen.gpus)
    text = f"{names}, driver {seen.gpus[0].driver}"
    if seen.libcuda is False:
        remedy = "give the container the driver's libraries"
        return warning("gpu", f"{text}, but no libcuda: programs cannot use it", remedy, "docker run --gpus all …")
    taken = [gpu for gpu in seen.gpus if gpu.used_mb > _MUCH * gpu.total_mb]
    if taken:
        who = ", ".join(f"process {each.pid} ({each.name}): {each.used_mb / 1000:.1f} GB" for each in seen.holders)
        text = f"{text}; {taken[0].used_mb / 1000:.1f} GB are in use" + (f" by {who}" if who else "")
        command = f"kill {seen.holders[0].pid}" if seen.holders else "nvidia-smi"
        return warning("gpu", text, "a server may not fit: end what you do not need", command)
    return ok("gpu", text)
