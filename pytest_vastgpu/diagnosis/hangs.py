"""Known hangs: failures after which a server's process goes on, but never serves what the instance was rented for.

Any other failure in the log of a running server counts only when its process has ended, or when it has printed
nothing new for :data:`STILL_S`. Each entry of :data:`HANGS` is an exception and names its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STILL_S = 300.0
"""Seconds without new output after which a running server has failed, if a line has reported a failure.

Healthy starts are silent for minutes while weights are read, kernels compiled and graphs captured. Two servers treat a
stall of this length as a failure themselves: Ollama gives up a model that makes no progress in loading after 5 minutes
(``OLLAMA_LOAD_TIMEOUT``), SGLang's watchdog ends a scheduler that makes none for 300 s (``--watchdog-timeout``).
"""


@dataclass(frozen=True)
class Hang:
    """One way in which a process goes on after a failure."""

    pattern: re.Pattern[str]
    """Found in the line that reports the failure."""
    source: str
    """The report or the source code that shows this behaviour."""
    without_gpu: bool = False
    """The server works, but on the CPU: for a rented GPU that does not count as ready."""
    certain: bool = True
    """Whether the machine is the only possible cause. Otherwise another line must blame it."""
    of_library: bool = False
    """A library prints the line. Ollama tries several builds of that library before it prints its own result."""


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
        re.compile(r"llama-server process has terminated"),
        "Ollama that runs llama.cpp's server instead of its own runner (reports of releases from 0.30 on)",
    ),
    Hang(
        re.compile(r"[Ww]atchdog thread terminated with exception"),
        "SGLang: NCCL's watchdog aborts a scheduler, its parent lives on (sgl-project/sglang pull request 21486)",
    ),
)


_ANY = re.compile("|".join(f"(?:{hang.pattern.pattern})" for hang in HANGS))


def hang_in(text: str) -> Hang | None:
    """The known hang that a line reports; None if it reports none."""
    if not _ANY.search(text):  # true for nearly every line
        return None
    return next((hang for hang in HANGS if hang.pattern.search(text)), None)
