"""Downloads that fail: each cause has its own reason and remedy, whichever server reports it."""

from __future__ import annotations

import pytest

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import Verdict
from tests.diagnosis.samples import messages

HUB = "https://huggingface.co"
PASS_IT_ON = "env={'HF_TOKEN': os.environ['HF_TOKEN']}"


def of(text: str, server: str = "") -> Verdict:
    return classify(text, channel=Channel.SERVER_LOG, server=server)


CASES = {
    "gated_repo": (
        "Cannot access gated repo for url",
        "and you are not in the authorized list",
    ),
    "hub_unauthorized": (
        "401 Client Error: Unauthorized",
        "model is private or does not exist; if you are accessing a gated model",
        "response code: 401",
        "GET failed (401)",
        "pull model manifest: 401",
    ),
    "hub_token_invalid": ("enable access to public gated repositories in your fine-grained token",),
    "hub_rate_limit": (
        "429 Too Many Requests: you have reached your 'api' rate limit.",
        "429 Too Many Requests for url",
        "pull model manifest: 429",
        "GET failed (429)",
    ),
    "hub_outage": (
        "500 Server Error: Internal Server Error for url: https://huggingface.co",
        "502 Server Error: Bad Gateway for url: https://cas-bridge.xethub.hf.co",
        "pull model manifest: 503",
        "failed with status code: 503",
    ),
    "host_network_to_hub_down": (
        "see how to run the library in offline mode at 'https",
        "cannot make GET request to https://huggingface.co",
        "failed to get manifest at https://huggingface.co/v2/ggml-org/x/manifests/latest: Couldn't connect to server",
    ),
    "host_dns_broken": ("httpx.ConnectError: [Errno -3] Temporary failure in name resolution",),
    "hub_proxy_refused": ("httpx.ProxyError: 407",),
    "hub_offline_mode_requested": ("outgoing traffic has been disabled", "(offline mode)"),
    "model_repo_not_found": (
        "Repository Not Found for url: https://huggingface.co/api/models/acme/none",
        'response code: 404, data: {"error":"Repository not found"}',
        "pull model manifest: file does not exist",
        "GET failed (404)",
        "modelscope.hub.errors.NotExistError",
    ),
    "model_revision_not_found": ("v9 is not a valid git identifier",),
    "model_file_missing": ("Entry Not Found for url: https://huggingface.co/acme/x",),
    "model_file_not_on_hub": (
        "(https://huggingface.co/v2/a/b/manifests/Q9_K), response code: 400",
        "Repository is not GGUF or is not compatible with llama.cpp",
        "no GGUF files found in repository",
        "file 'm.gguf' not found in repository",
    ),
    "downloads_not_built_in": ("HTTPS is not supported. Please rebuild",),
    "hub_quota_used_up": ("over its data quota", "exceeded its LFS budget"),
    "hub_download_broken": (
        "CAS service error : ReqwestMiddleware Error: Request failed after 5 retries",
        "HTTP status client error (403 Forbidden), domain: https://transfer.xethub.hf.co",
        "digest mismatch, file must be downloaded again",
    ),
    "disk_too_small": (
        "max retries exceeded: write /root/.ollama/models/blobs/sha256-x-partial: no space left on device",
        "Background writer channel closed\nOSError: [Errno 28] No space left on device",
    ),
}


@pytest.mark.parametrize(("reason", "words"), [(reason, words) for reason, all_ in CASES.items() for words in all_])
def test_each_cause_has_its_own_reason(reason: str, words: str) -> None:
    """The texts are the labelled ones."""
    found = [message for message in messages() if words in message.text]
    assert found
    assert {of(message.text, message.server).reason for message in found} == {reason}


def test_remedies_tell_causes_apart() -> None:
    remedies = {of(next(m.text for m in messages() if all_[0] in m.text)).remedy for all_ in CASES.values()}
    assert len(remedies) == len(CASES)
    assert all(remedies)


@pytest.mark.parametrize("reason", ["gated_repo", "hub_unauthorized", "hub_rate_limit"])
def test_where_a_token_helps_the_remedy_says_how_to_pass_it_on(reason: str) -> None:
    assert PASS_IT_ON in of(next(m.text for m in messages() if CASES[reason][0] in m.text)).remedy


def test_a_disk_that_is_too_small_is_told_by_the_warning_before_the_end() -> None:
    """The warning of huggingface_hub, file_download.py; downloads that fit all the same go on."""
    warning = (
        "UserWarning: Not enough free disk space to download the file. The expected file size is: 4976.70 MB. The "
        "target location /root/.cache/huggingface/hub/models--x/blobs only has 1203.11 MB free disk space.\n"
    )
    assert of(warning).failure_class.value == "warmup"
    ended = of(warning + "RuntimeError: Engine core initialization failed. See root cause above.")
    assert ended.reason == "disk_too_small"


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: Rate limited. Waiting 212s before retry [Retry 1/5].",
        f"'HTTP Error 429' thrown while requesting GET {HUB}/api/models/acme/foo\nRetrying in 1s [Retry 1/5].",
        "Warning: You are sending unauthenticated requests to the HF Hub. Please set a HF_TOKEN to enable higher rate "
        "limits and faster downloads.",
        "common_download_file_single_online: HEAD failed, status: 404\nno remote preset found, skipping",
    ],
)
def test_what_goes_on_is_no_failure(line: str) -> None:
    assert of(line).failure_class.value == "warmup"
