"""What llama.cpp's log says of the GPUs: whether it uses them, how many layers are on them. Pure.

The lines are those of llama.cpp's source: ``common/arg.cpp`` warns that it found no GPU, ``ggml/src/ggml-cuda`` says
why, ``src/llama-model.cpp`` counts the layers and prints a dot for each hundredth of the weights.
"""

from __future__ import annotations

import re

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.gpu import BUILT_WITHOUT_GPU
from pytest_vastgpu.diagnosis.rules.gpu import SERVES_WITHOUT_GPU
from pytest_vastgpu.diagnosis.verdicts import ends_start
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Warming

_INIT_FAILED = re.compile(r"^.*ggml_cuda_init: (?:failed to initialize CUDA|no CUDA devices found).*$", re.MULTILINE)
_NO_GPU = re.compile(
    r"^.*(?:no usable GPU found|not compiled with GPU offload support), --gpu-layers option.*$", re.MULTILINE
)
_BUILT_WITH_CUDA = re.compile(r"loaded CUDA backend|CUDA : ARCHS|ggml_cuda_")
_OF_WHEEL = re.compile(r"^llama\.cpp's server of xllamacpp", re.MULTILINE)
_OFFLOADED = re.compile(r"^.*offloaded (\d+)/(\d+) layers to GPU.*$", re.MULTILINE)
_DOTS = re.compile(r"(?:^|\n)(\.{1,100})\Z")


def unmet(workload: Workload, asked: str, seen: Observation) -> Failed | Warming | None:
    """What becomes of a running server that has put less on the GPUs than asked for.

    :param asked: How many layers shall be on the GPUs, as text; empty: all.
    :returns: None if nothing was rented, or all that the log tells of is there.
    """
    if workload.gpus == 0:
        return None
    if failed := _INIT_FAILED.search(seen.log):
        told = judge_log(seen.log, server="llama.cpp", context=f"gpus={workload.gpus}").verdict
        return Failed(told if ends_start(told) else _verdict(SERVES_WITHOUT_GPU, failed[0]))
    if found := _NO_GPU.search(seen.log):
        return _without(workload, found[0], seen)
    if offloaded := _OFFLOADED.search(seen.log):  # the first one: that of a draft model comes later
        there, layers = int(offloaded[1]), int(offloaded[2])
        if there < min(layers, int(asked or layers)):
            remedy = (
                "the GPUs' memory does not hold the model: rent more (gpu_ram_gb=, gpus=), take a smaller quantization "
                f"or ctx_size=, or ask for fewer layers there (gpu_layers={there})"
            )
            return Failed(Verdict(FailureClass.INCOMPATIBLE, "layers_on_cpu", shown(offloaded[0]), remedy))
    return None


def _without(workload: Workload, line: str, seen: Observation) -> Failed | Warming:
    """A build with CUDA that finds no GPU: the host's fault. One without, beside a GPU that is there: the image's."""
    official = not workload.image and not _OF_WHEEL.search(seen.log)  # its CUDA library may lack the host's driver
    if official or _BUILT_WITH_CUDA.search(seen.log):
        return Failed(_verdict(SERVES_WITHOUT_GPU, line))
    smi = seen.probes.get("gpu")
    if smi is None or smi.failure is ProbeFailure.TRANSPORT:  # the server was quicker than the first look at the GPUs
        return Warming(Progress("starting"))
    if smi.ok and "NVIDIA-SMI" in smi.stdout:
        remedy = (
            "the host has its GPU, and this llama-server is built without CUDA: use an image that has it, such as "
            "ghcr.io/ggml-org/llama.cpp:server-cuda, or gpus=0"
        )
        return Failed(Verdict(FailureClass.WORKLOAD_FATAL, "built_without_gpu", shown(line), remedy))
    return Failed(_verdict(BUILT_WITHOUT_GPU, line))


def _verdict(rule: Rule, line: str) -> Verdict:
    return Verdict(rule.failure_class, rule.reason, shown(line), rule.remedy)


def loaded(log: str) -> Progress | None:
    """How much of the weights is loaded, in hundredths, while the server prints a dot for each."""
    dots = _DOTS.search(log[-200:])
    return Progress("weights", len(dots[1]), 100) if dots else None
