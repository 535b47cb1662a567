"""Signs of a start: it goes on, it is complete, or it has ended. These rules name no causes."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import CONTAINER
from pytest_vastgpu.diagnosis.rules.base import LOG
from pytest_vastgpu.diagnosis.rules.base import STATUS
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_CURL = frozenset({Channel.CURL})

OWN_STEP = "own_start_goes_on"
"""Reason for a step of our own start script: the server listens already, and has yet to pull or load the model."""
STOPPED = "stopped_on_request"
"""Reason for a server that was told to stop: its later output says nothing."""


GPU_IN_USE = "gpu_in_use"
"""Reason for a server that has found its GPU: an earlier message that it was missing no longer counts."""
GPU_FOUND = "listens_and_has_a_gpu"
"""The same of a server that has nothing left to do then."""
LOADS_MODEL = "runner_loading"
"""Reason for a server that listens and loads a model after that: it is ready once the model is loaded."""
HUNG = Rule(
    "cause_not_shown",
    FailureClass.UNKNOWN,
    (r"(?!)",),
    "the cause stands above this line",
    "see the known hangs",
    Weight.END,
)
"""For a line known from :mod:`hangs`; no line is searched for it."""


def _warm(reason: str, source: str, *patterns: str, channels: frozenset[Channel] = LOG) -> Rule:
    wait = "wait: the start is under way"
    return Rule(reason, FailureClass.WARMUP, patterns, wait, source, Weight.SIGN, channels, chatty=True)


def _ready(
    reason: str, source: str, *patterns: str, channels: frozenset[Channel] = LOG, servers: frozenset[str] = frozenset()
) -> Rule:
    return Rule(reason, FailureClass.READY, patterns, "", source, Weight.SIGN, channels, servers, chatty=True)


def _end(source: str, *patterns: str) -> Rule:
    look = "the cause stands above this line"
    return Rule("cause_not_shown", FailureClass.UNKNOWN, patterns, look, source, Weight.END, chatty=True)


RULES: tuple[Rule, ...] = (
    # ---------------------------------------------------------------- curl
    Rule(
        "host_dns_broken",
        FailureClass.INFRA_FATAL,
        (r"Could not resolve host: \S*(?:huggingface|hf\.co|docker|github|pypi|ubuntu|debian|nvidia)",),
        "names do not resolve on this host; another host would do",
        "curl",
        channels=_CURL,
    ),
    Rule(
        "http_unauthorized",
        FailureClass.WORKLOAD_FATAL,
        (r"returned error: 40[13]|^HTTP/\S+ 40[13]|\"code\":\s*40[13]|Unauthorized|Invalid API Key",),
        "the server wants another key than the one that was sent",
        "curl",
        channels=_CURL,
    ),
    Rule(
        "model_name_not_served",
        FailureClass.WORKLOAD_FATAL,
        (r"model `?\S+`? does not exist|model '?\S+'? not found|ModelNotFound",),
        "ask for the model by the name it is served under",
        "vLLM",
        channels=_CURL,
    ),
    Rule(
        "http_path_unknown",
        FailureClass.WORKLOAD_FATAL,
        (r"returned error: 40[45]|^HTTP/\S+ 40[45]|\"detail\":\s*\"Not Found\"|curl: \((?:1|3)\) |curl: option",),
        "the server has no such path: check the address that is asked",
        "curl",
        channels=_CURL,
    ),
    _warm(
        "http_503_loading_model",
        "llama.cpp",
        r"Loading model|model is (?:loading|not ready)|warming up|starting up|\"status\":\s*\"loading",
        channels=_CURL,
    ),
    _warm(
        "http_503_health",
        "curl",
        r"returned error: 50[234]|^HTTP/\S+ 50[234]|\b50[234] (?:Bad Gateway|Service|Gateway)",
        channels=_CURL,
    ),
    _warm(
        "http_connection_refused",
        "curl",
        r"curl: \(7\)|Failed to connect|Connection refused|Couldn't connect",
        r"curl: \((?:28|52|56)\)|Empty reply|Connection reset|timed out",
        channels=_CURL,
    ),
    _warm("no_model_listed_yet", "OpenAI-compatible servers", r"\"(?:data|models)\":\s*\[\s*\]", channels=_CURL),
    _ready(
        "models_endpoint_ok",
        "OpenAI-compatible servers",
        r"\"data\":\s*\[\s*\{.*\"id\"|\"models\":\s*\[\s*\{|\"object\":\s*\"model\"",
        channels=_CURL,
    ),
    _ready("completion_ok", "OpenAI-compatible servers", r"\"choices\":\s*\[\s*\{|\"generated_text\"", channels=_CURL),
    _ready(
        "health_ok",
        "curl",
        r"^HTTP/\S+ 200|^StatusCode +: 200|^\{\"version\":|\"status\":\s*\"(?:ok|healthy|up)\"|^200$|Ollama is running",
        channels=_CURL,
    ),
    # --------------------------------------------------------- status texts
    _ready("container_running", "Vast.ai status text", r"(?:^|: )success, running", channels=STATUS),
    _warm(
        "image_pull_layers",
        "Docker engine",
        r"[0-9a-f]{12}: (?:Pulling|Waiting|Verifying|Download|Extract|Pull complete|Already exists|Retrying)",
        r"(?<!error )Pulling (?:from|image(?! failed)|fs layer)|Download complete|Verifying Checksum|Already exists|Pull complete",
        channels=CONTAINER,
    ),
    _warm("image_pull_layers", "Docker engine", r"Downloading|Extracting", channels=STATUS),
    _warm("container_starting", "containerd", r"level=(?:info|warning) msg=", channels=STATUS),
    _warm(
        "image_pulled_starting",
        "Docker engine",
        r"Status: (?:Downloaded newer image|Image is up to date)|^Digest: sha256|Successfully (?:built|loaded(?! ')|tagged|pulled)",
        r"Unable to find image '.*' locally",
        channels=CONTAINER,
    ),
    _warm(
        "container_starting",
        "Docker engine and apt",
        r"Container \S+ +(?:Creating|Created|Starting|Started)|^(?:loading|created|creating|starting|scheduling|rebooting|recycling)\b",
        r"^(?:Get|Hit|Ign):\d+ |^Setting up |^Unpacking |^Preparing to unpack|^Selecting previously|^Reading (?:package|state)|^Processing triggers",
        r"^Step \d+/\d+ |^#\d+ |^Building |^Fetched |^Need to get ",
        channels=STATUS,
    ),
    # -------------------------------------------------------- the start is complete
    Rule(
        "own_request_not_served_yet",
        FailureClass.WARMUP,
        (r"Application startup complete|Uvicorn running on",),
        "wait: the server listens and sends itself a first request",
        "SGLang",
        Weight.SIGN,
        servers=frozenset({"sglang"}),
        chatty=True,
    ),
    _ready("application_startup_complete", "Uvicorn", r"Application startup complete", r"Uvicorn running on"),
    _ready("server_fired_up", "SGLang", r"fired up and ready to roll|Decode batch[.,] #running-req"),
    _ready(
        "router_connected",
        "TGI",
        r"text_generation_router\S*: \S*: ?Connected\b|router.*\bConnected\"?[,}]?|\"message\":\"Connected\"|text_embeddings_router.*\bReady$",
    ),
    _ready(
        "server_listening",
        "llama.cpp and Ollama",
        r"(?<!HTTP )server is listening on|all slots are idle|msg=\"llama runner started|\"inference compute\".*\blibrary=\"?cpu",
    ),
    _ready(
        GPU_FOUND,
        "Ollama, which listens before it looks for GPUs",
        r"\"inference compute\".*\blibrary=\"?(?:cuda|rocm|metal|vulkan|oneapi)",
    ),
    _ready(
        "answers_requests",
        "Uvicorn, llama.cpp, Ollama",
        r"\"POST /v1/(?:chat/)?completions\S* HTTP/\S+ 200|log_server_r: request: POST /v1/\S+ \S+ 200",
        r"slot launch_slot_: id +\d+ \| task \d+|\[GIN\].*\| 200 \|.*POST +\"/(?:api/(?:chat|generate)|v1/)",
    ),
    _ready(
        "answers_requests",
        "vLLM",
        r"Avg prompt throughput: |(?:Added|Received) request \w*cmpl-",
        servers=frozenset({"vllm"}),
    ),
    _ready(
        "server_listening",
        "llama-box, ComfyUI, Gradio and TorchServe",
        r"start: server is ready|Model server started\.$|To see the GUI go to: |Running on local URL: ",
    ),
    _ready("server_listening", "Ray Serve", r"Deployed app .*successfully"),
    _ready(
        "server_listening",
        "KoboldCpp, LocalAI, Flask, Hypercorn, MAX",
        r"Please connect to custom endpoint at|LocalAI API is listening|^ ?\* Running on https?://",
        r"Running on https?://\S+ \(CTRL|Server ready on https?://",
    ),
    _ready("server_listening", "Triton", r"Started (?:HTTPService|GRPCInferenceService) at"),
    # --------------------------------------------------------- the start has ended
    Rule(
        STOPPED,
        FailureClass.UNKNOWN,
        (
            r"shutdown triggered|received signal=SIG(?:TERM|INT)|^INFO: +Shutting down$|Received (?:SIGTERM|SIGINT|interrupt)",
        ),
        "somebody stopped the server: it did not fail by itself",
        "vLLM and Uvicorn",
        Weight.END,
        chatty=True,
    ),
    _end(
        "vLLM",
        r"Engine (?:core initialization|process) failed|EngineCore (?:failed to start|hit an exception|encountered)|EngineDeadError",
        r"WorkerProc (?:failed to start|initialization failed)|AsyncLLM output_handler failed|Executor failed|died unexpectedly",
        r"engine core exited unexpectedly|Failed core proc|Failed to infer device type",
    ),
    _end(
        "TGI and SGLang",
        r"ShardCannotStart|Shard \d+ (?:failed|terminated|process was signaled|crashed)|Webserver Crashed|Shutting down shards|DownloadError",
        r"Error when initializing model|Sharded \w+ requires Flash Attention|WebServer Crashed|Scheduler hit an exception",
        r"Received sigquit from a child process|scheduler is dead|Initialization failed\. ",
    ),
    _end("TensorRT-LLM", r"Executor worker (?:returned error|died during initialization|initialization error)"),
    _end(
        "llama.cpp, Ollama and Triton",
        r"failed to load model|failed to create context|exiting due to|llama runner (?:process has )?terminated|error loading (?:llama )?(?:server|model)",
        r"error: creating server|unable to load model",
    ),
    _end(
        "shells and supervisors",
        r"exited with (?:code|status):? [1-9-]|returned non-zero exit status|exit status [1-9]|^Aborted",
    ),
    # ------------------------------------------------------ the start goes on
    _warm(
        GPU_IN_USE,
        "llama.cpp",
        r"ggml_cuda_init: found [1-9]",
        r"using device (?:CUDA|ROCm|Vulkan|Metal|SYCL)\w*|(?:CUDA|ROCm)\d+ (?:\w+ )?buffer size",
    ),
    _warm(
        "hub_retry",
        "huggingface_hub",
        r"Retrying in \d+|Retry attempt #|Status Code: \d+\. Retrying|thrown while requesting",
    ),
    _warm(
        "falls_back",
        "vLLM, SGLang, TensorFlow, Triton, pip, llama.cpp",
        r"Cannot use FA version|Error retrieving safetensors|Failed to import Triton kernels|Ignore import error when loading",
        r"Unable to register cu\w+ factory|computation placer already registered|failed call to cuInit",
        r"LD_PRELOAD cannot be preloaded|pip's dependency resolver does not|No valid triton configs|Ignoring this choice|failed, retrying with",
    ),
    _warm(OWN_STEP, "our own start script for Ollama", r"^vastgpu: ollama (?:pull|create|run) "),
    _warm("waiting_for_core_engine", "vLLM", r"Waiting for \d+ local, .*core engine proc"),
    _warm(
        "routes_printed_not_listening",
        "vLLM",
        r"Available routes are|Route: /|Starting vLLM (?:API )?server|HTTP server is listening",
    ),
    _warm("engine_ready_http_not_yet", "vLLM", r"init engine \("),
    _warm(
        "capturing_graphs",
        "vLLM and SGLang",
        r"Captur(?:ing|e) .*(?:graph|batches|num tokens)|Graph capturing finished|cuda graph (?:begin|end)",
    ),
    _warm(
        "compiling", "vLLM", r"torch\.compile|torch_compile_cache|Dynamo bytecode|Compiling a graph|Autotuning process"
    ),
    _warm(
        "loading_weights",
        "vLLM and SGLang",
        r"Loading \w+ checkpoint shards|Starting to load model|Loading (?:model )?weights|Model loading took|Load weight",
    ),
    _warm(
        "downloading",
        "huggingface_hub",
        r"^Fetching \d+ files|\.(?:safetensors|bin|gguf|json)\S*: +\d+%\||(?<!while )(?<!error )Downloading(?! resources)|^pulling [0-9a-f]{12}|^pulling manifest",
    ),
    _warm("listens_before_it_has_a_gpu", "Ollama", r"msg=\"Listening on |msg=\"(?:looking for|discovering) \w+ GPUs"),
    _warm(
        LOADS_MODEL,
        "Ollama",
        r"waiting for (?:server to become available|llama runner to start)|msg=\"starting (?:llama server|runner)|llm server loading model|msg=\"loading model\"|loading model tensors",
    ),
    _warm(
        "shards_starting",
        "TGI",
        r"Waiting for shard to be ready|Starting shard|Shard ready|Successfully downloaded weights|Warming up model",
    ),
    _warm("triton_models_loaded_not_serving", "Triton", r"successfully loaded '|loading: \S+:\d+"),
)
