"""What decides how quick a server is: its workload and the kind of its machine, without secrets. Pure."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Workload


def workload_facts(workload: Workload, root: str) -> dict[str, object]:
    """What two workloads must have in common to be compared over time.

    The content of files and the values of the environment are none of it: to see what their change does is what a
    baseline is for; and values may be secret. What a host must have is none of it either: the kind of GPU counts.

    :param root: The tests' root directory: paths below it are told without it, so that they are the same elsewhere.
    """
    facts: dict[str, object] = {
        "adapter": workload.adapter,
        "model": workload.model,
        "image": workload.image,
        "command": workload.command,
        "args": list(workload.args),
        "env": [name for name, _ in workload.env],
        "files": [name for name, _ in workload.files],
        "details": dict(workload.details),
        "setup": workload.setup,
    }
    return {key: _below(value, root) for key, value in facts.items() if value}


def other_model(asked: object, workload: Workload) -> str:
    """What to know, in a sentence, where a load asks for another model than the workload's; empty: it does not.

    :param asked: The model's name in the load; None: it has none.
    """
    if not asked or not workload.model or asked == workload.model:
        return ""
    return (
        f"the load asks for model {str(asked)!r:.100}, and the workload's is {workload.model!r}: a server that ignores "
        "the name has measured the latter"
    )


def kind_of(offer: Offer, gpu: str, cpu: str) -> str:
    """The kind of a machine; numbers of different kinds are never compared.

    :param gpu: Its GPUs in words.
    :param cpu: The CPU in words where it, too, decides: on this machine. Empty: it is told only for people.
    """
    if offer.simulated:  # a CPU that says it is a GPU
        return f"{gpu}, simulated by {cpu or 'a CPU'}"
    return f"{gpu}, {cpu}" if cpu and not offer.num_gpus else gpu


def machine_facts(offer: Offer, cpu: str) -> dict[str, object]:
    """What people want to know of a machine, in the form of pytest-benchmark's ``machine_info``."""
    return {
        "system": "Linux",
        "machine": platform.machine() if cpu else "",
        "cpu": {"count": offer.cpu_cores, "brand_raw": cpu},
        "machine_id": offer.machine_id,
        "gpu_name": offer.gpu_name,
        "num_gpus": offer.num_gpus,
        "gpu_ram_mb": offer.gpu_ram_mb,
        "driver_version": offer.driver_version,
        "geolocation": offer.geolocation,
        "price_usd_h": offer.price_usd_h,
    }


def cpu_of(info: str, cores: float) -> str:
    """``16x AMD EPYC 7763``.

    :param info: The text of ``/proc/cpuinfo``; on some CPUs it names none.
    """
    named = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return f"{cores:g}x {' '.join(named[1].split()) if named else platform.machine()}"


def _below(value: object, root: str) -> object:
    if isinstance(value, str):
        return value.replace(f"{root.rstrip('/')}/", "")
    if isinstance(value, Mapping):
        return {key: _below(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [_below(each, root) for each in value]
    return value
