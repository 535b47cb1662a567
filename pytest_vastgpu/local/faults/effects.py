"""What a fault does: the few ways in which the local market can misbehave. Values only."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_vastgpu.local.fleet.machine import SimulatedGpu

Parameters = Mapping[str, Any]
"""A fault's parameters by name, defaults included."""
CALLERS = ("account", "container", "anonymous")
"""Who asks the API: with the account's key, with the key of an instance's container, without one."""


@dataclass(frozen=True)
class Reply:
    """An answer of the API that is not the true one."""

    status: int = 200
    body: object = None
    """JSON, or a text or bytes that are sent as they are. ``{key}`` in JSON is the key that came with the request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    afterwards: bool = False
    """Carry the request out first, and answer this instead of what came of it."""
    delay_s: float = 0.0
    true_answer: bool = False
    """Give the true answer after all: only late, or cut off."""
    cut: bool = False
    """Send half of the answer, then cut the connection."""
    dropped: bool = False
    """Cut the connection without an answer."""
    endless_s: float | None = None
    """An answer without end, with so long a pause after each character."""


@dataclass(frozen=True)
class Answers:
    """The API answers wrongly. Parameters ``endpoint``, ``caller``, ``times`` and ``after`` say to which calls."""

    reply: Callable[[Parameters], Reply]


@dataclass(frozen=True)
class Leftover:
    """Create makes a stopped instance and answers ``success: false`` with its id."""


@dataclass(frozen=True)
class NeverBoots:
    """The instance gets no further than this. Parameter ``stops_after_s``: its ``intended_status`` becomes stopped."""

    actual_status: str | None
    text: str
    """The status text; ``{image}`` is the image's name."""


@dataclass(frozen=True)
class SlowBoot:
    """Parameter ``for_s``: so long the status says ``actual_status`` and this text, on a healthy host."""

    actual_status: str | None
    text: str


@dataclass(frozen=True)
class Turns:
    """What happens to a running instance after ``after_s``."""

    actual_status: str
    intended_status: str = "running"
    text: str = ""
    ends: bool = False
    """Whether its processes end; otherwise only the market says so."""
    cur_state: str = ""
    """Empty for what follows from the others."""


@dataclass(frozen=True)
class Vanishes:
    """A running instance is gone after ``after_s``: the market knows it no more."""


@dataclass(frozen=True)
class Reports:
    """Some fields of the instance are shown as these."""

    fields: Mapping[str, object]
    missing: tuple[str, ...] = ()
    while_running: bool = True
    """Otherwise before it runs."""


@dataclass(frozen=True)
class Delivers:
    """Other GPUs than were sold."""

    gpus: Callable[[tuple[SimulatedGpu, ...], Parameters], tuple[SimulatedGpu, ...]]


@dataclass(frozen=True)
class Within:
    """Something is wrong inside the instance: values of ``ContainerFaults``."""

    faults: Callable[[Parameters], Mapping[str, Any]]


@dataclass(frozen=True)
class NoWayOut:
    """The instance has no network, whatever the machine's entry says."""


@dataclass(frozen=True)
class Unset:
    """Variables that the market should have set in the instance, and has not."""

    variables: frozenset[str]


@dataclass(frozen=True)
class Charges:
    """On demand, the instance costs parameter ``times`` as much an hour as its offer said."""


@dataclass(frozen=True)
class Says:
    """Parameter ``field`` of an ``offer``, an ``instance`` or the ``account`` is what parameter ``says`` says."""

    of: str


@dataclass(frozen=True)
class Raises:
    """A running instance costs parameter ``times`` as much from ``after_s`` on."""


MidTest = Turns | Vanishes | Says | Raises
"""What happens to an instance that runs."""
Effect = Answers | Leftover | NeverBoots | SlowBoot | MidTest | Reports | Delivers | Within | NoWayOut | Unset | Charges
