"""The effects of faults, as values that the market and its containers carry out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.local.gpu import SimulatedGpu

Parameters = Mapping[str, Any]
"""A fault's parameters by name, defaults included."""
CALLERS = ("account", "container", "anonymous")
"""The callers of the API: with the account's key, with a container's key, without a key."""


@dataclass(frozen=True)
class Reply:
    """An answer of the API that replaces the normal one."""

    status: int = 200
    body: object = None
    """JSON values, or a text or bytes to send as they are. ``{key}`` in JSON stands for the key of the request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    afterwards: bool = False
    """Whether the request is carried out before this answer."""
    delay_s: float = 0.0
    true_answer: bool = False
    """Whether the normal answer is sent, only late or cut off."""
    cut: bool = False
    """Whether the connection is cut after half of the answer."""
    dropped: bool = False
    """Whether the connection is cut without an answer."""
    endless_s: float | None = None
    """The pause after each character of an endless answer; None for a normal one."""
    head_only: bool = False
    """Whether an endless answer never gets beyond its headers."""


@dataclass(frozen=True)
class Answers:
    """The API sends a wrong answer. Parameters ``endpoint``, ``caller``, ``times`` and ``after`` select the calls."""

    reply: Callable[[Parameters], Reply]


@dataclass(frozen=True)
class Leftover:
    """Create makes a stopped instance and answers ``success: false`` with its id."""


@dataclass(frozen=True)
class NeverBoots:
    """The instance stays in this state. After parameter ``stops_after_s`` its ``intended_status`` becomes stopped."""

    actual_status: str | None
    text: str
    """The status text; ``{image}`` stands for the name of the image."""
    for_strangers: bool = False
    """Whether it boots if the image is pulled with the login of parameter ``login``; an empty one means any."""


@dataclass(frozen=True)
class SlowBoot:
    """The instance stays in this state for parameter ``for_s``, on a healthy host."""

    actual_status: str | None
    text: str


@dataclass(frozen=True)
class Turns:
    """A running instance changes its state after parameter ``after_s``."""

    actual_status: str
    intended_status: str = "running"
    text: str = ""
    ends: bool = False
    """Whether its processes end; otherwise only the API shows the state."""
    cur_state: str = ""
    """Empty: unchanged, or as ``intended_status`` implies."""


@dataclass(frozen=True)
class Vanishes:
    """A running instance is destroyed after parameter ``after_s``, without a trace in the API."""


@dataclass(frozen=True)
class Reports:
    """The API shows other values for some fields of the instance, in the first ``looks`` where there is such a
    parameter: the number of answers to "show" and "list" that do.
    """

    fields: Mapping[str, object]
    missing: tuple[str, ...] = ()
    while_running: bool = True
    """Whether this holds while it runs; otherwise before."""


@dataclass(frozen=True)
class Delivers:
    """The instance has other GPUs than its offer says."""

    gpus: Callable[[tuple[SimulatedGpu, ...], Parameters], tuple[SimulatedGpu, ...]]


@dataclass(frozen=True)
class Within:
    """Something is wrong inside the instance: fields of ``ContainerFaults``."""

    faults: Callable[[Parameters], Mapping[str, Any]]


@dataclass(frozen=True)
class NoNetwork:
    """The instance has no network, even if the machine's entry allows one."""


@dataclass(frozen=True)
class Unset:
    """The market does not set some variables in the environment of the instance."""

    variables: frozenset[str]


@dataclass(frozen=True)
class SoldTwice:
    """Another client rents the same offer at the same moment, and gets the machine after parameter ``after_s``.

    Parameter ``how`` says what becomes of the instance: it ``vanishes``, it is ``stopped`` before its host takes it, or
    its ``ports`` are those of the other instance.
    """


@dataclass(frozen=True)
class Charges:
    """On demand, the instance costs parameter ``times`` as much an hour as its offer says."""


@dataclass(frozen=True)
class Says:
    """The API shows parameter ``says`` for parameter ``field`` of an ``offer``, an ``instance`` or the ``account``.

    Of a ``look`` at an instance, it does so in parameter ``looks`` of them.
    """

    of: str


@dataclass(frozen=True)
class Raises:
    """A running instance costs parameter ``times`` as much after parameter ``after_s``."""


MidTest = Turns | Vanishes | Says | Raises
"""The effects on a running instance."""
Effect = (
    Answers
    | Leftover
    | SoldTwice
    | NeverBoots
    | SlowBoot
    | MidTest
    | Reports
    | Delivers
    | Within
    | NoNetwork
    | Unset
    | Charges
)
