"""The values that all parts of the package share: frozen, without behaviour.

Units are in the names: ``_s`` seconds, ``_gb`` GB (10^9 bytes), ``_mb`` MB, ``_mbps`` megabits a second,
``_usd`` USD, ``_usd_h`` USD an hour. The market gives VRAM and RAM in MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum
from typing import TypedDict
from typing import TypeVar

_T = TypeVar("_T")

HOST = "host"
"""The adapter of a workload without a server: a host on which tests run."""


class FailureClass(StrEnum):
    """Whose fault a failure is, by the question "what would the next host do?"."""

    INFRA_FATAL = "infra_fatal"
    """This machine is broken; an equal one would work. The machine is blamed; the next offer is tried."""
    INCOMPATIBLE = "incompatible"
    """Only another kind of machine would work. No machine is blamed; the pair is remembered; another kind is tried."""
    WORKLOAD_FATAL = "workload_fatal"
    """Every machine would fail in the same way. No machine is blamed; the run stops trying."""
    RUNTIME_LOST = "runtime_lost"
    """The instance was ready and is lost, confirmed by the market or by SSH. The machine is blamed lightly."""
    OWN_FAULT = "own_fault"
    """Our own side: network, API, key, credit, time limit. No machine is blamed, nothing is recorded; stop trying."""
    WARMUP = "warmup"
    """Still starting, no failure is seen. Wait within the budget."""
    UNKNOWN = "unknown"
    """Undecided. Wait within the budget; running out of it is weak evidence, never a ban."""
    READY = "ready"
    """Not a failure: the text says that the start is complete."""

    @property
    def blames_machine(self) -> bool:
        """Whether the machine is at fault, which says nothing about workload or tests."""
        return self in (FailureClass.INFRA_FATAL, FailureClass.RUNTIME_LOST)


class Channel(StrEnum):
    """The source of a text that is judged."""

    SERVER_LOG = "server_log"
    STATUS_MSG = "status_msg"
    SSH = "ssh"
    NVIDIA_SMI = "nvidia_smi"
    CURL = "curl"


@dataclass(frozen=True)
class Verdict:
    """A failure class, its reason, and the evidence for it. It stays a value: no code parses it from text again."""

    failure_class: FailureClass
    reason: str
    """snake_case name of the cause, e.g. ``nvml_driver_library_mismatch``."""
    evidence: str = ""
    """The line that decided, as printed (secrets removed), or a sentence about an observation of ours."""
    remedy: str = ""
    """What the reader should do now, in words."""


class WorkloadFields(TypedDict, total=False):
    """The arguments that workload builders and the marker ``vast`` take by name: requirements from :class:`Workload`.

    :class:`Workload` declares their meaning and defaults. A field that is in both is a parameter of all of them.
    """

    image: str
    image_login: str
    gpus: int
    gpu_name: str
    gpu_ram_gb: float
    compute_cap: float
    cuda: float
    disk_gb: float
    image_gb: float
    model_gb: float
    setup: str
    setup_s: float
    warmup_s: float
    expected_use_s: float


def _declared(default: _T, meaning: str, *, one_line: bool = False, shown: bool = True) -> _T:
    """A field of a workload. Its type decides the check: text, a whole number of at least 0, or a number of at least 0.

    :param meaning: For people, with its unit; the builders' documentation uses it.
    :param one_line: Whether the text may contain no control characters.
    :param shown: Whether it is part of the ``repr``.
    """
    # Type checkers take the assigned value for the default, as they do with field().
    return field(default=default, repr=shown, metadata={"meaning": meaning, "one_line": one_line})


@dataclass(frozen=True)
class Workload:
    """The server to run, and its requirements. Equal workloads share an instance, so every field is hashable."""

    adapter: str
    """Name of the adapter for this kind of server, e.g. ``vllm``."""
    model: str = _declared("", "The model's name as the server is asked for it; empty where the server has none.")
    image: str = _declared("", "Docker image to rent with; empty: the adapter's default.", one_line=True)
    image_login: str = _declared(
        "",
        "Login at the image's registry, ``-u USER -p PASSWORD REGISTRY``; secret: it is never shown. Empty: that of "
        "``VAST_IMAGE_LOGIN``, where it is for this registry.",
        one_line=True,
        shown=False,
    )
    command: str = _declared(
        "", "Shell command that runs the server in the foreground (adapter ``command``); empty: the adapter builds it."
    )
    args: tuple[str, ...] = _declared((), "Extra arguments for the server, unquoted; the adapter quotes them.")
    env: tuple[tuple[str, str], ...] = _declared(
        (),
        "Environment of the server as sorted (name, value) pairs. Values may be secret: never print or store them.",
        shown=False,
    )
    files: tuple[tuple[str, str], ...] = _declared(
        (),
        "Files and directories to bring along: (path relative to the server's working directory, absolute local path).",
    )
    listing: str = _declared(
        "", "Local file that lists what else to bring along, such as the files of a project.", one_line=True
    )
    details: tuple[tuple[str, str], ...] = _declared(
        (), "What only the adapter knows of, as sorted (name, value) pairs, such as the task of a model."
    )
    setup: str = _declared(
        "",
        "Shell command to run on the instance before the server, once, in its directory and environment, when the "
        "files are there; ``pip install …``. It fails the workload if it fails. If its first line is a comment, that "
        "is shown in its place.",
    )
    setup_s: float = _declared(900.0, "Longest run of the setup command, in seconds.")
    setup_uses: tuple[str, ...] = _declared(
        (),
        "Patterns of the names in ``files`` of what the setup command depends on: it runs once more where one of these "
        "files has changed; empty: any of them.",
    )
    port: int = _declared(8000, "The TCP port that the server listens on, on the instance's loopback.")
    ready_path: str = _declared(
        "/", "Path that answers 200 when the server is ready (adapter ``command``).", one_line=True
    )
    gpus: int = _declared(
        1, "Number of GPUs needed, all on one machine; 0 means that any machine will do, also one without."
    )
    gpu_name: str = _declared("", "GPU kind as the market spells it, e.g. ``RTX 4090``; empty: any.")
    gpu_ram_gb: float = _declared(0.0, "VRAM needed per GPU, in GB; 0: any.")
    compute_cap: float = _declared(0.0, "Least CUDA compute capability, e.g. 8.9; 0: any.")
    cuda: float = _declared(
        0.0, "CUDA version that the image is built with, e.g. 12.4, and the driver must support; 0: any."
    )
    disk_gb: float = _declared(
        16.0, "Disk to rent, in GB, for image, model and caches; fixed for the life of the instance."
    )
    image_gb: float = _declared(
        0.0, "Size of the image to be pulled, in GB; used for the cost and time of the transfer."
    )
    model_gb: float = _declared(
        0.0, "Size of the model to be downloaded, in GB; used for the cost and time of the transfer."
    )
    warmup_s: float = _declared(
        0.0, "Longest start of the server without any progress, in seconds; 0: the adapter's own."
    )
    expected_use_s: float = _declared(
        1800.0, "How long the instance is expected to be used, in seconds; offers must last at least twice as long."
    )


@dataclass(frozen=True)
class Offer:
    """One line of the marketplace, in this project's units. Its id is not stable; its machine's id is."""

    id: int
    machine_id: int
    host_id: int
    gpu_name: str
    num_gpus: int
    gpu_ram_mb: float
    """VRAM per GPU."""
    compute_cap: float
    """e.g. 8.9 (the API's 890)."""
    cuda_max_good: float
    """Newest CUDA version that the driver supports."""
    driver_version: str
    cpu_cores: float
    """Cores of this offer."""
    cpu_ram_mb: float
    """RAM of the whole machine."""
    disk_space_gb: float
    inet_down_mbps: float
    inet_up_mbps: float
    inet_down_usd_gb: float
    inet_up_usd_gb: float
    direct_port_count: int
    reliability: float
    verified: bool
    rentable: bool
    rented: bool
    is_bid: bool
    geolocation: str
    """e.g. ``Sweden, SE``; may be empty."""
    duration_s: float
    """How long the offer lasts."""
    price_usd_h: float
    """``dph_total``: GPU, and the storage size given in the search."""
    storage_usd_gb_month: float
    machine_share: float = 0.0
    """Share of the machine's GPUs in this offer, and so of its cores and RAM; 0 if the market does not say."""
    simulated: bool = False
    """True for a machine of the local market that is only simulated."""
    gpu_memory_gb_s: float = 0.0
    """Bandwidth of each GPU's memory, in GB/s, as the market has measured it; 0 if it does not say."""
    tflops: float = 0.0
    """Of all GPUs together, in single precision; 0 if the market does not say."""
    pcie_lanes: int = 0
    """Of each GPU; 0 if the market does not say."""
    incredible: str = ""
    """The impossible amount of money in the offer, in words; that amount is infinite here."""


class ProbeFailure(StrEnum):
    """Why a probe, or a connection, got no answer."""

    NONE = "none"
    COMMAND = "command"
    """The command ran and its exit code is not 0."""
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """The host answers, but nothing listens yet."""
    UNREACHABLE = "unreachable"
    """Nothing answers: a black hole, no route, or a name that does not resolve."""
    AUTHENTICATION = "authentication"
    """The server rejects the key."""
    HOST_KEY = "host_key"
    """The server's host key is not the one pinned for this instance."""
    TRANSPORT = "transport"
    """The connection broke or never spoke SSH."""
    NOT_RUN = "not_run"
    """The session ended, and its login shell had not started the command."""


@dataclass(frozen=True)
class Probe:
    """One command to run on the instance with ``sh``, with a time limit."""

    name: str
    command: str
    timeout_s: float = 10.0
    port: int = 0
    """TCP port of the instance that the answer depends on: the probe runs once the port is open, seldom before."""
    every_s: float = 0.0
    """Seconds from one start to the next, for a probe that is repeated; 0: as often as makes sense."""


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe. After a time-out ``stdout`` and ``stderr`` hold the output up to then."""

    name: str
    failure: ProbeFailure
    exit_code: int | None
    """None if the command did not end, or did not run."""
    stdout: str
    stderr: str
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether the command ran and its exit code is 0."""
        return self.failure is ProbeFailure.NONE


@dataclass(frozen=True)
class Progress:
    """The progress of a starting server, read from its own log: ``weights 3/8``."""

    stage: str
    """One of the adapter's stage names, e.g. ``downloading``, ``weights``, ``compiling``, ``graphs``, ``kv_cache``."""
    done: int = 0
    total: int = 0
    """0 if the stage is not counted, or its end is not known."""
    unit: str = ""
    """What is counted, such as ``MB``; empty: things."""

    def __str__(self) -> str:
        return f"{self.stage} {self.count}".rstrip()

    @property
    def count(self) -> str:
        """How far the stage is: ``3/8``, ``612 MB``; empty if it is not counted."""
        count = f"{self.done}/{self.total}" if self.total else str(self.done) if self.unit else ""
        return f"{count} {self.unit}".strip()


@dataclass(frozen=True)
class GpuCheck:
    """What the GPU check has found: whether a measurement on this host says something of the code."""

    verdict: Verdict | None = None
    """Why it failed; None: it passed."""
    notes: tuple[str, ...] = ()
    """What could not be checked, and why, in sentences."""
    memory_gb_s: float = 0.0
    """Measured bandwidth of a GPU's memory, in GB/s, of the slowest one; 0 if it was not measured."""
    tflops: float = 0.0
    """Measured speed of a product of matrices in single precision, of the slowest GPU; 0 if it was not measured."""

    def __str__(self) -> str:
        """``GPU check passed; memory 912 GB/s; 41.3 TFLOPS``."""
        found = f"GPU check failed: {self.hardware_problem}" if self.verdict else "GPU check passed"
        memory = f"memory {self.memory_gb_s:.0f} GB/s" if self.memory_gb_s else ""
        speed = f"{self.tflops:.1f} TFLOPS" if self.tflops else ""
        return "; ".join(filter(None, [found, memory, speed, *self.notes]))

    @property
    def hardware_problem(self) -> str:
        """Why it failed, in a sentence; empty: it passed."""
        return self.verdict.evidence if self.verdict else ""


class State(StrEnum):
    """The states in the life of an instance."""

    INTENDED = "intended"
    CREATED = "created"
    BOOTING = "booting"
    REACHABLE = "reachable"
    CHECKED = "checked"
    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"
    KEPT = "kept"
    """Kept so that a person can look inside; its dead man's switch ends it."""
    DESTROYING = "destroying"
    GONE = "gone"


@dataclass(frozen=True)
class Attempt:
    """One attempt with one offer, after its end: a failure, or an instance that became ready and was given back."""

    number: int
    """1 for the first attempt of its workload in this run."""
    label: str
    offer: Offer
    instance_id: int
    """0 if nothing was created."""
    verdict: Verdict | None
    """None if the instance became ready."""
    failed_in: State | None = None
    """The state in which it failed; None if it became ready."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each state, by the state's name."""
    cost_usd: float = 0.0
    log_tail: str = ""
    """The server's last lines, secrets removed; empty if it never started."""
    artifacts: str = ""
    """Directory of the evidence; empty if there is none."""
    price_usd_h: float = 0.0
    """The billed price per hour; the offer's price if the market never showed it; 0 if nothing was rented."""
    unguarded: str = ""
    """Why the instance had no dead man's switch; empty if it had one, or ended before that was known."""
    workload: str = ""
    """The workload in words, e.g. ``vllm 'org/model'``; secrets removed."""
    reused_at_s: float = 0.0
    """Its age, in seconds, when this run got it from an earlier one; 0 if this run has rented it."""

    @property
    def machine_id(self) -> int:
        """The machine's id on the market."""
        return self.offer.machine_id


@dataclass(frozen=True)
class MachineRecord:
    """The user's record of one machine. Times are epoch seconds; 0 means never."""

    machine_id: int
    host_id: int = 0
    successes: float = 0.0
    infra_failures: float = 0.0
    last_reason: str = ""
    banned_until: float = 0.0
    """End of the ban in force; ``inf`` for a ban without end."""
    ban_reason: str = ""
    allowed: bool = False
    """Whether it is on the user's allow-list: it is never banned."""
    ready_s: float = 0.0
    """Median seconds from create to ready over its successes; 0 if there are none."""
    boot_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds from create to SSH of the newest boot with each image, which the machine still has, by image."""
    incompatible: frozenset[str] = frozenset()
    """Workload keys that this machine cannot run."""


@dataclass(frozen=True)
class HostRecord:
    """The record of an operator: the second level, over all machines of one ``host_id``."""

    host_id: int
    successes: float = 0.0
    infra_failures: float = 0.0
    banned_until: float = 0.0
    ban_reason: str = ""
    allowed: bool = False


@dataclass(frozen=True)
class Reputation:
    """The records of all machines and operators at one moment."""

    machines: Mapping[int, MachineRecord] = field(default_factory=dict)
    hosts: Mapping[int, HostRecord] = field(default_factory=dict)
    incompatible_kinds: frozenset[tuple[str, str]] = frozenset()
    """(GPU name, workload key) pairs that do not work."""
