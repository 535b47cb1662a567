"""Working GPUs that do not fit: another generation, an older driver, too little memory, too few of them.

CUDA's error numbers come in groups: the driver is older than the build requires (35, 36, 222), the card is of another
kind (209, 801, 804), there are too few cards or too little memory (2, 101). Those of faulty cards are in :mod:`.gpu`.
"""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import LOG
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_GPU = LOG | frozenset({Channel.NVIDIA_SMI, Channel.STATUS_MSG})
_NEWER_DRIVER = "a host with a newer driver would do; an image for an older CUDA would run on more hosts"
_NEWER_CARD = "a GPU of a newer generation would do: ask for it with compute_cap"
_MORE_VRAM = "a GPU with more memory would do; a shorter context, a smaller batch or quantisation needs less"
_WHY_NO_FORWARD_COMPATIBILITY = r"^\s*\[\[(?!.*\(error \d)"
"""A banner of NVIDIA's images: without an error number, another line says whether the driver is sufficient."""
_CUDA = "CUDA runtime"
_TORCH = "PyTorch"

RULES: tuple[Rule, ...] = (
    # ---------------------------------------------------- another kind of GPU is needed
    Rule(
        "cuda_803_driver_combination",
        FailureClass.INCOMPATIBLE,
        (r"Error 803\b", r"unsupported display driver / cuda driver combination", r"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        "the driver library in the container and the host's kernel driver do not fit: another kind of host would do",
        _CUDA,
        unless=_WHY_NO_FORWARD_COMPATIBILITY,
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
        unless=_WHY_NO_FORWARD_COMPATIBILITY,
    ),
    Rule(
        "driver_too_old_for_image",
        FailureClass.INCOMPATIBLE,
        (
            r"NVIDIA driver on your system is too old",
            r"CUDA driver version is insufficient|lib(?:cuda|nvidia-ml)\.so\S*: undefined symbol|API call is not supported in the installed CUDA driver",
            r"CUDA_ERROR_INSUFFICIENT_DRIVER|cudaErrorInsufficientDriver|cudaErrorCallRequiresNewerDriver",
            r"(?:init failure|Error|error code)[: ]+(?:35|36)\b",
            r"was detected and compatibility mode is UNAVAILABLE",
            r"(?:minimum|required?s?) (?:NVIDIA |CUDA )?driver(?: version)?.*(?:but|found|detected|installed)",
            r"driver\b.{0,40}\btoo old|old (?:CUDA )?driver",
        ),
        _NEWER_DRIVER,
        _TORCH,
        channels=_GPU,
        context=r"^(?!.*gpus=0\b)",  # programs that find no driver at all say this, too
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
        "a GPU of compute capability 8.0 would do; --dtype=half would run on this one",
        "vLLM",
        unless=r"quantization|falling back|instead of|casting|forcefully",
    ),
    Rule(
        "attention_needs_capability",
        FailureClass.INCOMPATIBLE,
        (r"No valid attention backend.{0,3000}compute capability not supported",),
        _NEWER_CARD,
        "vLLM",
    ),
    Rule(
        "flash_attn_needs_capability",
        FailureClass.INCOMPATIBLE,
        (
            r"GPU with CUDA capability \d+ \d+ is not supported|assert is_fa_version_supported|requires SM ?>=",
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
        unless=r"falling back|fall back|fallback|default(?:ing)? to|instead|weight-only|will be used",
    ),
    Rule(
        "no_kernel_image",
        FailureClass.INCOMPATIBLE,
        (
            r"no kernel image is available",
            r"no device code compatible|not compiled with any CUDA arch|invalid device function",
            r"compute cap\w* \S+ is not compatible with (?:the )?compile",
            r"device kernel image is invalid|cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU",
            r"CUDA capability sm_\d+ is not compatible",
            r"Value 'sm_\w+' is not defined|Unsupported gpu architecture|unsupported (?:GPU|device) arch",
            r"requires \.target sm_\d+|not supported on \.target",
            r"CUB(?:LAS|NN)?_STATUS_ARCH_MISMATCH|CUDNN_STATUS_ARCH_MISMATCH",
        ),
        "the image has no code for this GPU's generation: another kind would do; say the oldest with compute_cap",
        _CUDA,
    ),
    Rule(
        "gpu_shared_memory_too_small",
        FailureClass.INCOMPATIBLE,
        (r"out of resource: shared memory|OutOfResources\b|exceeds? .*shared memory per block",),
        "this kernel needs a GPU with more shared memory per block: another kind would do",
        "Triton",
        Weight.HINT,  # while kernels are tuned, those that do not fit are skipped
        unless=r"ignoring|skipping|No valid triton configs",
    ),
    Rule(
        "gpu_generation_not_supported",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:requires?|needs?|only supports?|(?:only )?supported (?:only )?on|at least|minimum)\b.*(?:compute capability|cuda capability|\bsm_?\d\d+\b|(?:Hopper|Ampere|Blackwell|Ada|Turing|Volta)\b.*GPU)",
            r"not supported (?:with|on|for) (?:compute|cuda) capability",
            r"(?:compute|cuda) capability\b.*(?:not supported|unsupported|too (?:low|old)|is required|less than|insufficient)",
            r"(?:no (?:compatible|valid)|could not find a|0 compatible) profile",
            r"device capability .*does not support|device does not support multicast",
            r"engine plan file is generated on an incompatible device",
            r"peer access is not supported between",
        ),
        _NEWER_CARD,
        "model servers",
        unless=r"falling back|fall back|fallback|default(?:ing)? to|instead|will be used|disabl|Cannot use FA version|Minimum and Maximum|capability\. GPUs that$",  # the last is in Triton's help
    ),
    Rule(
        "gpu_generation_not_supported",
        FailureClass.INCOMPATIBLE,
        (r"GPU is too old|\.cuh?:\d+: Unsupported architecture|\bon Pre-(?:Hopper|Ada|Ampere|Blackwell)\b",),
        _NEWER_CARD,
        "Ollama, FlashInfer, TensorRT-LLM",
        chatty=True,
    ),
    # ---------------------------------------------------- too few GPUs, or too little memory
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
            r"unable to allocate (?:CUDA|ROCm|Vulkan|SYCL|backend)|ErrorOutOfDeviceMemory|Cuda failure.*out of memory|RESOURCE_EXHAUSTED|CUBLAS_STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED)",
            r"(?:terminated|error loading|failed to initialize)\b.*(?:cudaMalloc failed|failed to allocate)",
            r"CUDA runtime error in .*: out of memory",  # TensorRT-LLM
            r"Allocation on device \d+ would exceed allowed memory",
            r"Not enough memory to handle \d+|Not? enought? (?:GPU )?memory\b|make sure you have enough GPU (?:RAM|memory)",
            r"not enough (?:VRAM|GPU memory|device memory|video memory)|insufficient (?:VRAM|GPU memory)",
            r"model requires more (?:GPU|video) memory|exceeds (?:the )?(?:available )?(?:GPU|VRAM|device) memory",
        ),
        _MORE_VRAM,
        _TORCH,
        unless=r"out of resource",
    ),
    Rule(
        "vram_too_small",
        FailureClass.INCOMPATIBLE,
        (r"cudaMalloc failed|failed to allocate (?:CUDA|compute|kv|buffer for (?:the )?kv)",),
        _MORE_VRAM,
        "llama.cpp",
        Weight.HINT,  # the program tries again with less memory
    ),
    Rule(
        "tp_exceeds_gpus",
        FailureClass.INCOMPATIBLE,
        (
            r"invalid device ordinal|device=\d+, num_gpus=\d+",
            r"World size \(\d+\) is larger than the number of available GPUs",
            r"world_size \(?\d+\)? (?:must be less than or equal to the number of visible|is less than than max local gpu count)|number of visible devices \(\d+\)",
            r"(?:tensor|pipeline)[- _]parallel.*(?:larger|greater|exceeds?|more) than the (?:total )?number of (?:available |visible )?(?:GPUs|devices)",
            r"(?:required|requested) (?:number of )?GPUs.*(?:exceeds?|more than|available|but)|requires? \d+ GPUs?\b.*(?:only|but|found|available)",
            r"invalid or unsupported gpu id|exceeds available GPUs|Current node has no GPU available",
            r"NotEnoughCUDADevices|\bbut only \d+ (?:CUDA devices|GPUs?)\b",
            r"Only \d+ GPUs? (?:are|is) available, but \d+ (?:are|is) required|larger than the number of GPUs",
            r"Duplicate GPU detected|not enough (?:GPUs|devices)|number of GPUs .*(?:less|smaller|fewer) than",
        ),
        "a machine with more GPUs would do: say how many with gpus",
        "vLLM",
    ),
    # ---------------------------------------------------- the GPUs cannot work together
    Rule(
        "shm_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"(?:/dev/shm|shared memory).*(?:No space left|insufficient|too small|error|failed|unable|not enough)",
            r"Insufficient space in /dev/shm|(?:insufficient|unable to (?:create|open)|error while creating|failed to (?:create|allocate)|not enough) shared memory",
            r"\bSIGBUS\b|\bBus error\b|exceeds /dev/shm size",
        ),
        "a host that gives more shared memory would do",
        "NCCL",
        unless=r"leaked|Cannot allocate memory",
    ),
    Rule(
        "nccl_system_error",
        FailureClass.INCOMPATIBLE,
        (r"ncclSystemError|ncclUnhandledCudaError|NCCL error.*unhandled (?:system|cuda) error",),
        "GPUs of one machine cannot talk to each other: another kind of machine, or a single GPU, would do",
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
)
