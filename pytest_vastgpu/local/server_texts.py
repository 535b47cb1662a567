"""What servers say when they crash, by label: the line that names the cause, as the server's own program words it."""

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
}
"""The host is at fault: an equal one would do."""

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
}
"""Another kind of host is needed: newer or larger."""

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
}
"""It would fail the same everywhere."""

CRASHES: Mapping[str, str] = {**THE_HOST, **THE_KIND_OF_HOST, **THE_WORKLOAD, "killed": "Killed", "silent": ""}

STAGES: Mapping[str, str] = {
    "starting": "INFO vLLM API server version 0.11.0",
    "downloading": "Fetching 4 files:  25%|##5       | 1/4 [00:02<00:06,  2.01s/it]",
    "loading": "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.00s/it]",
    "compiling": "INFO torch.compile takes 12.30 s in total",
    "capturing": "Capturing CUDA graphs (decode, FULL):  50%|#####     | 34/67 [00:01<00:01, 24.1it/s]",
}
"""How far a start gets, in order, and what it says there."""
