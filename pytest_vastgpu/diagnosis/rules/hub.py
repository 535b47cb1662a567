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
    r"|Connection (?:refused|reset|aborted)|i/o timeout|TLS handshake timeout|Network is unreachable|No route to host|RemoteDisconnected)"
)

RULES: tuple[Rule, ...] = (
    Rule(
        "gated_repo",
        FailureClass.WORKLOAD_FATAL,
        (
            r"GatedRepoError|Cannot access gated repo|gated repo\b|awaiting a review|not in the authorized list",
            r"Access to model \S+ is restricted|must (?:be authenticated|have access) to (?:it|access)|is gated\b",
        ),
        "accept the model's terms on the hub and give a token that may read it: env={'HF_TOKEN': …}",
        _HUB,
    ),
    Rule(
        "hub_offline_mode_requested",
        FailureClass.WORKLOAD_FATAL,
        (
            r"outgoing traffic has been disabled",
            r"OfflineModeIsEnabled|offline mode is enabled|local_files_only=True|HF_HUB_OFFLINE=1",
        ),
        "the request forbids downloads (HF_HUB_OFFLINE) and the image does not hold the model: change one of both",
        _HUB,
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
            r"NGC_API_KEY|NGC.*(?:Authentication|API key)|NoCredentialsError|InvalidAccessKeyId|Access ?Denied",
        ),
        "the token is wrong, expired or may not read the model: check HF_TOKEN",
        _HUB,
        unless=r"[Pp]roxy",
    ),
    Rule(
        "model_repo_not_found",
        FailureClass.WORKLOAD_FATAL,
        (
            r"RepositoryNotFoundError|Repository Not Found for url|DisabledRepoError|Access to this resource is disabled|is not a valid model identifier",
            r"pull model manifest: (?:file does not exist|40[134])|model '?\S+'? not found",
            r"40[14] Client Error.*"
            + _PLACE
            + r"|client error \(40[134] .*"
            + _PLACE
            + r"|"
            + _PLACE
            + r".*\b404\b|NotExistError|status code received: 40[14]",
            r"(?:fatal: )?repository '.*' not found|401 Client Error",
        ),
        "the hub has no such model, or it is private: check its name, or give a token",
        _HUB,
        unless=r"HTTP/1\.\d\" |EntryNotFound|Entry Not Found",
    ),
    Rule(
        "model_path_invalid",
        FailureClass.WORKLOAD_FATAL,
        (
            r"HFValidationError|Repo id must (?:be|use)|Incorrect path_or_model_id|Can't load the configuration of",
            r"Invalid repository ID or local directory specified",
            r"(?:model|path|directory)\b.*\bdoes ?n[o']t exist|no such (?:model|checkpoint)",
            r"failed to open (?:GGUF|model)|gguf_init_from_file: failed|looks like (?:'|\")?(?:/|\./)\S* is not the path",
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
            r"LocalEntryNotFoundError: An error happened while trying to locate|cannot find the (?:requested files|appropriate snapshot).*check your (?:internet )?connection",
        ),
        "this host does not reach the model hub; " + _ANOTHER,
        _HUB,
        unless=_GOES_ON + r"|looks like (?:'|\")?(?:/|\./)|[Pp]roxy|CERTIFICATE|\b(?:429|50\d)\b",
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
        (r"429 (?:Client Error|Too Many Requests)|rate limit",),
        "the hub limits requests: give a token, or try again later",
        _HUB,
        Weight.HINT,
        unless=_GOES_ON + r"|higher rate limits|enable",
    ),
    Rule(
        "hub_download_broken",
        FailureClass.UNKNOWN,
        (
            r"CAS service error|Data processing error|hf_transfer|IncompleteRead|IncompleteBody|ChunkedEncodingError",
            r"Consistency check failed|digest mismatch|max retries exceeded|50[0234] Server Error.*" + _PLACE,
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
