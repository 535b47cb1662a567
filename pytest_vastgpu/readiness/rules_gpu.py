"""GPUs, their driver and CUDA: what the driver, ``nvidia-smi``, the kernel, PyTorch, Triton and NCCL say of them.

CUDA's error numbers come in families: the driver is older than what was built (35, 36, 222), the card is of another
kind (209, 801, 804), the card or its fabric is ill (214, 220, 802, 999), there is no card (100), or not enough of it
(2, 101).
"""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.readiness.rules import LOG
from pytest_vastgpu.readiness.rules import Rule
from pytest_vastgpu.readiness.rules import Weight

_SMI = frozenset({Channel.NVIDIA_SMI})
_GPU = LOG | _SMI | frozenset({Channel.STATUS_MSG})
_ANOTHER = "another host is tried; nothing in the workload caused this"
_NEWER_DRIVER = "a host with a newer driver is tried; an image for an older CUDA would run on more hosts"
_NEWER_CARD = "a GPU of a newer generation is tried: ask for it with compute_cap"
_MORE_VRAM = "a GPU with more memory is tried; a shorter context, a smaller batch or quantisation needs less"
_GPU_RENTED = r"^(?!.*gpus=0)"
"""Whoever rented no GPU finds none."""
_CUDA = "CUDA runtime"
_NVML = "nvidia-smi and NVML"
_KERNEL = "NVIDIA kernel module"
_TORCH = "PyTorch"

RULES: tuple[Rule, ...] = (
    # ---------------------------------------------------- the driver and the card are not well
    Rule(
        "nvml_driver_library_mismatch",
        FailureClass.INFRA_FATAL,
        (r"driver/library version mismatch", r"NVML/RM version mismatch", r"NVRM: API mismatch"),
        "the host's driver was updated without a restart; " + _ANOTHER,
        _NVML,
        channels=_GPU,
    ),
    Rule(
        "driver_not_communicating",
        FailureClass.INFRA_FATAL,
        (
            r"couldn't communicate with the NVIDIA driver|couldn't find libnvidia-ml",
            r"Failed to initialize NVML: (?:Driver Not Loaded|GPU access blocked|Insufficient Permissions|Timeout)",
            r"NVMLError_(?:DriverNotLoaded|NoPermission|Timeout|IRQIssue|OperatingSystem)",
            r"NVRM: (?:.*probe routine failed|.*RmInitAdapter failed|rm_init_adapter failed|.*BAR\d is)",
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
            r"Xid \(.*\): (?:48|64|94|95|140|171|172)\b",
            r"Remapping Failure Occurred\s*:\s*Yes",
            r"(?:Page Retirement|Retirement Pending|Pending)\s*:\s*Yes",
            r"[0-9A-F]{4,8}:[0-9A-F]{2}:[0-9A-F]{2}\.\d\s+(?:On|Off)\s*\|\s+[1-9]\d*\s*\|",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
    ),
    Rule(
        "nvlink_error",
        FailureClass.INFRA_FATAL,
        (
            r"uncorrectable NVLink error|nvlink.*(?:fatal|uncorrectable)",
            r"Xid \(.*\): (?:74|144|145|146|147|148|149|150)\b",
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
            r"GPU requires reset|ResetRequired|GPU Reset Required|\|\s*ERR!",
            r"Xid \(.*\): (?:46|61|62|110|119|120|122|123|143|154|155|156|158)\b",
            r"GSP (?:RPC|RM|firmware).*(?:timeout|failed|error)|Timeout .*waiting for (?:RPC|GSP)",
        ),
        _ANOTHER,
        _KERNEL,
        channels=_GPU,
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
        (r"Failed to initialize NVML: Unknown", r"NVMLError_Unknown", r"nvmlInit\w*.*(?:unknown error)"),
        _ANOTHER,
        _NVML,
        channels=_GPU,
    ),
    Rule("no_devices", FailureClass.INFRA_FATAL, (r"No devices were found",), _ANOTHER, _NVML, channels=_GPU),
    Rule(
        "fabric_manager_not_completed",
        FailureClass.INFRA_FATAL,
        (r"fabric ?manager.*(?:never|not running|not (?:started|ready|completed)|failed|inactive|missing)",),
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
        "cuda_803_driver_combination",
        FailureClass.INCOMPATIBLE,
        (r"Error 803\b", r"unsupported display driver / cuda driver combination", r"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        "the driver library in the container and the host's kernel driver do not fit: another kind of host is tried",
        _CUDA,
    ),
    Rule(
        "cuda_804_forward_compatibility",
        FailureClass.INCOMPATIBLE,
        (
            r"Error 804\b",
            r"forward compatibility was attempted on non supported HW",
            r"CUDA_ERROR_COMPAT_NOT_SUPPORTED",
        ),
        _NEWER_DRIVER,
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
            r"Error 999: unknown error|init failure: 999",
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
        (r"CUDA-capable device\(s\) is/are busy or unavailable", r"cudaErrorDevicesUnavailable|Error 46\b"),
        "another process holds the GPU for itself; " + _ANOTHER,
        _CUDA,
    ),
    # ---------------------------------------------------- driver and card are of another kind than needed
    Rule(
        "driver_too_old_for_image",
        FailureClass.INCOMPATIBLE,
        (
            r"NVIDIA driver on your system is too old",
            r"CUDA driver version is insufficient|API call is not supported in the installed CUDA driver",
            r"CUDA_ERROR_INSUFFICIENT_DRIVER|cudaErrorInsufficientDriver|cudaErrorCallRequiresNewerDriver",
            r"(?:init failure|Error|error code)[: ]+(?:35|36)\b",
            r"container was built for NVIDIA Driver Release .*compatibility mode is UNAVAILABLE",
            r"(?:minimum|required?s?) (?:NVIDIA |CUDA )?driver(?: version)?.*(?:but|found|detected|installed)",
            r"driver (?:is|version)? ?\S* ?too old|old driver",
        ),
        _NEWER_DRIVER,
        _TORCH,
        channels=_GPU,
    ),
    Rule(
        "ptx_toolchain_newer_than_driver",
        FailureClass.INCOMPATIBLE,
        (
            r"PTX was compiled with an unsupported toolchain",
            r"cudaErrorUnsupportedPtxVersion|CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            r"Unsupported \.version \d|PTX JIT compil\w+ failed|a PTX JIT compilation failed",
        ),
        _NEWER_DRIVER,
        _CUDA,
    ),
    Rule(
        "bf16_needs_sm80",
        FailureClass.INCOMPATIBLE,
        (
            r"bfloat16 is (?:only|not) supported (?:on|by|for) .*(?:GPU|device|compute capability)",
            r"does not support (?:bf16|bfloat16)\b",
        ),
        "a GPU of compute capability 8.0 is tried; --dtype=half would run on this one",
        "vLLM",
        unless=r"quantization|falling back|instead of|casting",
    ),
    Rule(
        "attention_needs_capability",
        FailureClass.INCOMPATIBLE,
        (r"No valid attention backend.*compute capability not supported",),
        _NEWER_CARD,
        "vLLM",
    ),
    Rule(
        "flash_attn_needs_capability",
        FailureClass.INCOMPATIBLE,
        (
            r"GPU with CUDA capability \d+ \d+ is not supported",
            r"Flash ?Attention(?:[- ]?\d)? (?:only supports|requires|needs|is only supported|is not supported) .*(?:Ampere|Hopper|Ada|GPU|capability|sm_?\d)",
        ),
        _NEWER_CARD,
        "flash-attention",
    ),
    Rule(
        "quant_needs_capability",
        FailureClass.INCOMPATIBLE,
        (
            r"Quantization scheme is not supported for",
            r"quantization method \S+ is not supported for the current GPU",
            r"fp8e\w+ (?:data type )?(?:is )?not supported (?:in|on) this|fp8e4nv",
            r"(?:fp8|fp4|int8|w8a8|w4a8|mxfp4|nvfp4|marlin|awq|gptq|cutlass)\b.*(?:require|only support|not supported|need)\w*.*(?:capability|sm_?\d\d|GPU|Hopper|Ada\b|Blackwell|Ampere)",
        ),
        _NEWER_CARD,
        "vLLM",
        unless=r"falling back|fall back|fallback|defaulting|instead|weight-only|will be used",
    ),
    Rule(
        "no_kernel_image",
        FailureClass.INCOMPATIBLE,
        (
            r"no kernel image is available",
            r"no device code compatible|not compiled with any CUDA arch",
            r"device kernel image is invalid|cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU",
            r"CUDA capability sm_\d+ is not compatible",
            r"Value 'sm_\w+' is not defined|Unsupported gpu architecture|unsupported (?:GPU|device) arch",
            r"requires \.target sm_\d+|not supported on \.target",
            r"CUB(?:LAS|NN)?_STATUS_ARCH_MISMATCH|CUDNN_STATUS_ARCH_MISMATCH",
        ),
        "the image has no code for this GPU's generation: another kind is tried; say the oldest with compute_cap",
        _CUDA,
    ),
    Rule(
        "gpu_shared_memory_too_small",
        FailureClass.INCOMPATIBLE,
        (r"out of resource: shared memory|OutOfResources\b|exceeds? .*shared memory per block",),
        "this kernel needs a GPU with more shared memory per block: another kind is tried",
        "Triton",
    ),
    Rule(
        "gpu_generation_not_supported",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:requires?|needs?|only supports?|(?:only )?supported (?:only )?on|at least|minimum)\b.*(?:compute capability|cuda capability|\bsm_?\d\d+\b|(?:Hopper|Ampere|Blackwell|Ada|Turing|Volta)\b.*GPU)",
            r"(?:compute|cuda) capability\b.*(?:not supported|unsupported|too (?:low|old)|is required|less than|insufficient)",
            r"(?:no (?:compatible|valid)|could not find a|0 compatible) profile",
            r"engine plan file is generated on an incompatible device",
            r"peer access is not supported between",
        ),
        _NEWER_CARD,
        "model servers",
        unless=r"falling back|fall back|fallback|defaulting|instead|will be used|disabl",
    ),
    # ---------------------------------------------------- not enough of it
    Rule(
        "cuda_oom_loading_weights",
        FailureClass.INCOMPATIBLE,
        (r"(?:weights?|load\w*)\b.*(?:CUDA|HIP) (?:error: )?out of memory",),
        _MORE_VRAM,
        _TORCH,
    ),
    Rule(
        "cuda_oom_profiling",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:CUDA|HIP) (?:error: )?out of memory.*(?:warming up|sampler|CUDA Graphs|profil|dummy)",
            r"(?:capture|warm\w*|profil\w*)\b.*CUDA out of memory",
        ),
        _MORE_VRAM,
        "vLLM",
    ),
    Rule(
        "vram_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:CUDA|HIP|GPU|VRAM)\b.{0,30}\bout of memory|OutOfMemoryError|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY",
            r"cudaMalloc failed|failed to allocate CUDA|unable to allocate CUDA|Cuda failure.*out of memory|RESOURCE_EXHAUSTED",
            r"failed to allocate (?:compute|kv|buffer for (?:the )?kv)|CUBLAS_STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED)",
            r"Not enough memory to handle \d+|Not enought? (?:GPU )?memory\b",
            r"not enough (?:VRAM|GPU memory|device memory|video memory)|insufficient (?:VRAM|GPU memory)",
            r"model requires more (?:GPU|video) memory|exceeds (?:the )?(?:available )?(?:GPU|VRAM|device) memory",
        ),
        _MORE_VRAM,
        _TORCH,
    ),
    Rule(
        "tp_exceeds_gpus",
        FailureClass.INCOMPATIBLE,
        (
            r"invalid device ordinal|device=\d+, num_gpus=\d+",
            r"World size \(\d+\) is larger than the number of available GPUs",
            r"world_size \(?\d+\)? must be less than or equal to the number of visible|number of visible devices \(\d+\)",
            r"(?:tensor|pipeline)[- _]parallel.*(?:larger|greater|exceeds?|more) than the (?:total )?number of (?:available |visible )?(?:GPUs|devices)",
            r"(?:required|requested) (?:number of )?GPUs.*(?:exceeds?|more than|available|but)|requires? \d+ GPUs?\b.*(?:only|but|found|available)",
            r"exceeds available GPUs|Current node has no GPU available",
            r"Duplicate GPU detected|not enough (?:GPUs|devices)|number of GPUs .*(?:less|smaller|fewer) than",
        ),
        "a machine with more GPUs is tried: say how many with gpus",
        "vLLM",
    ),
    # ---------------------------------------------------- there is none
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
        (r"cannot find -lcuda\b", r"libcuda\.so cannot found|libcuda\.so(?:\.1)? (?:not|cannot be) found"),
        "the driver's library is not in the container; " + _ANOTHER,
        "Triton",
        unless=r"lcudart",
        context=_GPU_RENTED,
    ),
    Rule(
        "no_gpu_in_container",
        FailureClass.INFRA_FATAL,
        (
            r"Found no NVIDIA driver on your system|No CUDA GPUs are available|no CUDA-capable device is detected",
            r"NVML Shared Library Not Found|NVMLError_LibraryNotFound",
            r"lib(?:cuda\.so|nvidia-ml\.so)\S*: cannot open shared object",
            r"running on UnspecifiedPlatform|0 active driver\(s\) found|cudaErrorNoDevice|CUDA_ERROR_NO_DEVICE|init failure: 100\b",
            r"The NVIDIA Driver was not detected|CUDA driver initialization failed, you might not have",
            r"No CUDA runtime is found",
        ),
        "the host gave the container no GPU; " + _ANOTHER,
        _TORCH,
        chatty=True,
        unless=r"Gloo|CPU platform|libcudart|cuInit",
        context=_GPU_RENTED,
    ),
    Rule(
        "no_gpu_in_container",
        FailureClass.INFRA_FATAL,
        (r"No (?:supported |NVIDIA |CUDA |usable )?GPUs? (?:was |were )?(?:found|detected|available)",),
        "the host gave the container no GPU; " + _ANOTHER,
        "model servers",
        Weight.HINT,
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
    Rule(
        "shm_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:/dev/shm|shared memory).*(?:No space left|insufficient|too small|error|failed|unable|not enough)",
            r"(?:insufficient|unable to (?:create|open)|error while creating|failed to (?:create|allocate)|not enough) shared memory",
            r"\bSIGBUS\b|\bBus error\b",
        ),
        "a host that gives more shared memory is tried",
        "NCCL",
        unless=r"leaked|Cannot allocate memory",
    ),
    Rule(
        "nccl_system_error",
        FailureClass.INCOMPATIBLE,
        (r"ncclSystemError|ncclUnhandledCudaError|NCCL error.*unhandled (?:system|cuda) error",),
        "GPUs of one machine cannot talk to each other: another kind of machine, or a single GPU, is tried",
        "NCCL",
        Weight.HINT,
    ),
    Rule(
        "illegal_memory_access",
        FailureClass.WORKLOAD_FATAL,
        (r"illegal memory access|misaligned address|device-side assert|illegal instruction was encountered",),
        "a kernel of the server fails: try another version of it, or --enforce-eager",
        _CUDA,
        Weight.HINT,
    ),
    Rule(
        "cuda_error",
        FailureClass.UNKNOWN,
        (
            r"CUDA (?:driver )?error: |cudaError\w+|CUDA_ERROR_\w+|NCCL error|nccl\w+Error",
            r"Unexpected error from cudaGetDeviceCount",
        ),
        "the text does not say whether card, driver or program is at fault",
        _CUDA,
        Weight.SYMPTOM,
        unless=r"cuInit",
    ),
    # ---------------------------------------------------- nvidia-smi that works
    Rule(
        "gpu_healthy_idle",
        FailureClass.WARMUP,
        (
            r"NVIDIA-SMI \d.*Driver Version|^Attached GPUs\s*:|^Driver Version\s*:",
            r"^GPU \d+: NVIDIA|^\|?\s+\d+\s+NVIDIA |^(?:\d+, )?NVIDIA .*MiB",
        ),
        "nothing to do: the driver answers",
        _NVML,
        Weight.SIGN,
        _SMI,
    ),
)
