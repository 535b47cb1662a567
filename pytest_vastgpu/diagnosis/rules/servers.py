"""Messages of other model servers: TGI and LoRAX, SGLang, Ollama, llama.cpp, Triton; and of any server's command line."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_READ = "read the line: the server says which argument it refuses"

RULES: tuple[Rule, ...] = (
    Rule(
        "bad_cli_argument",
        FailureClass.WORKLOAD_FATAL,
        (r"(?:^|\s)error: (?:invalid argument: |unexpected argument ')--?[a-z][\w-]*[ =]\S",),
        "an option and its value are two arguments: '--parallel', '4', not '--parallel 4'",
        "llama.cpp, clap",
    ),
    Rule(
        "bad_cli_argument",
        FailureClass.WORKLOAD_FATAL,
        (
            r"(?:^|\s)error: (?:unrecognized arguments|argument |the following arguments are required|ambiguous option|one of the arguments)",
            r"(?:^|\s)error: (?:unexpected argument|invalid value|the argument|a value is required|Found argument|The following required|unknown argument|invalid argument|invalid option|unrecognized subcommand|error while handling argument)",
            r"^(?:Error: )?(?:No such (?:option|command)|Invalid value for|Missing (?:option|argument|parameter)|Got unexpected extra argument)",
            r"unknown (?:flag|command|shorthand flag|option)\b|flag provided but not defined|unrecognized (?:option|command)|invalid option --",
            r"ArgumentValidation\(|error while handling argument|unable to parse (?:arguments|command)|error: [\w-]+: (?:invalid|unrecognized)",
            r"^[\w./-]+(?: \w+)?: error: ",
            r"Reasoning parser '\S+' not found",
            r"^Unknown \w+ (?:provided|specified|given|requested): |The `--[\w-]+` arg is not set",
            r"^error: --[\w-]+ (?:is|are) required|^error: unknown value for --[\w-]+: ",
        ),
        _READ,
        "argparse, clap, click, Go's flag, llama.cpp",
        unless=r"^(?:main|(?:llama|ggml|common|clip)_\w+): error: "  # llama.cpp's functions, not its arguments
        r"|^(?:\S*/)?(?:clang|gcc|g\+\+|c\+\+|cc1plus|nvcc|ptxas|ld|ninja|cmake|make|git|curl|wget|pip|apt|tar|ffmpeg)\b",
    ),
    Rule(
        "model_repository_broken",
        FailureClass.WORKLOAD_FATAL,
        (
            r"failed to load all models|failed to (?:load|poll) .*model repositor|Poll failed for model directory",
            r"no model version|unable to find backend|unexpected platform|failed to open text file|Invalid model name|must (?:specify|provide) .*config\.pbtxt",
            r"error: creating server: Invalid|failed to stat file|model (?:configuration|config) .*(?:invalid|missing)|unable to autofill",
        ),
        "a model in Triton's repository cannot be loaded: see its own lines above",
        "Triton",
        Weight.HINT,
        unless=r"CUDA",
    ),
    Rule(
        "no_gpu_in_container",
        FailureClass.INFRA_FATAL,
        (r"has kind KIND_GPU but no GPUs are available",),
        "Triton sees none of the rented GPUs; another host would do; nothing in the workload caused this",
        "Triton, model_config_utils.cc",
        Weight.HINT,
        context=r"^(?!.*gpus=0\b)",
    ),
    Rule(
        "model_needs_gpu",
        FailureClass.WORKLOAD_FATAL,
        (r"has kind KIND_GPU but no GPUs are available",),
        "the model's instance_group asks for a GPU: rent one (gpus=1), or give it KIND_CPU",
        "Triton, model_config_utils.cc",
    ),
    Rule(
        "model_repository_broken",
        FailureClass.WORKLOAD_FATAL,
        (r"Failed to preinitialize Python stub",),
        "a version of a model has no model.py, or one that cannot be read: read the line",
        "Triton's Python backend, pb_stub.cc",
    ),
    Rule(
        "model_repository_broken",
        FailureClass.WORKLOAD_FATAL,
        (
            r"failed to load '\S+' version \d+: (?:Invalid argument|Not found|Unsupported)",
            r"Could not get MetaData for .*status 40[134]",
        ),
        "a model in Triton's repository cannot be loaded: read the line",
        "Triton",
        unless=r"CUDA|memory",
    ),
    Rule(
        "weights_refused",
        FailureClass.WORKLOAD_FATAL,
        (r"UnpicklingError: Weights only load failed",),
        "the server loads no pickled weights that may run code: give a model with safetensors",
        "PyTorch",
    ),
    Rule(
        "engine_version_mismatch",
        FailureClass.WORKLOAD_FATAL,
        (
            r"(?:engine|plan).*(?:not compatible with this version|version tag does not match|Serialization assertion)|Version tag does not match|Failed to deserialize cuda engine",
        ),
        "the engine was built with another TensorRT: build it with the image's",
        "TensorRT",
    ),
    Rule(
        "model_path_invalid",
        FailureClass.WORKLOAD_FATAL,
        (r"error loading model: .*(?:No such file|failed to open)|(?:GGUF|model) file .*(?:not found|No such file)",),
        "there is no model at this path in the container: check it",
        "llama.cpp",
    ),
    Rule(
        "not_a_model_file",
        FailureClass.WORKLOAD_FATAL,
        (r"invalid (?:file )?magic|unknown model architecture: ''",),
        "the file is damaged, or no model in the server's format (llama.cpp and Ollama: GGUF): check what it is",
        "llama.cpp, ggml/src/gguf.cpp; Ollama; PyTorch",
    ),
    Rule(
        "model_file_invalid",
        FailureClass.UNKNOWN,  # it may have been broken on its way to this host
        (r"gguf_init_from_\w+: (?!failed to open|invalid magic)",),
        "the model's file is no GGUF that this server reads: broken on its way or at its source, or too new",
        "llama.cpp, ggml/src/gguf.cpp",
    ),
    Rule(
        "bad_engine_config",
        FailureClass.WORKLOAD_FATAL,
        (r"llama_\w+: (?:[VK] cache quantization requires|\S+ cannot both be|invalid value for )",),
        "the server refuses this combination of arguments: read the line, change an argument",
        "llama.cpp",
    ),
    Rule(
        "bad_engine_config",
        FailureClass.WORKLOAD_FATAL,
        (r"`sharded\b.{0,10}` .{0,10}but only found \d+ CUDA devices",),
        "one GPU is rented and the command shards over several: rent more with gpus, or do not shard",
        "TGI",
    ),
    Rule(
        "lora_not_loaded",
        FailureClass.WORKLOAD_FATAL,
        (r"failed to (?:load|apply) lora adapter",),
        "the adapter does not fit the model, or is not at this path: check it",
        "llama.cpp",
    ),
    Rule(
        "chat_template_invalid",
        FailureClass.WORKLOAD_FATAL,
        (r"chat template parsing error|the supplied chat template is not supported",),
        "the server cannot read the model's chat template: give another one with --chat-template",
        "llama.cpp",
    ),
    Rule(
        "modelfile_invalid",
        FailureClass.WORKLOAD_FATAL,
        (r"^Error: (?:\(line \d+\): |no FROM line|no Modelfile|command must be one of)",),
        "the Modelfile has a mistake: read the line",
        "Ollama",
    ),
    Rule(
        "image_too_old_for_model",
        FailureClass.WORKLOAD_FATAL,
        (r"requires a newer version of|pull model manifest: 412|newer version of (?:Ollama|vLLM|transformers|sglang)",),
        "use a newer image of the server",
        "Ollama",
    ),
    Rule(
        "flash_attn_not_in_image",
        FailureClass.WORKLOAD_FATAL,
        (r"Flash Attention(?: V\d)? is not installed",),
        "the image lacks flash-attention: use the server's official image",
        "TGI",
        Weight.HINT,
    ),
    Rule(
        "start_timed_out",
        FailureClass.UNKNOWN,
        (
            r"timed out waiting for (?:llama runner|server|engine)|Timed out waiting for .*(?:engine|worker|core)|collective operation timeout|DistStoreError|Timeout waiting for",
        ),
        "parts of the server waited for each other in vain: look at what each of them did last",
        "model servers",
        Weight.SYMPTOM,
    ),
)
