"""Faults of a request that Docker and runc refuse: its options, its image's kind and content. No host is at fault."""

from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import CONTAINER
from pytest_vastgpu.diagnosis.rules.base import ON_LOCAL_MARKET
from pytest_vastgpu.diagnosis.rules.base import STATUS
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.model import FailureClass

_DOCKER = "Docker engine"
_RUNC = "runc"

RULES: tuple[Rule, ...] = (
    Rule(
        "bad_container_option",
        FailureClass.WORKLOAD_FATAL,
        (
            r"docker: (?:unknown (?:shorthand )?flag|invalid argument|flag needs an argument|'[\w ]+' requires)",
            r"invalid argument .* for \"-",
            r"unknown (?:shorthand )?flag: |invalid (?:publish|port|volume|mount|env|environment|memory|hostname)\b",
            r"invalid (?:containerPort|hostPort|mode|containerport|proto)|Invalid (?:port|range|containerPort)",
            r"Are you trying to mount a directory onto a file",
            r"conflicting options|Minimum memory(?:swap)? limit|invalid (?:cpu|ulimit|restart)|argument list too long",
            r"cannot set both Count and DeviceIDs",
            r"Duplicate mount point|invalid \w+ mode: |invalid Cap(?:Add|Drop)|daemon: network \S+ not found",
            r"is not in a separate kernel namespace|cannot be mounted because it is (?:located )?inside",
            r"unsupported capabilities found in '|cannot set MIG_\w+ in non privileged|error: invalid expression",
        ),
        "an option of the request is wrong: environment, ports or arguments",
        _DOCKER,
        channels=STATUS,
    ),
    Rule(
        "bad_container_option",
        FailureClass.WORKLOAD_FATAL,
        (r"^docker: (?!Error response|Cannot connect|error during connect).*[^:]$",),
        "docker's own command line refuses the request, before any host is asked: read the line",
        _DOCKER,
        channels=STATUS,
        unless=r"time ?out|deadline|\bEOF\b|connection|denied|unauthorized|not found|manifest|toomanyrequests|no such",
    ),
    Rule(
        "image_user_missing",
        FailureClass.WORKLOAD_FATAL,
        (r"unable to find (?:user|group) .*(?:no matching entries|invalid)",),
        "the image has no such user: do not set one, or fix the image",
        _RUNC,
        channels=CONTAINER,
    ),
    Rule(
        "cpu_architecture_mismatch",
        FailureClass.INCOMPATIBLE,
        (
            r"no matching manifest for|no match for platform in manifest",
            r"exec format error",
            r"does not (?:provide|match) the specified platform|image operating system",
        ),
        "the image is for another CPU architecture: a host of its kind would do",
        _DOCKER,
        channels=CONTAINER,
    ),
    Rule(
        "host_cpus_too_few",
        FailureClass.INCOMPATIBLE,
        (r"range of CPUs is from .* as there are only|Requested (?:CPUs|memory nodes) are not available",),
        "the request asks for more CPU cores than the host has: a bigger one would do",
        _DOCKER,
        channels=STATUS,
    ),
    Rule(
        "docker_too_old_for_image",
        FailureClass.INCOMPATIBLE,
        (r"mediaType in manifest should be .*docker.* not .*\boci\b",),
        "the host's Docker is older than the image's format: a host with a newer one would do",
        _DOCKER,
        channels=CONTAINER,
    ),
    Rule(
        "entrypoint_missing_in_image",
        FailureClass.WORKLOAD_FATAL,
        (r"exec: (?:line \d+: )?llama-server: not found",),
        "the image has no llama-server: take one that has; on the local market this machine needs it: "
        "pip install 'pytest-vastgpu[quickstart]'",
        "shells",
    ),
    Rule(
        "entrypoint_missing_in_image",
        FailureClass.WORKLOAD_FATAL,
        (
            r"executable file not found in \$?PATH",
            r"exec:? \\?\"?[^\":]*\"?: (?:stat .*: )?(?:no such file or directory|permission denied|is a directory)",
            r"exec: \\?\"[^\"]*\": stat ",
            r": exec: \S+: (?:invalid option|(?:command )?not found|cannot execute)",
            r"\.sh: line \d+: /\S+: Permission denied",
            r"stat \S+: no such file or directory: unknown",
            r"chdir to cwd .* (?:no such file|permission denied|not a directory)|no command specified",
        ),
        f"the image has no such program: check image, entrypoint and command; {ON_LOCAL_MARKET}",
        _RUNC,
        channels=CONTAINER,
    ),
    Rule(
        "image_format_unsupported",
        FailureClass.WORKLOAD_FATAL,
        (
            r"max depth exceeded",
            r"unsupported (?:manifest )?media type|media ?type.*(?:unsupported|no longer supported)",
            r"schema (?:version )?1\b|layers from manifest don't match|manifest unverified|manifest failed .*verif",
        ),
        "the image's format is not understood: build it again with a current tool",
        _DOCKER,
        channels=CONTAINER,
    ),
    Rule(
        "host_ram_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"OOMKilled|container.*(?:killed|exited).*(?:out of memory|oom)",
            r"memory requirement .*exceeds (?:the )?(?:total|available)",
        ),
        "a host with more memory would do; a smaller model or less offloading needs less",
        _DOCKER,
        channels=CONTAINER,
    ),
)
