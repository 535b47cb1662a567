"""Failures that a server's process outlives: it stays, and what was rented for never comes.

Everything else that a log says of a living server is believed only when its process has ended, or when it has shown
nothing new for :data:`STILL_S`. Each entry of :data:`HANGS` is an exception, and names where it was reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STILL_S = 300.0
"""A living server that shows nothing new for that long after a line that tells of a failure has failed.

Healthy starts are silent for minutes while weights are read, kernels compiled and graphs captured. Two servers call a
stall of that length a failure themselves: Ollama gives up a model that does not get on loading after 5 minutes
(``OLLAMA_LOAD_TIMEOUT``), SGLang's watchdog ends a scheduler that stands still for 300 s (``--watchdog-timeout``).
"""


@dataclass(frozen=True)
class Hang:
    """One way to live on after a failure."""

    pattern: re.Pattern[str]
    """Found in the line that tells of it."""
    source: str
    """Who reported it, or which source says so."""
    without_gpu: bool = False
    """It serves, on the CPU: that it is ready is no answer for who rented a GPU."""
    certain: bool = True
    """Whether only the machine can be the reason. Else another line must say so."""
    of_library: bool = False
    """Said by a library that Ollama tries in several builds, before it gives its own word."""


HANGS: tuple[Hang, ...] = (
    Hang(
        re.compile(
            r"no compatible GPUs were discovered|\"inference compute\".*\blibrary=cpu\b|msg=\"no GPU detected"
            r"|low vram mode.*\"total vram\"=\"0 B\""
        ),
        "Ollama, discover/gpu.go: it lists the CPU as its only device and serves (ollama/ollama issue 8606)",
        without_gpu=True,
    ),
    Hang(
        re.compile(r"ggml_\w+: (?:failed to initialize (?:CUDA|ROCm)|no (?:CUDA|ROCm) devices found)"),
        "llama.cpp, ggml-cuda.cu: it counts no device, and all layers stay on the CPU",
        without_gpu=True,
        of_library=True,
    ),
    Hang(
        re.compile(r"no usable GPU found"),
        "llama.cpp, common/arg.cpp: --gpu-layers is ignored; a build without CUDA says the same",
        without_gpu=True,
        certain=False,
        of_library=True,
    ),
    Hang(
        re.compile(r"Could not find a compatible CUDA device on host"),
        "text-embeddings-inference, backends/candle: it goes on with the CPU",
        without_gpu=True,
    ),
    Hang(
        re.compile(r"llama runner (?:process )?(?:has )?terminated|NewLlamaServer failed"),
        "Ollama, server/sched.go: the runner that should hold the model is gone, `ollama serve` answers 500",
    ),
    Hang(
        re.compile(r"Waiting for creating a placement group of specs for \d{3,} seconds"),
        "vLLM on Ray waits half an hour for GPUs that are not there (vllm-project/vllm pull request 11138)",
    ),
    Hang(
        re.compile(r"[Ww]atchdog thread terminated with exception"),
        "SGLang: NCCL's watchdog aborts a scheduler, its parent lives on (sgl-project/sglang pull request 21486)",
    ),
)


_ANY = re.compile("|".join(f"(?:{hang.pattern.pattern})" for hang in HANGS))


def hang_in(text: str) -> Hang | None:
    """The known hang that a line tells of; None where it tells of none."""
    if not _ANY.search(text):  # as nearly every line
        return None
    return next((hang for hang in HANGS if hang.pattern.search(text)), None)
