"""What is recorded of an attempt, and what a person has said of a machine or an operator. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True)
class Outcome:
    """One recorded outcome of one attempt."""

    id: str
    """Unique to an attempt and its outcome, so that recording or merging it twice counts once."""
    time: float
    """When the attempt was over: epoch seconds, in whole milliseconds."""
    machine_id: int
    outcome: FailureClass
    host_id: int = 0
    """The machine's operator; 0 where it is not known."""
    gpu_name: str = ""
    reason: str = ""
    """The verdict's reason; empty where it became ready."""
    workload: str = ""
    """Key of the workload, see :func:`workload_key`."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each state, by the state's name."""
    run_id: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)
    """What a person or a later version added; kept as it is."""

    @classmethod
    def of(cls, attempt: Attempt, workload: Workload, run_id: str, time: float) -> Outcome:
        """What an attempt that is over says of its machine.

        :param time: Epoch seconds.
        """
        verdict = attempt.verdict
        outcome = verdict.failure_class if verdict else FailureClass.READY
        return cls(
            id=f"{attempt.label}-{outcome.value}",
            time=round(time, 3),
            machine_id=attempt.offer.machine_id,
            outcome=outcome,
            host_id=max(0, attempt.offer.host_id),
            gpu_name=attempt.offer.gpu_name,
            reason=verdict.reason if verdict else "",
            workload=workload_key(workload),
            seconds={name: round(value, 3) for name, value in attempt.seconds.items()},
            run_id=run_id,
        )


@dataclass(frozen=True)
class Ban:
    """A ban that a person has spoken."""

    until: float = math.inf
    """Epoch seconds; ``inf`` for good."""
    reason: str = ""
    since: float = 0.0
    """Epoch seconds; 0 where it is not known. Of two bans the later one holds."""
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Override:
    """What a person has said of one machine or of one operator."""

    allowed: bool = False
    """Never banned, whatever happens; wins over a ban."""
    ban: Ban | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    """Keys that this version does not know; kept as they are."""


def workload_key(workload: Workload) -> str:
    """What identifies a workload where it matters if a machine can run it: ``vllm org/model 3fa94c02``.

    Values of its environment do not take part: they may be secret, and a short one could be guessed from its hash.
    """
    parts = (
        workload.adapter,
        workload.model,
        workload.image,
        workload.command,
        workload.args,
        tuple(name for name, _ in workload.env),
        workload.gpus,
    )
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    return " ".join(part for part in (workload.adapter, workload.model, digest) if part)
