"""Downloads and files of llama.cpp: messages of its ``common/hf-cache.cpp``, ``common/download.cpp``, ``gguf.cpp``."""

from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_SOURCE = "llama.cpp"

RULES: tuple[Rule, ...] = (
    Rule(
        "model_repo_not_found",
        FailureClass.WORKLOAD_FATAL,
        (r"get_repo_\w+: error: GET failed \(40[134]\)|^Download '.*' failed with status code: 40[134]",),
        "the hub has no such model, or it is private: check its name, or give a token: env={'HF_TOKEN': …}",
        _SOURCE,
        Weight.HINT,  # it may have an older copy
    ),
    Rule(
        "model_file_missing",
        FailureClass.WORKLOAD_FATAL,
        (r"no GGUF files found in repository|hf_plan: file '.*' not found in repository",),
        "the model's repository has no such GGUF file: check the quantization behind the colon; the log lists them",
        _SOURCE,
    ),
    Rule(
        "model_file_invalid",
        FailureClass.UNKNOWN,
        (r"gguf_init_from_\w+: (?!failed to open|failed to read magic|invalid magic)",),
        "the model's file is no GGUF that this server reads: broken on its way or at its source, or too new",
        _SOURCE,
    ),
    Rule(
        "hub_offline_mode_requested",
        FailureClass.WORKLOAD_FATAL,
        (r"required file is not available in cache \(offline mode\)",),
        "the request forbids downloads (--offline) and the image does not hold the model: change one of both",
        _SOURCE,
    ),
    Rule(
        "hub_rate_limit",
        FailureClass.UNKNOWN,
        (r"get_repo_\w+: error: GET failed \(429\)|^Download '.*' failed with status code: 429",),
        "the hub limits requests: give a token, or try again later",
        _SOURCE,
        Weight.HINT,
    ),
    Rule(
        "host_network_to_hub_down",
        FailureClass.INFRA_FATAL,
        (r"get_repo_\w+: error: HTTPLIB failed",),
        "this host does not reach the model hub; another host would do; nothing in the workload caused this",
        _SOURCE,
        Weight.HINT,  # it may have a copy
    ),
    Rule(
        "hub_download_broken",
        FailureClass.UNKNOWN,
        (
            r"^Download '.*' failed with status code: (?:-1|5\d\d)|get_repo_\w+: error: GET failed \(5\d\d\)",
            r"download failed after \d+ attempts|pull_file: download failed: ",
        ),
        "the download broke: the host's line or the hub; another host would do",
        _SOURCE,
        Weight.HINT,
    ),
)
