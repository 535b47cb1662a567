"""Faults of the machine around the GPU, as programs in the container report them: memory, disk, ports, names, processes."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import CONTAINER
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import FailureClass

_ANOTHER = "another host would do; nothing in the workload caused this"
_MORE_RAM = "a host with more memory would do; a smaller model or less offloading needs less"
_LIBC = "errno of the C library"
_KERNEL = "Linux kernel"

RULES: tuple[Rule, ...] = (
    Rule(
        "host_ram_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"model requires more system memory|more system memory .* than is available",
            r"(?:Memory cgroup )?out of memory: Kill|oom-kill|oom_reaper|invoked oom-killer|OOM ?Killed|killed by the OOM",
            r"can't allocate memory|Cannot allocate memory|\[Errno 12\]|std::bad_alloc|^MemoryError|ArrayMemoryError",
            r"(?:unable|failed) to allocate (?:CPU|host|pinned)\S* buffer|buffer_type_alloc_buffer: failed to allocate buffer",
            r"not enough (?:host|system|CPU|physical) memory|insufficient system memory|ray\.exceptions\.OutOfMemoryError",
            r"memory allocation of \d+ bytes failed|(?<!Possibly )too large swap space",
        ),
        _MORE_RAM,
        _KERNEL,
        unless=r"CUDA|\bGPU\b|\bmlock\b",
    ),
    Rule(
        "disk_too_small",
        FailureClass.INCOMPATIBLE,
        (
            r"No space left on device|\bENOSPC\b|Disk quota exceeded|\[Errno (?:28|122)\]|Not enough (?:free )?disk space|not enough disk",
        ),
        "more disk is needed: ask for it with disk_gb",
        _LIBC,
        unless=r"dev/shm",
    ),
    Rule(
        "disk_io_error",
        FailureClass.INFRA_FATAL,
        (
            r"\[Errno (?:5|107|116|121)\]|Input/output error|Stale (?:NFS )?file handle|blk_update_request: (?:critical|I/O)|Buffer I/O error|EXT4-fs error|XFS .*(?:corruption|I/O error)",
        ),
        _ANOTHER,
        _KERNEL,
    ),
    Rule(
        "address_in_use",
        FailureClass.WORKLOAD_FATAL,
        (r"error while attempting to bind on address .*address already in use",),
        "two programs of the workload want the same port: change one",
        "Uvicorn, which calls the start complete before it binds",
        of_start=True,
    ),
    Rule(
        "bind_address_not_local",
        FailureClass.WORKLOAD_FATAL,
        (r"error while attempting to bind on address .*(?:cannot assign requested address|Name or service not known)",),
        "the address to listen on is none of the container's: use 127.0.0.1",
        "Uvicorn, which calls the start complete before it binds",
        of_start=True,
    ),
    Rule(
        "address_in_use",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Address already in use|\bEADDRINUSE\b|\[Errno 98\]|only one usage of each socket address",
            r"Socket '\S+' already in use|\bAddrInUse\b",  # Triton, Rust
            r"(?:port\w*|address)(?: at)? \S* ?is (?:already )?(?:in use|being used|occupied|not available)|couldn't bind (?:HTTP )?server socket",
        ),
        "two programs of the workload want the same port: change one",
        _LIBC,
    ),
    Rule(
        "address_in_use",
        FailureClass.WORKLOAD_FATAL,
        (r"failed to start (?:HTTP|GRPC|Metrics) service",),
        "the server cannot listen on its port: two programs of the workload may want the same one",
        "Triton",
        Weight.HINT,
    ),
    Rule(
        "bind_address_not_local",
        FailureClass.WORKLOAD_FATAL,
        (r"\[Errno 99\]|Cannot assign requested address|\bEADDRNOTAVAIL\b",),
        "the address to listen on is none of the container's: use 127.0.0.1",
        _LIBC,
        unless=r"connect",
    ),
    Rule(
        "host_dns_broken",
        FailureClass.INFRA_FATAL,
        (
            r"Temporary failure resolving",
            r"(?:Could not|couldn't|failed to) resolve (?:host|hostname|'|\")?:?.*(?:huggingface|hf\.co|github|pypi|astral\.sh|docker|nvidia|ubuntu|debian|ollama|googleapis|amazonaws)",
            r"(?:NameResolutionError|Name or service not known|gaierror|No address associated|Temporary failure).*(?:huggingface|hf\.co|github|pypi|ollama|modelscope)",
            r"(?:huggingface|hf\.co|github|pypi|ollama|modelscope).*(?:NameResolutionError|Name or service not known|No address associated|Temporary failure)",
            r"lookup \S+ (?:on \S+:53)?.*(?:server misbehaving|i/o timeout)|lookup (?:registry\.ollama\.ai|huggingface\.co|\S+\.cloudflarestorage\.com)\b.*no such host",
        ),
        "names do not resolve on this host; " + _ANOTHER,
        _LIBC,
        unless=r"thrown while requesting|retrying|Retry attempt|Error while downloading from",
    ),
    Rule(
        "host_dns_broken",
        FailureClass.INFRA_FATAL,
        (r"Temporary failure in name resolution|\[Errno -3\]|\bEAI_AGAIN\b",),
        "names do not resolve on this host; " + _ANOTHER,
        _LIBC,
        Weight.HINT,  # it may be telemetry, which a server does not require
        unless=r"thrown while requesting|retrying|Retry attempt|\bstats\b|telemetry|usage",
    ),
    Rule(
        "package_index_unreachable",
        FailureClass.INFRA_FATAL,
        (
            r"error sending request for url \(https://(?:pypi\.org|files\.pythonhosted\.org|download\.pytorch\.org|github\.com/astral-sh)/",
            r"Retry\(total=0\b.*(?:Connection refused|Network is unreachable|No route to host|timed out).*: /simple/",
        ),
        "this host does not reach the package index; " + _ANOTHER,
        "uv (reqwest), and pip's urllib3, whose last try this is",
    ),
    Rule(
        "host_dns_broken",
        FailureClass.INFRA_FATAL,
        (r"Retry\(total=0\b.*(?:Temporary failure in name resolution|\[Errno -[23]\])",),
        "names do not resolve on this host; " + _ANOTHER,
        "urllib3, whose last try this is",
        Weight.HINT,
    ),
    Rule(
        "open_files_limit",
        FailureClass.INCOMPATIBLE,
        (r"Too many open files|\bEMFILE\b|\[Errno 24\]",),
        "the container may open too few files: a host with another limit would do; ulimit -n in the image raises it",
        _LIBC,
        unless=r"errors like",
    ),
    Rule(
        "process_limit",
        FailureClass.INCOMPATIBLE,
        (
            r"can't start new thread|Resource temporarily unavailable|pthread_create failed|Thread creation failed|fork: retry",
        ),
        "the container may start too few processes: another kind of host would do",
        _LIBC,
    ),
    Rule(
        "cpu_lacks_instructions",
        FailureClass.INCOMPATIBLE,
        (r"Illegal instruction|\bSIGILL\b|CPU (?:does not|doesn't) support|requires? (?:a CPU with )?AVX|signal 4\b",),
        "a host with a newer CPU would do",
        _KERNEL,
        channels=CONTAINER,
    ),
    Rule(
        "too_few_numa_nodes",
        FailureClass.INCOMPATIBLE,
        (r"Not enough allowed NUMA nodes",),
        "a machine with more NUMA nodes would do; fewer workers need fewer",
        "vLLM",
    ),
    Rule(
        "cpu_architecture_mismatch",
        FailureClass.INCOMPATIBLE,
        (r"exec format error|wrong ELF class|invalid ELF header",),
        "the program is for another CPU architecture: a host of its kind would do",
        _KERNEL,
    ),
    Rule(
        "permission_denied_in_container",
        FailureClass.WORKLOAD_FATAL,
        (r"PermissionError: |\[Errno 13\]|Permission denied \(os error 13\)|: Permission denied$",),
        "the server may not write or read this path: check user and mounts of the image",
        _LIBC,
        Weight.HINT,
    ),
    Rule(
        "process_killed",
        FailureClass.INCOMPATIBLE,
        (
            r"signal\W{0,3}9\b|(?:exit ?code|status)\W{0,3}(?:-9|137)\b|\bSIGKILL\b|signal: killed|^Killed$|^\S*: line \d+: +\d+ Killed",
        ),
        "something killed it: mostly the kernel for want of memory; a host with more memory would do",
        _KERNEL,
        Weight.SYMPTOM,
    ),
    Rule(
        "crashed",
        FailureClass.UNKNOWN,
        (
            r"Segmentation fault|\bSIGSEGV\b|signal 11\b|core dumped|\(.core' \w+\)|\bSIGABRT\b|terminate called|double free|exit ?code:? -(?:6|11)\b",
        ),
        "the program crashed: try another version of it",
        _KERNEL,
        Weight.SYMPTOM,
    ),
)
