"""Errors of vLLM before or while it loads a model. Its relatives (NIM, forks) print the same words."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import ON_LOCAL_MARKET
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_VLLM = "vLLM"
_TRANSFORMERS = "transformers"
_MORE_VRAM = "a GPU with more memory would do; a shorter context, a smaller batch or quantisation needs less"

RULES: tuple[Rule, ...] = (
    Rule(
        "max_model_len_above_model",
        FailureClass.WORKLOAD_FATAL,
        (r"User-specified max_model_len .* is greater than",),
        "lower --max-model-len to what the model's config allows",
        _VLLM,
    ),
    Rule(
        "chat_template_missing",
        FailureClass.WORKLOAD_FATAL,
        (r"chat template.*(?:doesn't exist|does not exist|not found|is not a (?:valid path|built-in)|No such file)",),
        "there is no chat template at this path in the container: check --chat-template",
        _VLLM,
        unless=r"default chat template|falling back",
    ),
    Rule(
        "kv_cache_below_max_len",
        FailureClass.INCOMPATIBLE,
        (
            r"KV cache is needed, which is larger than the available",
            r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored",
            r"max(?:imum)?[_ ](?:model|seq\w*)[_ ]len\w*.*(?:larger|exceeds|greater).*KV cache",
        ),
        "a GPU with more memory would do; a smaller --max-model-len fits this one",
        _VLLM,
    ),
    Rule(
        "no_memory_for_kv_cache",
        FailureClass.INCOMPATIBLE,
        (r"No available memory for the cache blocks", r"kv cache allocation is less than requested memory for kv"),
        _MORE_VRAM,
        _VLLM,
    ),
    Rule(
        "free_memory_below_utilization",
        FailureClass.INCOMPATIBLE,
        (r"(?:Free|Available) memory on (?:device|node|GPU).* less than (?:desired|requested)",),
        "the asked share of memory is not free: a bigger machine would do; a smaller --gpu-memory-utilization fits this one",
        _VLLM,
    ),
    Rule(
        "gpu_memory_held_by_others",
        FailureClass.UNKNOWN,
        (r"Error in memory profiling|memory capacity is unbalanced|may be occupied by other processes",),
        "something else uses the GPU's memory: look at nvidia-smi",
        _VLLM,
    ),
    Rule(
        "tp_does_not_divide_heads",
        FailureClass.WORKLOAD_FATAL,
        (
            r"must be (?:evenly )?divisible by (?:the )?(?:tensor|tp\b|number of (?:GPUs|shards)|num_shard|world)",
            r"(?:not|n't) (?:evenly )?divisible by (?:the )?(?:tensor|tp\b|tp_size|num_shard|number of (?:GPUs|shards)|world|min_thread|weight quantization|quantization block|\w+ = \d|\d+)",
            r"(?:input|output)_(?:size|partition\w*)\S* .*divisible|not compatible with sharding on",
        ),
        "choose a tensor-parallel size that divides the model's heads and layers",
        _VLLM,
    ),
    Rule(
        "trust_remote_code_required",
        FailureClass.WORKLOAD_FATAL,
        (
            r"contains custom code which must be executed|trust[_-]remote[_-]code=?(?:=True|to True| to allow| is required|`? option)|requires? .*trust[_-]remote[_-]code",
        ),
        "read the model's code and, if you trust it, add --trust-remote-code",
        _TRANSFORMERS,
        unless=r"non-default args|Namespace\(|is not (?:effective|used|needed)|has no effect|ignored",
    ),
    Rule(
        "unknown_architecture",
        FailureClass.WORKLOAD_FATAL,
        (
            r"does not recognize this architecture|Could not find model architecture from config|not found rewrite for architectures",
            r"(?:Model )?architectures? .*(?:not supported|failed to be inspected|unsupported|not (?:yet )?implemented)",
            r"has no vLLM implementation|Cannot find model module|Unrecognized configuration class",
            r"unknown (?:model )?architecture|unknown pre-tokenizer type|unsupported (?:model )?architecture|unsupported model(?: type)?\b|Model type \S+ (?:is )?not supported",
        ),
        "the server does not know this kind of model: a newer image may",
        _TRANSFORMERS,
        unless=r"architecture: ''",  # no name at all: a damaged file
    ),
    Rule(
        "tokenizer_missing",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Couldn't instantiate the backend tokenizer|Can't load tokenizer|Tokenizer class \S+ does not exist",
            r"tokenizer\S*.*(?:not found|No such file|does not exist|cannot be loaded|missing)|Unable to load (?:vocabulary|tokenizer)",
            r"does(?:n't| not) have a tokenizer|data did not match any variant of untagged enum",
            r"need to have (?:sentencepiece|tiktoken)|requires the (?:sentencepiece|tiktoken|protobuf) library",
        ),
        "the model comes without a tokenizer that the server can read: name one with --tokenizer",
        _TRANSFORMERS,
        unless=r"llm_load_vocab|chat template|falling back|using (?:the )?default|slow tokenizer",
    ),
    Rule(
        "quantization_mismatch",
        FailureClass.WORKLOAD_FATAL,
        (
            r"does not match the quantization method|Cannot find the config file for \w+",
            r"(?:Unknown|Invalid|Unsupported) quantization|(?:dtype\S*|float16|bfloat16) is not supported for quantization",
            r"quantization (?:method )?\S* ?is (?:not|currently not) supported|not (?:a )?quantized model|quantize(?:d)? config\S* (?:not found|missing)",
        ),
        "--quantization does not fit the model: leave it out, or take a model quantised that way",
        _VLLM,
        unless=r"current GPU|capability|fully optimized|can be slower",
    ),
    Rule(
        "kernel_missing_on_platform",
        FailureClass.INCOMPATIBLE,
        (
            r"_C::\w+\(\) expected at most|Could not run '\S+' with arguments from the '\w+' backend|not implemented for '(?:Half|BFloat16|Float8\w*)'",
        ),
        "this build has no such kernel for this kind of machine: another kind, or another dtype, is needed",
        "PyTorch",
    ),
    Rule(
        "entrypoint_missing_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Error while finding module specification for '(?P<top>\w+)(?:\.\S+)?' \(ModuleNotFoundError: No module named '(?P=top)'\)",
            r"/python\S*: No module named \w+$|^ModuleNotFoundError: No module named '(?:vllm|sglang)'$",
        ),
        f"the image does not have this server: take one that has; {ON_LOCAL_MARKET}",
        "Python",
    ),
    Rule(
        "import_error_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"undefined symbol: |operator \S+ does not exist|object has no attribute '(?:_moe_)?C\w*'|version `?(?:GLIBC|CXXABI)",
            r"cuDNN version incompatibility|compiled with different CUDA major versions|is installed with version .* less than the minimum",
            r"No module named '?vllm|/python\S*: No module named|Error while finding module specification",
            r"(?:unable to|could not|cannot|can't|failed to) (?:dl)?(?:load|open)\b.*\blib(?!cuda\.|nvidia)\w+\.so|cannot load symbol \w+",
            r"lib(?!cuda\.|nvidia)\w+\S*\.so\S*: cannot open shared object|'_OpNamespace' '\w+' object has no attribute",
        ),
        "the image's packages do not fit each other: use the image's own versions, or another image",
        "Python",
        unless=r"libnccl-net|tcmalloc|libiomp|NET/Plugin|Ignore import error",
    ),
    Rule(
        "no_c_compiler_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Failed to find C compiler|InvalidCxxCompiler|No working C\+\+ compiler|unable to (?:find|execute) '?(?:gcc|cc|g\+\+|c\+\+|x86_64-linux-gnu-gcc)",
            r"(?:No such file or directory|not found): ?'?(?:/usr/bin/)?(?:gcc|cc|g\+\+|c\+\+|cc1plus)'?|\b(?:gcc|g\+\+|cc): (?:command )?not found",
        ),
        "kernels are compiled at start and the image has no C compiler: install gcc in it",
        "Triton",
    ),
    Rule(
        "no_python_headers_in_image",
        FailureClass.WORKLOAD_FATAL,
        (r"Python\.h: No such file",),
        "kernels are compiled at start and the image has no Python headers: install python3-dev in it",
        "Triton",
    ),
    Rule(
        "headers_missing_in_image",
        FailureClass.WORKLOAD_FATAL,
        (r"fatal error: '?\S+\.(?:h|hpp|cuh)'?:? (?:No such file|file not found)",),
        "kernels are compiled at start and the image lacks this header: use a -devel image, or install its package",
        "gcc and clang",
    ),
    Rule(
        "no_cuda_toolkit_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"CUDA_HOME environment variable is not set|Could not find nvcc|No such file or directory: '\S*(?:nvcc|ninja|ptxas)'|nvcc: (?:command )?not found",
        ),
        "kernels are compiled at start and the image has no CUDA toolkit: use a -devel image",
        "FlashInfer",
    ),
    Rule(
        "cuda_toolkit_too_old_in_image",
        FailureClass.WORKLOAD_FATAL,
        (r"nvcc fatal\s*: Unknown option",),
        "kernels are compiled at start and the image's CUDA toolkit is too old for them: use a newer image",
        "FlashInfer",
    ),
    Rule(
        "cuda_used_before_fork",
        FailureClass.WORKLOAD_FATAL,
        (r"Cannot re-initialize CUDA in forked subprocess",),
        "the program uses the GPU before it starts its workers: set VLLM_WORKER_MULTIPROC_METHOD=spawn",
        "PyTorch",
    ),
    Rule(
        "attention_backend_unsupported",
        FailureClass.WORKLOAD_FATAL,
        (
            r"No valid attention backend|Selected backend \S+ is not valid|Invalid (?:value for )?(?:VLLM_)?attention[_ ]backend",
        ),
        "this attention backend does not suit the model: leave the choice to the server",
        _VLLM,
    ),
    Rule(
        "model_config_invalid",
        FailureClass.WORKLOAD_FATAL,
        (
            r"exceeds dimension size|size mismatch for|shape mismatch|The size of tensor \w+ \(|Attempted to load weight",
            r"\w+\.json[`'\"]? (?:does not contain|has no|is missing|lacks) |Failed to parse `?\w+\.json",
            r"WeightsUnpickler error: Unsupported|JSONDecodeError|is not a valid JSON|Invalid JSON|Expecting value: line",
            r"Unrecognized model in|Should have a `?model_type|no module or parameter named|weights were not initialized from checkpoint",
            r"wrong number of tensors|wrong shape|(?:missing|unexpected) (?:tensor|key\b)|tensor '\S+' not found|key not found in model|invalid vocab",
            r"^(?:KeyError: )?'(?:model|layers|lm_head|transformer|encoder|decoder|visual|language_model)\.|weight \S+ does not exist|cannot find tensor|rope_scaling`? (?:must|should)",
        ),
        "the model's files do not fit each other, or the server: check the checkpoint",
        _TRANSFORMERS,
    ),
    Rule(
        "bad_engine_config",
        FailureClass.WORKLOAD_FATAL,
        (
            r"^\s*Value error, ",
            r"VLLMValidationError|invalid (?:tool call|reasoning) parser|parser could not locate|requires --[\w-]+|--[\w-]+ (?:requires|must|cannot|is not|should)",
            r"(?:max_num_batched_tokens|max_num_seqs|max_loras?|lora_rank|LoRA rank|block[_ ]size|gpu_memory_utilization) .*(?:must|greater than|smaller than|should)",
            r"does not (?:currently )?support (?:LoRA|pipeline parallel|multimodal|chunked prefill|speculative|embedding|the \w+ task)",
        ),
        "the server refuses this combination of model and arguments: read the line, change an argument",
        _VLLM,
        Weight.CAUSE,
        unless=r"decoder prompt|maximum (?:context|model) length|Input (?:should|length)|input_tokens",
    ),
)
