"""Faulty or missing GPUs: messages of the driver, ``nvidia-smi``, the kernel, PyTorch, Triton and NCCL.

CUDA's error numbers: the card or its fabric is faulty (46, 214, 220, 304, 802, 999), there is no card (100).
"""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

import re

from pytest_vastgpu.diagnosis.rules.base import LOG
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_SMI = frozenset({Channel.NVIDIA_SMI})
_GPU = LOG | _SMI | frozenset({Channel.STATUS_MSG})
_ANOTHER = "another host would do; nothing in the workload caused this"
_GPU_RENTED = r"^(?!.*gpus=0\b)"
"""Without a rented GPU, a missing GPU is no fault."""
_CUDA = "CUDA runtime"
_NVML = "nvidia-smi and NVML"
_KERNEL = "NVIDIA kernel module"
_TORCH = "PyTorch"

SERVES_WITHOUT_GPU = Rule(
    "no_gpu_in_container",
    FailureClass.INFRA_FATAL,
    (r"(?!)",),
    "the server runs, on the CPU: the host gave the container no GPU; " + _ANOTHER,
    "Ollama, llama.cpp, text-embeddings-inference",
)
"""For a server that reports this without a reason, see :mod:`hangs`; no line is searched for it."""
BUILT_WITHOUT_GPU = Rule(
    "serves_without_gpu",
    FailureClass.UNKNOWN,
    (r"(?!)",),
    "the server runs, on the CPU: its build has no GPU support, or the host gave the container no GPU",
    "llama.cpp",
)
"""For a server whose message leaves the reason open."""


def gpu_rented(context: str) -> bool:
    """Whether the instance has a GPU, as far as the context says."""
    return re.search(_GPU_RENTED, context) is not None


RULES: tuple[Rule, ...] = (
    # ---------------------------------------------------- the driver or the card is faulty
    Rule(
        "nvml_driver_library_mismatch",
        FailureClass.INFRA_FATAL,
        (r"driver/library version mismatch", r"NVML/RM version mismatch", r"NVRM: API mismatch|nvmlInit_v2 err: 18\b"),
        "the host's driver was updated without a restart; " + _ANOTHER,
        _NVML,
        channels=_GPU,
        chatty=True,
    ),
    Rule(
        "driver_not_communicating",
        FailureClass.INFRA_FATAL,
        (
            r"couldn't communicate with the NVIDIA driver|couldn't find libnvidia-ml",
            r"Failed to initialize NVML: (?:Driver Not Loaded|GPU access blocked|Insufficient Permissions|Timeout)",
            r"NVMLError_(?:DriverNotLoaded|NoPermission|Timeout|IRQIssue|OperatingSystem)",
            r"AMDSMI_STATUS_(?:FILE_ERROR|NO_PERM|NOT_INIT|INIT_ERROR|DRIVER_NOT_LOADED|NO_DRV|NOT_FOUND)",
            r"NVRM: (?:.*probe routine (?:failed|was not called)|No NVIDIA .*(?:probed|found)|.*RmInitAdapter failed|rm_init_adapter failed|.*BAR\d is)",
        ),
        _ANOTHER,
        _NVML,
        channels=_GPU,
    ),
    Rule(
        "gpu_fallen_off_bus",
        FailureClass.INFRA_FATAL,
        (
            r"fallen off the bus",
            r"GPU is lost|GpuIsLost",
            r"Unable to determine the device handle",
            r"Xid \(.*\): 79\b",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
        chatty=True,
    ),
    Rule(
        "uncorrectable_ecc",
        FailureClass.INFRA_FATAL,
        (
            r"uncorrectable ECC error|CUDA_ERROR_ECC_UNCORRECTABLE|double[- ]bit ECC",
            r"Xid (?:\(.*\): )?(?:48|64|94|95|140|171|172)\b",
            r"Remapping Failure Occurred\s*:\s*Yes",
            r"(?:Page Retirement|Retirement Pending|Pending)\s*:\s*Yes",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
    ),
    Rule(
        "uncorrectable_ecc",
        FailureClass.INFRA_FATAL,
        (r"[0-9A-F]{4,8}:[0-9A-F]{2}:[0-9A-F]{2}\.\d\s+(?:On|Off)\s*\|\s+[1-9]\d*\s*\|",),
        _ANOTHER,
        _NVML,
        channels=_SMI,
    ),
    Rule(
        "nvlink_error",
        FailureClass.INFRA_FATAL,
        (
            r"uncorrectable NVLink error|over nvlink or a hardware error|nvlink.*(?:fatal|uncorrectable)",
            r"Xid (?:\(.*\): )?(?:74|144|145|146|147|148|149|150)\b",
            r"SXid.*fatal",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
        unless=r"non-fatal",
    ),
    Rule(
        "gpu_requires_reset",
        FailureClass.INFRA_FATAL,
        (
            r"GPU requires reset|ResetRequired|GPU Reset Required|ERR!\s+ERR!|^\|\s+\d+\s+ERR!",
            r"Xid \(.*\): (?:46|61|62|110|119|120|122|123|143|154|155|156|158)\b",
            r"GSP (?:RPC|RM|firmware).*(?:timeout|failed|error)|Timeout .*waiting for (?:RPC|GSP)",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
        unless=r"to 0x0 \(None\)",  # Xid 154 also reports that no action is needed any more
    ),
    Rule(
        "pcie_error",
        FailureClass.INFRA_FATAL,
        (
            r"AER: .*Uncorrect(?:ed|able).*\(?Fatal",
            r"PCIe Bus Error: severity=Uncorrected \(Fatal\)",
            r"Machine check.*(?:fatal|uncorrected)",
        ),
        _ANOTHER,
        "Linux kernel",
        unless=r"non-fatal",
    ),
    Rule(
        "xid_application_fault",
        FailureClass.WORKLOAD_FATAL,
        (r"Xid \(.*\): (?:13|31|43|45|68|69)\b",),
        "these driver errors are mostly caused by the program: look at its own log",
        _KERNEL,
        Weight.HINT,
    ),
    Rule(
        "nvml_unknown_error",
        FailureClass.INFRA_FATAL,
        (
            r"Failed to initialize NVML: Unknown",
            r"NVMLError_Unknown",
            r"nvmlInit\w*.*(?:unknown error)|nvmlDevice\w+\(\) failed: Unknown|nvmlInit\w*\(\) INTERNAL ASSERT",
        ),
        _ANOTHER,
        _NVML,
        channels=_GPU,
    ),
    Rule("no_devices", FailureClass.INFRA_FATAL, (r"No devices were found",), _ANOTHER, _NVML, channels=_GPU),
    Rule(
        "fabric_manager_not_completed",
        FailureClass.INFRA_FATAL,
        (
            r"fabric ?manager.*(?:never|not running|not (?:started|ready|completed)|failed|inactive|missing)",
            r"Failed to bind NVLink SHARP|configuration error in the Fabric Manager|nvls\.cc:\d+ NCCL WARN Cuda failure",
        ),
        _ANOTHER,
        "NVIDIA fabric manager",
    ),
    Rule(
        "cuda_802_system_not_initialized",
        FailureClass.INFRA_FATAL,
        (
            r"Error 802\b",
            r"system not yet initialized",
            r"CUDA_ERROR_SYSTEM_NOT_READY|cudaErrorSystemNotReady",
            r"init failure: 802",
        ),
        "the host's fabric manager does not run; " + _ANOTHER,
        _CUDA,
    ),
    Rule(
        "mps_broken",
        FailureClass.INFRA_FATAL,
        (r"MPS client failed to connect|MPS server is not ready|Error 80[5-9]\b.*MPS",),
        _ANOTHER,
        _CUDA,
    ),
    Rule(
        "cuda_unknown_error_999",
        FailureClass.INFRA_FATAL,
        (
            r"CUDA unknown error - this may be due",
            r"cudaGetDeviceCount.*(?:999|unknown error)|cuInit.*(?:\b999\b|CUDA_ERROR_UNKNOWN)",
            r"Error 999: unknown error|init failure: 999|CUDA fail(?:ed with error unknown|ure 999\b)|\[\[ .*\(error (?:3|999)\)",
            r"failed to initialize CUDA: unknown error",
        ),
        _ANOTHER,
        _CUDA,
    ),
    Rule(
        "cuda_304_os_call_failed",
        FailureClass.INFRA_FATAL,
        (r"OS call failed or operation not supported on this OS", r"Error 304\b"),
        _ANOTHER,
        _CUDA,
    ),
    Rule(
        "gpu_busy",
        FailureClass.INFRA_FATAL,
        (r"CUDA-capable devices?(?:\(s\))? (?:is/)?are busy or unavailable", r"cudaErrorDevicesUnavailable|Error 46\b"),
        "another process holds the GPU for itself; " + _ANOTHER,
        _CUDA,
    ),
    Rule(
        "display_watchdog",
        FailureClass.INFRA_FATAL,
        (r"the launch timed out and was terminated|cudaErrorLaunchTimeout|CUDA_ERROR_LAUNCH_TIMEOUT",),
        "the host's GPU drives a display and ends what takes long; " + _ANOTHER,
        _CUDA,
    ),
    # ---------------------------------------------------- there is no GPU
    Rule(
        "torch_without_cuda",
        FailureClass.WORKLOAD_FATAL,
        (r"Torch not compiled with CUDA enabled", r"not (?:built|compiled) with (?:CUDA|GPU) (?:support|enabled)"),
        "the image holds a build without CUDA: use another image",
        _TORCH,
    ),
    Rule(
        "lcuda_not_found",
        FailureClass.INFRA_FATAL,
        (
            r"cannot find -lcuda\b",
            r"libcuda\.so cannot found|libcuda\.so(?:\.1)? (?:not|cannot be) found|PTX JIT compiler library not found",
        ),
        "the driver's library is not in the container; " + _ANOTHER,
        "Triton",
        unless=r"lcudart",
        context=_GPU_RENTED,
    ),
    Rule(
        "no_gpu_in_container",
        FailureClass.INFRA_FATAL,
        (
            r"Found no NVIDIA driver on your system|No (?:CUDA|HIP) GPUs are available|no (?:CUDA|ROCm)-capable device is detected",
            r"NVML Shared Library Not Found|NVMLError_LibraryNotFound",
            r"lib(?:cuda\.so|nvidia-ml\.so)\S*: (?:cannot open shared object|file too short)",
            r"running on UnspecifiedPlatform|0 active driver\(s\) found|cudaErrorNoDevice|CUDA_ERROR_NO_DEVICE|init failure: 100\b",
            r"The NVIDIA Driver was not detected|CUDA driver initialization failed, you might not have",
            r"has kind KIND_GPU but no GPUs are available",  # Triton
            r"No CUDA runtime is found|unable to get number of CUDA devices: (?:unknown|initialization) error",
        ),
        "the host gave the container no GPU; " + _ANOTHER,
        _TORCH,
        chatty=True,
        unless=r"Gloo|CPU platform|libcudart|cuInit|^\(Ray|CUDA_VISIBLE_DEVICES",
        context=_GPU_RENTED,
    ),
    Rule(
        "no_gpu_in_container",
        FailureClass.INFRA_FATAL,
        (r"No (?:supported |NVIDIA |CUDA |usable )?GPUs? (?:was |were )?(?:found|detected|available)",),
        "the host gave the container no GPU; " + _ANOTHER,
        "model servers",
        Weight.HINT,
        unless=r"option will be ignored",  # llama.cpp's build may have no GPU support
        context=_GPU_RENTED,
    ),
    Rule(
        "cuda_not_available_in_container",
        FailureClass.INFRA_FATAL,
        (
            r"CUDA is not available|torch\.cuda\.is_available\(\) (?:is|returned|returns|should be)|Cannot access accelerator device when none",
        ),
        "the host gave the container no GPU; " + _ANOTHER,
        _TORCH,
        context=_GPU_RENTED,
    ),
    # ---------------------------------------------------- nvidia-smi works
    Rule(
        "gpu_healthy_idle",
        FailureClass.WARMUP,
        (
            r"NVIDIA-SMI \d.*Driver Version|^Attached GPUs\s*:|^Driver Version\s*:",
            r"^\|\s+\d+\s+[^|]*\|\s+[0-9A-F]{8}:|^GPU \d+: NVIDIA|^\|?\s+\d+\s+NVIDIA ",
            r"^Warning: persistence mode is disabled",
            r"^(?:\d+, )?(?:NVIDIA|GeForce|Tesla|Quadro) [^,]*(?:, (?:\[N/A\]|-?[\d.]+)|.*MiB)|^\|(?: +\d+){4} +\|.*MiB / +\d+MiB",
        ),
        "nothing to do: the driver answers",
        _NVML,
        Weight.SIGN,
        _SMI,
    ),
)
