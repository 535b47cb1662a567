"""Failures to download a model: messages of the Hugging Face libraries and of other programs that download."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import LOG
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_ANOTHER = "another host would do; nothing in the workload caused this"
_HUB = "huggingface_hub"
_GOES_ON = (
    r"thrown while requesting|retrying|Retry attempt|will retry|trying to resume|Error while downloading from"
    r"|Error retrieving safetensors"
)
"""The program tries again, or does not require the download."""
_PLACE = r"(?:huggingface\.co|\bhf\.co|hf-mirror\.com|cdn-lfs|xethub|modelscope|registry\.ollama\.ai|ollama\.ai|cloudflarestorage|github\.com|githubusercontent|pypi\.org|pythonhosted)"
_DOWN = (
    r"(?:ConnectTimeout|Connect(?:ion)?Error|ConnectionRefused|NewConnectionError|Max retries exceeded|ReadTimeout|Read timed out|timed out"
    r"|Connection (?:refused|reset|aborted)|i/o timeout|TLS handshake timeout|Network is unreachable|No route to host|RemoteDisconnected"
    r"|Could not (?:resolve host|establish connection)|Couldn't connect to server)"
)

_PASS_IT_ON = "env={'HF_TOKEN': os.environ['HF_TOKEN']}"  # noqa: S105 - it names one
_NO_ACCESS = f"the hub has no such model, or wants a token that may read it: check the name, and give {_PASS_IT_ON}"
_NO_MODEL = "the hub has no such model, or it is private: check its name, or give a token"
_NO_WAY = f"this host does not reach the model hub; {_ANOTHER}"
_LLAMA_CPP = "llama.cpp, common/hf-cache.cpp and common/download.cpp"

RULES: tuple[Rule, ...] = (
    Rule(
        "hub_proxy_refused",
        FailureClass.UNKNOWN,
        (r"ProxyError|407 Proxy Authentication Required|Cannot connect to proxy|Proxy Authentication Required",),
        "a proxy refuses the download: check HTTPS_PROXY in the workload's env and in the image",
        "requests and httpx",
        unless=_GOES_ON,
    ),
    Rule(
        "gated_repo",
        FailureClass.WORKLOAD_FATAL,
        (
            r"GatedRepoError|Cannot access gated repo|gated repo\b|awaiting a review|not in the authorized list",
            r"Access to model \S+ is restricted|must (?:be authenticated|have access) to (?:it|access)|is gated\b",
        ),
        f"accept the model's terms on the hub and give the token of that account: {_PASS_IT_ON}",
        _HUB,
    ),
    Rule(
        "hub_offline_mode_requested",
        FailureClass.WORKLOAD_FATAL,
        (
            r"outgoing traffic has been disabled",
            r"OfflineModeIsEnabled|offline mode is enabled|local_files_only=True|HF_HUB_OFFLINE=1",
            r"required file is not available in cache \(offline mode\)",
        ),
        "the request forbids downloads (HF_HUB_OFFLINE, --offline) and the image does not hold the model: change one of both",
        f"{_HUB}, {_LLAMA_CPP}",
        unless=r"LocalEntryNotFoundError: An error happened",
    ),
    Rule(
        "model_revision_not_found",
        FailureClass.WORKLOAD_FATAL,
        (r"RevisionNotFoundError|Revision Not Found|not a valid git identifier",),
        "the model has no such revision: check --revision",
        _HUB,
    ),
    Rule(
        "hub_token_invalid",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Invalid user token|Invalid token passed|token (?:is|seems) (?:invalid|expired|required)|Token is required|User Access Token .*expired",
            r"403 (?:Client Error|Forbidden).*" + _PLACE + r"|" + _PLACE + r".*403 Forbidden",
            r"Invalid credentials in Authorization header|enable access to public gated repositories|your token has the correct permissions",
            r"NGC_API_KEY|NGC.*(?:Authentication|API key)|NoCredentialsError|InvalidAccessKeyId|Access ?Denied",
        ),
        "the token is wrong, expired or may not read the model: check HF_TOKEN",
        _HUB,
        unless=r"[Pp]roxy|CAS service error",
    ),
    Rule(
        "hub_unauthorized",
        FailureClass.WORKLOAD_FATAL,
        (
            r"401 Client Error: Unauthorized|(?:status|response) code(?: received)?: 401|pull model manifest: 40[13]",
            r"model is private or does not exist",
        ),
        _NO_ACCESS,
        "huggingface_hub, llama.cpp's common/download.cpp, Ollama",
        unless=r"HTTP/1\.\d\" ",
    ),
    Rule(
        "model_file_not_on_hub",
        FailureClass.WORKLOAD_FATAL,
        (
            r"specified tag is not available in the repository|Repository is not GGUF|model does not have ggufFile",
            r"download failed: .*status: 404|no GGUF files found in repository|hf_plan: file '.*' not found in repository",
        ),
        "the repository has no file of this name or quantization: look at its list of files on the hub",
        f"{_LLAMA_CPP}, and the hub's answer to it and to Ollama",
        unless=_GOES_ON + r"|Could not|Couldn't",
    ),
    Rule(
        "hub_quota_used_up",
        FailureClass.WORKLOAD_FATAL,
        (r"over its data quota|exceeded its LFS budget",),
        "the owner of the repository has used up what the hub grants: take the model from elsewhere",
        "GitHub's Git LFS",
    ),
    Rule(
        "downloads_not_built_in",
        FailureClass.WORKLOAD_FATAL,
        (r"HTTPS is not supported\. Please rebuild|built without (?:lib)?curl, cannot download",),
        "this build of the server cannot download: bring the model's file with files=, or name another image",
        "llama.cpp, common/download.cpp",
    ),
    Rule(
        "disk_too_small",
        FailureClass.INCOMPATIBLE,
        (r"Not enough free disk space to download",),
        "more disk is needed: ask for it with disk_gb",
        _HUB,
        Weight.HINT,
        chatty=True,
    ),
    Rule(
        "model_repo_not_found",
        FailureClass.WORKLOAD_FATAL,
        (
            r"RepositoryNotFoundError|Repository Not Found for url|DisabledRepoError|Access to this resource is disabled|is not a valid model identifier",
            r"pull model manifest: (?:file does not exist|40[04])|^Error: invalid model name|model '?\S+'? not found",
            r"40[14] Client Error.*"
            + _PLACE
            + r"|client error \(40[134] .*"
            + _PLACE
            + r"|"
            + _PLACE
            + r".*\b404\b|NotExistError|status code received: 404|response code: 404",
            r"(?:fatal: )?repository '.*' not found|401 Client Error",
        ),
        _NO_MODEL,
        _HUB,
        unless=r"HTTP/1\.\d\" |EntryNotFound|Entry Not Found|CAS service error",
    ),
    # llama.cpp says so and goes on where it has an older copy
    Rule(
        "hub_unauthorized",
        FailureClass.WORKLOAD_FATAL,
        (r"get_repo_\w+: error: GET failed \(401\)",),
        _NO_ACCESS,
        _LLAMA_CPP,
        Weight.HINT,
    ),
    Rule(
        "model_repo_not_found",
        FailureClass.WORKLOAD_FATAL,
        (
            r"get_repo_\w+: error: GET failed \(40[34]\)|^Download '.*' failed with status code: 40[134]",
            r"received non-successful status code: 40[134]|download failed: .*status: 40[13]",
        ),
        _NO_MODEL,
        _LLAMA_CPP,
        Weight.HINT,
    ),
    Rule(
        "host_network_to_hub_down",
        FailureClass.INFRA_FATAL,
        (r"get_repo_\w+: error: HTTPLIB failed",),
        _NO_WAY,
        _LLAMA_CPP,
        Weight.HINT,
    ),
    Rule(
        "model_path_invalid",
        FailureClass.WORKLOAD_FATAL,
        (
            r"HFValidationError|Repo id must (?:be|use)|Incorrect path_or_model_id|Can't load the configuration of",
            r"Invalid repository ID or local directory specified",
            r"(?:model|path|directory)\b.*\bdoes ?n[o']t exist|no such (?:model|checkpoint)",
            r"failed to open (?:GGUF|model)|gguf_init_from_file: failed(?! to read magic)|looks like (?:'|\")?(?:/|\./)\S* is not the path",
        ),
        "there is no model at this path in the container: check it",
        _HUB,
        unless=_GOES_ON
        + r"|chat[_ ]template|weight \S+ does not exist|repository does not exist|index\.json|cache dir|creating|Created|Route",
    ),
    Rule(
        "model_file_missing",
        FailureClass.WORKLOAD_FATAL,
        (
            r"(?<!Local)EntryNotFoundError|^(?:\d+ )?Entry Not Found for url",
            r"does not appear to have (?:a|any) files? named|no file named",
            r"Cannot find any model weights|No (?:model )?weights? (?:files? )?(?:were )?found|WeightsNotFound|no \S*safetensors\S* (?:files? )?found",
        ),
        "the model's repository lacks a file that the server needs: check the model and its format",
        "transformers",
    ),
    Rule(
        "host_network_to_hub_down",
        FailureClass.INFRA_FATAL,
        (
            _PLACE + r".*" + _DOWN,
            _DOWN + r".*" + _PLACE,
            r"couldn't connect to '?https?://(?:huggingface\.co|hf\.co)",
            r"download failed: .*status: -1\b|cannot make GET request to",
            r"LocalEntryNotFoundError: An error happened while trying to locate|cannot find the (?:requested files|appropriate snapshot).*check your (?:internet )?connection",
        ),
        _NO_WAY,
        _HUB,
        unless=_GOES_ON
        + r"|Failed to read connection|looks like (?:'|\")?(?:/|\./)|[Pp]roxy|CERTIFICATE|\b(?:429|50\d)\b",
    ),
    Rule(
        "hub_rate_limit_of_host",
        FailureClass.INFRA_FATAL,
        (r"rate limit your IP",),
        "the limit is the host's address's: another host would do; a token lifts it",
        _HUB,
        unless=_GOES_ON,
    ),
    Rule(
        "hub_rate_limit",
        FailureClass.UNKNOWN,
        (
            r"429 (?:Client Error|Too Many Requests)|rate limit|(?:status|status code|response code|manifest): 429",
            r"GET failed \(429\)",
        ),
        f"the hub limits requests: wait as long as it says, or give a token, which has a higher limit: {_PASS_IT_ON}",
        _HUB,
        Weight.HINT,
        unless=_GOES_ON + r"|higher rate limits|enable",
    ),
    Rule(
        "hub_outage",
        FailureClass.UNKNOWN,
        (
            r"50[0234] (?:Server Error|Internal Server Error|Bad Gateway|Service Unavailable).*" + _PLACE,
            r"error from HF API.*response code: 5\d\d|pull model manifest: 5\d\d|download failed: .*status: 5\d\d",
            r"GET failed \(5\d\d\)|^Download '.*' failed with status code: 5\d\d",
        ),
        "the model hub itself fails: look at its status page, and run again later",
        _HUB,
        Weight.HINT,
        unless=_GOES_ON,
    ),
    Rule(
        "hub_download_broken",
        FailureClass.UNKNOWN,
        (
            r"CAS service error|Data processing error|hf_transfer|IncompleteRead|IncompleteBody|ChunkedEncodingError",
            r"Consistency check failed|digest mismatch|max retries exceeded|failed to download model from",
            r"^Download '.*' failed with status code: -1|download failed after \d+ attempts|pull_file: download failed: ",
        ),
        "the download broke: the host's line or the hub; another host would do",
        _HUB,
        Weight.HINT,
        unless=_GOES_ON + r"|not available in your environment",
    ),
    Rule(
        "model_file_is_a_pointer",
        FailureClass.WORKLOAD_FATAL,
        (r"invalid load key, 'v'|git-lfs\.github\.com/spec",),
        "the weights are pointers of Git LFS, not files: fetch them with git lfs pull where the model comes from",
        "PyTorch",
    ),
    Rule(
        "model_file_truncated",
        FailureClass.UNKNOWN,
        (
            r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer|incomplete metadata, file not fully covered",
            r"invalid load key|PytorchStreamReader failed|not within the file bounds|corrupted or incomplete|unexpectedly reached end of file",
        ),
        "the weights are not whole: a broken download here, or a broken file at its source",
        "safetensors",
    ),
    Rule(
        "package_not_found",
        FailureClass.WORKLOAD_FATAL,
        (
            r"No matching distribution found|Could not find a version that satisfies|E: Unable to locate package|ResolutionImpossible",
        ),
        "a package that the start installs does not exist: check its name and version",
        "pip and apt",
        Weight.HINT,
        LOG,
    ),
)
