"""The nouns of the project: frozen values without behaviour, shared by every other part.

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


class FailureClass(StrEnum):
    """Whose fault, asked as "what would the next host do?"."""

    INFRA_FATAL = "infra_fatal"
    """This machine is broken: an equal one would do. Counted against the machine; next offer."""
    INCOMPATIBLE = "incompatible"
    """Only another kind of machine would do. No machine is blamed; the pair is remembered; an offer that differs."""
    WORKLOAD_FATAL = "workload_fatal"
    """The same everywhere. No machine is blamed; stop."""
    RUNTIME_LOST = "runtime_lost"
    """It was ready and went away, confirmed by the market or by SSH. The machine is blamed lightly."""
    OWN_FAULT = "own_fault"
    """Our own side: network, API, key, credit, time limit. No machine is blamed, nothing is recorded; stop."""
    WARMUP = "warmup"
    """Still under way, nothing wrong is seen. Wait within the budget."""
    UNKNOWN = "unknown"
    """Cannot be said. Wait within the budget; running out of it is weak evidence, never a ban."""
    READY = "ready"
    """Not a failure: what was read says that the start is complete."""


class Channel(StrEnum):
    """Where a text that is judged was read."""

    SERVER_LOG = "server_log"
    STATUS_MSG = "status_msg"
    SSH = "ssh"
    NVIDIA_SMI = "nvidia_smi"
    CURL = "curl"


@dataclass(frozen=True)
class Verdict:
    """A failure class, why, and the evidence that decided it. Carried to the end as it is; never re-read from text."""

    failure_class: FailureClass
    reason: str
    """snake_case name of the cause, e.g. ``nvml_driver_library_mismatch``."""
    evidence: str = ""
    """The line that decided it, as it was printed (secrets removed), or a sentence of our own observation."""
    remedy: str = ""
    """What the reader should do now, in words."""


class WorkloadFields(TypedDict, total=False):
    """What the builders of workloads and the marker ``vast`` take by name: the fields of :class:`Workload` about needs.

    Their meaning and defaults are declared there. A field that is in both is a parameter of all of them.
    """

    image: str
    gpus: int
    gpu_name: str
    gpu_ram_gb: float
    compute_cap: float
    cuda: float
    disk_gb: float
    image_gb: float
    model_gb: float
    warmup_s: float
    expected_use_s: float


def _declared(default: _T, meaning: str, *, one_line: bool = False, shown: bool = True) -> _T:
    """A field of a workload. Checks follow from its type: text, a whole number from 0 on, or a number from 0 on.

    :param meaning: For people, with its unit; the documentation of the builders takes it from here.
    :param one_line: A text without control characters.
    :param shown: Whether it is part of the ``repr``.
    """
    # Type checkers take what is assigned for the default, as they do with field().
    return field(default=default, repr=shown, metadata={"meaning": meaning, "one_line": one_line})


@dataclass(frozen=True)
class Workload:
    """What shall run, and what it needs. Equal workloads share an instance, so everything here is hashable."""

    adapter: str
    """Name of the readiness adapter that knows this kind of server, e.g. ``vllm``."""
    model: str = _declared("", "The model's name as the server is asked for it; empty where the server has none.")
    image: str = _declared("", "Docker image to rent with; empty: the adapter's default.", one_line=True)
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
        (), "Files to bring along: (path relative to the server's working directory, absolute local path)."
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
    """One line of the marketplace, in this project's units. Its id is not stable; its machine's is."""

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
    """Cores that would be ours."""
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
    """``dph_total``: GPU and the storage that was asked for in the search."""
    storage_usd_gb_month: float
    machine_share: float = 0.0
    """Share of the machine's GPUs that is sold, and with it of its cores and RAM; 0 where the market does not say."""
    simulated: bool = False
    """True for a machine of the local market that only pretends to be there."""
    incredible: str = ""
    """What its offer says of money and cannot be true, in words; such an amount is infinite here."""


class ProbeFailure(StrEnum):
    """Why a probe, or a connection, gave no answer."""

    NONE = "none"
    COMMAND = "command"
    """The command ran and its exit code is not 0."""
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """The host answers, nothing listens yet."""
    UNREACHABLE = "unreachable"
    """Nothing answers: a black hole, no route, or a name that does not resolve."""
    AUTHENTICATION = "authentication"
    """The server refuses the key."""
    HOST_KEY = "host_key"
    """The server's host key is not the one pinned for this instance."""
    TRANSPORT = "transport"
    """The connection broke or never spoke SSH."""


@dataclass(frozen=True)
class Probe:
    """One command to be run on the instance by ``sh``, with a time limit."""

    name: str
    command: str
    timeout_s: float = 10.0
    port: int = 0
    """TCP port of the instance that the answer depends on: run as soon as something listens there, seldom before."""
    every_s: float = 0.0
    """Seconds from one start to the next, where a probe is run again and again; 0: as often as makes sense."""


@dataclass(frozen=True)
class ProbeResult:
    """What came of a probe. After a time-out ``stdout`` and ``stderr`` hold what had arrived."""

    name: str
    failure: ProbeFailure
    exit_code: int | None
    """None where the command did not end, or did not run."""
    stdout: str
    stderr: str
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """The command ran and its exit code is 0."""
        return self.failure is ProbeFailure.NONE


@dataclass(frozen=True)
class Progress:
    """Where a server that warms up stands, read from its own log: ``weights 3/8``."""

    stage: str
    """One of the adapter's stage names, e.g. ``downloading``, ``weights``, ``compiling``, ``graphs``, ``kv_cache``."""
    done: int = 0
    total: int = 0
    """0 where the stage is not counted."""

    def __str__(self) -> str:
        return f"{self.stage} {self.done}/{self.total}" if self.total else self.stage


class State(StrEnum):
    """The life of an instance."""

    INTENDED = "intended"
    CREATED = "created"
    BOOTING = "booting"
    REACHABLE = "reachable"
    CHECKED = "checked"
    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"
    KEPT = "kept"
    """Left for a look inside; its dead man's switch ends it."""
    DESTROYING = "destroying"
    GONE = "gone"


@dataclass(frozen=True)
class Attempt:
    """One try of one offer, when it is over: a failure, or an instance that became ready and was given back."""

    number: int
    """1 for the first attempt of a workload in this run."""
    label: str
    offer: Offer
    instance_id: int
    """0 where nothing was created."""
    verdict: Verdict | None
    """None where it became ready."""
    failed_in: State | None = None
    """The state in which it failed; None where it became ready."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent until each state was left, by the state's name."""
    cost_usd: float = 0.0
    log_tail: str = ""
    """The last lines that the server printed, secrets removed; empty where it never started."""
    artifacts: str = ""
    """Directory in which its evidence is kept; empty where there is none."""
    price_usd_h: float = 0.0
    """What the market billed an hour; the offer's price where it never showed it; 0 where nothing was rented."""
    unguarded: str = ""
    """Why the instance had no dead man's switch; empty where it had one, or ended before that could be seen."""


@dataclass(frozen=True)
class MachineRecord:
    """What this user's runs know of one machine. Times are epoch seconds; 0 means never."""

    machine_id: int
    host_id: int = 0
    successes: float = 0.0
    infra_failures: float = 0.0
    last_reason: str = ""
    banned_until: float = 0.0
    """Ban in force until then; ``inf`` for good."""
    ban_reason: str = ""
    allowed: bool = False
    """On the user's allow-list: never banned, whatever it does."""
    ready_s: float = 0.0
    """Median seconds from create to ready over its successes; 0 where there are none."""
    incompatible: frozenset[str] = frozenset()
    """Workload keys that this machine cannot run."""


@dataclass(frozen=True)
class HostRecord:
    """What is known of an operator: the second level, over all machines of one ``host_id``."""

    host_id: int
    successes: float = 0.0
    infra_failures: float = 0.0
    banned_until: float = 0.0
    ban_reason: str = ""
    allowed: bool = False


@dataclass(frozen=True)
class Reputation:
    """Everything that is known of machines and their operators at one moment."""

    machines: Mapping[int, MachineRecord] = field(default_factory=dict)
    hosts: Mapping[int, HostRecord] = field(default_factory=dict)
    incompatible_kinds: frozenset[tuple[str, str]] = frozenset()
    """(GPU name, workload key) pairs that cannot work."""
