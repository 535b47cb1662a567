"""General errors of Python, Rust, Go and shells. They explain an end only if nothing better is known."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import ON_LOCAL_MARKET
from pytest_vastgpu.diagnosis.rules.base import STATUS
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_PYTHON = "Python"
# A shell names itself, or the script that it runs: this package's script is start.sh.
_SHELL = r"(?:(?:ba|da|z)?sh(?:: line \d+|: \d+)?|[\w.-]+\.sh: (?:line )?\d+): "

RULES: tuple[Rule, ...] = (
    Rule(
        "file_missing_in_container",
        FailureClass.WORKLOAD_FATAL,
        (r"can't open file '.*': \[Errno 2\]|^(?:/\S*/)?(?:(?:ba)?sh|sh: 0): (?:cannot open )?\S+\.sh: No such file",),
        "there is no such file where the command runs: check its name, and bring it with files=",
        "Python and shells, asked to run a file",
        Weight.HINT,
    ),
    Rule(
        "entrypoint_missing_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"(?:^|/)" + _SHELL + r"(?:\d+: )?\S+: (?:command )?not found|\w binary not found",
            r"(?:^|/)" + _SHELL + r"(?:exec: )?\S+: (?:not found|cannot execute|No such file or directory)",
            r"^env: .*No such file or directory|exec: (?:line \d+: )?\S+: not found|: line \d+: exec: \S+: ",
        ),
        f"the image has no such program: check image and command; {ON_LOCAL_MARKET}",
        "shells",
        Weight.HINT,
        unless=r"nvidia-smi",
    ),
    Rule(
        "import_error_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"(?:^|UNAVAILABLE: )(?:[\w.]+: )?(?:ModuleNotFoundError|ImportError)\b|cannot import name|^RuntimeError: Failed to import \w+\.|numpy\.dtype size changed",
            r"^\w*Error: .*\bpip install \S",
            r"^\w*Error: .*(?:not (?:available|installed|found)|outdated|missing)\b.*please (?:install|update|upgrade)",
        ),
        "the image's packages do not fit each other: use the image's own versions, or another image",
        _PYTHON,
        Weight.HINT,
    ),
    Rule(
        "file_missing_in_container",
        FailureClass.WORKLOAD_FATAL,
        (
            r"^(?:[\w.]+\.)?FileNotFoundError: |(?:^|Error: )\[Errno 2\] No such file|^RuntimeError: .*\bFile does not exist",
        ),
        "a file that the command names is not in the container: check its path",
        _PYTHON,
        Weight.HINT,
    ),
    Rule(
        "bad_environment",
        FailureClass.WORKLOAD_FATAL,
        (r"no socket interface found|Could not find any running Ray instance",),
        "the request names an address or an interface that is not there: see NCCL_SOCKET_IFNAME and RAY_ADDRESS",
        "NCCL and Ray",
        Weight.HINT,
        chatty=True,  # NCCL prints it as a warning, then fails without a message
    ),
    Rule(
        "bad_engine_config",
        FailureClass.WORKLOAD_FATAL,
        (r"validation errors? for \w+",),
        "the server refuses its arguments: the lines below this one say which",
        "pydantic",
        Weight.SYMPTOM,
    ),
    Rule(
        "bad_engine_config",
        FailureClass.WORKLOAD_FATAL,
        (
            r"^RuntimeError: .*(?: --[a-z]\w*(?:-\w+)+\b| [Ss]et VLLM_\w+=| Unset VLLM_)|^RuntimeError: Model \S+ does not support ",
        ),
        "the line names the argument to change",
        "vLLM",
        Weight.SYMPTOM,
        unless=r"--shm-size|VLLM_LOGGING_LEVEL|timeout|timed out",
    ),
    Rule(
        "program_error",
        FailureClass.WORKLOAD_FATAL,
        (
            r"^(?:[\w.]+\.)?(?:Type|Attribute|Key|Name|Index|Value|Assertion|NotImplemented|Syntax|Indentation|Unicode\w*|IsADirectory|"
            r"NotADirectory|Recursion|Validation|UnboundLocal|ZeroDivision|Overflow|Parser|Scanner)Error\b(?:: |$)",
        ),
        "the program fails by itself, with this model and these arguments: it would on the next host too",
        _PYTHON,
        Weight.SYMPTOM,
    ),
    Rule(
        "program_error",
        FailureClass.WORKLOAD_FATAL,
        (r"\b[A-Z]+_ASSERT\(.*failed|Assertion [`'].*failed|\bassertion failed: ",),
        "the program fails by itself, with this model and these arguments: it would on the next host too",
        "C and C++ programs, ggml",
        Weight.SYMPTOM,
        unless=r"CUDA|cuda|nccl",
    ),
    Rule(
        "image_pull_failed",
        FailureClass.UNKNOWN,
        (r"Failed to pull image|ErrImagePull|ImagePullBackOff",),
        "the line does not say why: try to pull the image elsewhere",
        "Kubernetes",
        Weight.SYMPTOM,
        channels=STATUS,
    ),
    Rule(
        "unexplained_error",
        FailureClass.UNKNOWN,
        (
            r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?:: |$)|^(?:Error|Exception): |^panic: |panicked at|^Fatal Python error",
        ),
        "the line names no cause that is known: read what stands above it",
        _PYTHON,
        Weight.SYMPTOM,
    ),
)
