"""Failures between a host and the registry from which it pulls the image."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.core.image_login import REMEDY
from pytest_vastgpu.diagnosis.rules.base import CONTAINER
from pytest_vastgpu.diagnosis.rules.base import STATUS
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.model import FailureClass

_ANOTHER = "another host would do; nothing in the workload caused this"
_DOCKER = "Docker engine"
_CONTAINERD = "containerd"
PUBLIC = r"(?:docker\.(?:io|com)|ghcr\.io|githubusercontent|nvcr\.io|ngc\.nvidia|quay\.io|gcr\.io|pkg\.dev|mcr\.microsoft|public\.ecr|amazonaws|cloudfront|cloudflare|r2\.)"
"""Registries that are reachable worldwide: a host that cannot reach them is at fault."""
_PULL = r"(?:registry|pull|manifest|blobs?|layer|image|/v2/|fetch|failed to (?:copy|do request|resolve|authorize))"
_LINE_DOWN = (
    r"(?:i/o timeout|TLS handshake timeout|connection (?:reset by peer|timed out|refused)|network is unreachable|no route to host"
    r"|server misbehaving|temporary failure in name resolution|no such host|Client\.Timeout|request canceled"
    r"|context deadline exceeded|http2: (?:client connection lost|server sent GOAWAY|timeout)|bad record MAC|broken pipe"
    r"|stream error|certificate has expired or is not yet valid|\bEOF\b|lookup .* on .*:53)"
)

RULES: tuple[Rule, ...] = (
    Rule(
        "registry_rate_limit_of_host",
        FailureClass.INFRA_FATAL,
        (r"toomanyrequests", r"pull rate limit", r"429 Too Many Requests"),
        "the limit is the host's address's: another host would do; registry credentials lift it",
        "Docker Hub",
        channels=STATUS,
    ),
    Rule(
        "registry_rate_limit_of_host",
        FailureClass.INFRA_FATAL,
        (r"toomanyrequests: ", r"reached your (?:unauthenticated )?pull rate limit"),
        "the limit is the host's address's: another host would do; registry credentials lift it",
        "Docker Hub",
        channels=CONTAINER,
    ),
    Rule(
        "registry_not_usable",
        FailureClass.WORKLOAD_FATAL,
        (r"dial tcp (?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.)\d",),
        "the registry in the image's name has an address that only its own network reaches",
        _DOCKER,
        channels=STATUS,
    ),
    Rule(
        "registry_unreachable_from_host",
        FailureClass.INFRA_FATAL,
        (
            PUBLIC + r".*" + _LINE_DOWN,
            _LINE_DOWN + r".*" + PUBLIC,
            PUBLIC + r".*x509: ",
            _PULL + r".*(?:i/o timeout|TLS handshake timeout|connection (?:reset by peer|timed out)|server misbehaving"
            r"|temporary failure in name resolution|network is unreachable|no route to host|Client\.Timeout"
            r"|http2: client connection lost|lookup .* on .*:53.*timeout)",
            r"net/http: (?:TLS handshake timeout|request canceled|timeout awaiting)",
        ),
        _ANOTHER,
        _DOCKER,
        channels=STATUS,
        unless=r"unexpected EOF|https?://(?:localhost|127\.)",
    ),
    Rule(
        "registry_unreachable_from_host",
        FailureClass.INFRA_FATAL,
        (r"(?:docker|containerd|daemon|pulling).*" + PUBLIC + r".*" + _LINE_DOWN,),
        _ANOTHER,
        _DOCKER,
        channels=CONTAINER,
        unless=r"unexpected EOF|unknown authority",
    ),
    Rule(
        "registry_not_usable",
        FailureClass.WORKLOAD_FATAL,
        (
            r"server gave HTTP response to HTTPS client|certificate signed by unknown authority|x509: ",
            r"https?://\S+/v2/.*no such host|dial tcp: lookup \S+: no such host",
            r"https?://(?:localhost|127\.)\S*.*connection refused",
        ),
        "the registry in the image's name cannot be reached as it is written: check it",
        _DOCKER,
        channels=STATUS,
    ),
    Rule(
        "truncated_image_pull",
        FailureClass.INFRA_FATAL,
        (
            r"httpReadSeeker|unexpected EOF|short read: expected|filesystem layer verification failed",
            r"failed commit on ref|unexpected commit digest|invalid (?:checksum|digest for)|content digest .*: not found",
            r"(?:gzip|zlib|flate|tar).*(?:invalid (?:header|checksum)|corrupt|unexpected EOF)",
        ),
        _ANOTHER,
        _CONTAINERD,
        channels=STATUS,
        unless=r"unexpected status|\b40[134]\b|\b50[0-9]\b|forbidden|unauthorized",
    ),
    Rule(
        "image_name_empty",
        FailureClass.WORKLOAD_FATAL,
        (r"Template not found", r"/r/null/|'null(?::\w+)?'"),
        "the request names no image: set one, or repair the account's template",
        "Vast.ai status text",
        channels=STATUS,
    ),
    Rule(
        "image_name_malformed",
        FailureClass.WORKLOAD_FATAL,
        (
            r"invalid reference format|must be lowercase|repository name must|is not a valid repository",
            r"invalid (?:repository|image|tag) (?:name|reference|format)|invalid tag|could(?: not|n't) parse (?:image )?reference",
            r"Unable to find image '[^'/]*_[^'/]*/ssh' locally",
        ),
        "write the image as registry/name:tag, in lower case",
        _DOCKER,
        channels=CONTAINER,
    ),
    Rule(
        "image_tag_not_found",
        FailureClass.WORKLOAD_FATAL,
        (
            r"manifest unknown|MANIFEST_UNKNOWN|manifest for .* not found|manifest .*: not found|manifest tagged by .* is not found",
            r"failed to resolve (?:reference|source metadata).*not found",
            r"(?:Error response from daemon|docker): .*\S+/\S+:\S+: not found|tag .* (?:not found|does not exist)",
            r"unknown blob|blob unknown to registry",
            r"no such image|No such manifest|unexpected status.*/manifests/.*404|404 Not Found",
        ),
        "the registry has no such tag: check the image's name and tag",
        _DOCKER,
        channels=CONTAINER,
        unless=r"HTTP/1|\"(?:GET|POST|HEAD) |platform|huggingface|Route",
    ),
    Rule(
        "image_pull_denied",
        FailureClass.WORKLOAD_FATAL,
        (
            r"pull access denied|repository does not exist|requested access to the resource is denied",
            r"insufficient_scope|repository name not known|name unknown|NAME_UNKNOWN|repository .* not found",
        ),
        f"the image does not exist, or is private: check its name, or {REMEDY}",
        _DOCKER,
        channels=CONTAINER,
        unless=r"huggingface",
    ),
    Rule(
        "registry_auth_required",
        FailureClass.WORKLOAD_FATAL,
        (
            r"unauthorized|authentication required|no basic auth credentials|incorrect username or password",
            r"denied: |\bdenied\b$|402 Payment Required|\(Payment Required\)|403 Forbidden|401 Unauthorized|failed to authorize|access forbidden",
        ),
        f"the registry wants other credentials, or some: make the image public, or {REMEDY}",
        _DOCKER,
        channels=STATUS,
        unless=r"OCI runtime|\bexec\b|nvidia-container|load program|\bcrun\b",
    ),
    Rule(
        "registry_error",
        FailureClass.UNKNOWN,
        (
            r"received unexpected HTTP status: 5|unexpected status.*\b5\d\d\b|(?:500|502|503|504) (?:Internal|Bad|Service|Gateway)",
        ),
        "the registry itself has trouble: try again later",
        _DOCKER,
        channels=STATUS,
    ),
)
