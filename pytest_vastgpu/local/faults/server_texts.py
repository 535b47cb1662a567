"""The error messages of servers that crash, by label: the line that names the cause, word for word."""

from __future__ import annotations

from collections.abc import Mapping

THE_HOST: Mapping[str, str] = {
    "cuda_not_initialized": (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
        "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized"
    ),
    "uncorrectable_ecc": "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "gpu_fallen_off_bus": "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
    "no_gpu_in_container": "RuntimeError: Failed to infer device type\nRuntimeError: No CUDA GPUs are available",
    "dns_broken": "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    "hub_unreachable": (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        "cached files."
    ),
    "cuda_unknown_error": (
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
        "variable CUDA_VISIBLE_DEVICES after program start."
    ),
    "libcuda_not_found": "/usr/bin/ld: cannot find -lcuda: No such file or directory\ncollect2: error: ld returned 1",
    "driver_not_communicating": (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
        "NVIDIA driver is installed and running."
    ),
}
"""The host is at fault: another of the same kind would do."""

THE_KIND_OF_HOST: Mapping[str, str] = {
    "out_of_memory_loading": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of "
        "23.65 GiB of which 95.44 MiB is free."
    ),
    "no_memory_for_kv_cache": (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine."
    ),
    "kv_cache_below_max_len": (
        "ValueError: To serve at least one request with the model's max seq len (32768), (4.00 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (1.50 GiB)."
    ),
    "no_kernel_image": "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
    "bf16_not_supported": (
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU "
        "has compute capability 7.5."
    ),
    "driver_too_old": (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
        "driver."
    ),
    "disk_full": "OSError: [Errno 28] No space left on device",
    "more_gpus_needed": (
        "AssertionError: local_world_size (4) must be less than or equal to the number of visible devices (1)."
    ),
    "memory_taken_at_start": (
        "ValueError: Free memory on device (3.12/23.65 GiB) on startup is less than desired GPU memory utilization "
        "(0.9, 21.28 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    ),
    "flash_attention_not_supported": "RuntimeError: FlashAttention only supports Ampere GPUs or newer.",
    "quantization_not_supported": (
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
        "Current capability: 80."
    ),
    "ptx_newer_than_driver": (
        "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain."
    ),
    "host_memory": (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
    ),
}
"""The host is too old or too small for the workload."""

THE_WORKLOAD: Mapping[str, str] = {
    "bad_argument": "vllm serve: error: argument --dtype: invalid choice: 'int3' (choose from 'auto', 'half')",
    "gated_model": (
        "OSError: You are trying to access a gated repo.\n401 Client Error. Access to model some/model is restricted. "
        "You must be authenticated to access it."
    ),
    "model_not_found": (
        "OSError: some/model is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'"
    ),
    "max_len_above_model": (
        "Value error, User-specified max_model_len (65536) is greater than the derived max_model_len "
        "(max_position_embeddings=2048 or model_max_length=None in model's config.json)."
    ),
    "quantization_mismatch": (
        "ValueError: Quantization method specified in the model config (awq) does not match the quantization method "
        "specified in the `quantization` argument (gptq)."
    ),
    "remote_code": (
        "ValueError: The repository some/model contains custom code which must be executed to correctly load the "
        "model. Please pass the argument `trust_remote_code=True` to allow custom code to be run."
    ),
    "unknown_architecture": (
        "ValueError: The checkpoint you are trying to load has model type `brand_new` but Transformers does not "
        "recognize this architecture."
    ),
    "address_in_use": (
        "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use"
    ),
    "address_not_local": "OSError: [Errno 99] Cannot assign requested address",
    "chat_template_missing": (
        "ValueError: The supplied chat template string (/models/chat.jinja) appears path-like, but doesn't exist!"
    ),
    "import_error": "ImportError: /opt/vllm/vllm/_C.abi3.so: undefined symbol: _ZN2at4_ops5emptyE",
    "model_path_invalid": (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
        "'/models/some'. Use `repo_type` argument if needed."
    ),
    "hub_offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
        "specified revision on the local disk and outgoing traffic has been disabled."
    ),
    "no_c_compiler": "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
    "tokenizer_missing": (
        "ValueError: Couldn't instantiate the backend tokenizer from one of: a `tokenizers` library serialization "
        "file, a slow tokenizer instance to convert or an equivalent slow tokenizer class to instantiate and convert. "
        "You need to have sentencepiece or tiktoken installed to convert a slow tokenizer to a fast one."
    ),
    "heads_not_divisible": (
        "Value error, Total number of attention heads (14) must be divisible by tensor parallel size (4)."
    ),
}
"""The workload is at fault: it would fail on every host."""

CRASHES: Mapping[str, str] = {**THE_HOST, **THE_KIND_OF_HOST, **THE_WORKLOAD, "killed": "Killed", "silent": ""}

STAGES: Mapping[str, str] = {
    "starting": "INFO vLLM API server version 0.11.0",
    "downloading": "Fetching 4 files:  25%|##5       | 1/4 [00:02<00:06,  2.01s/it]",
    "loading": "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.00s/it]",
    "compiling": "INFO torch.compile takes 12.30 s in total",
    "capturing": "Capturing CUDA graphs (decode, FULL):  50%|#####     | 34/67 [00:01<00:01, 24.1it/s]",
}
"""The stages of a server's start, in order, with a line of its log at each."""
