"""The records of the host cache: an attempt's outcome, and a person's entry for a machine or an operator. Pure.

The format of the file follows from these declarations, see :mod:`pytest_vastgpu.reputation.record_codec`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Annotated

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reputation.fields import FOREVER
from pytest_vastgpu.reputation.fields import mapping
from pytest_vastgpu.reputation.fields import time_in
from pytest_vastgpu.reputation.fields import time_out
from pytest_vastgpu.reputation.record_codec import ID_OR_UNKNOWN
from pytest_vastgpu.reputation.record_codec import SECONDS
from pytest_vastgpu.reputation.record_codec import TIME
from pytest_vastgpu.reputation.record_codec import TIME_OR_UNKNOWN
from pytest_vastgpu.reputation.record_codec import Form
from pytest_vastgpu.reputation.record_codec import Key
from pytest_vastgpu.reputation.record_codec import read_record
from pytest_vastgpu.reputation.record_codec import write_record
from pytest_vastgpu.selection.requirements import image_key


@dataclass(frozen=True)
class Outcome:
    """One recorded outcome of one attempt."""

    id: Annotated[str, Key(last=True)]
    """Unique to an attempt and its outcome, so that an outcome counts once even if it is recorded or merged twice.

    It is written last: a record without it was cut off.
    """
    time: Annotated[float, TIME, Key(first=True)]
    """When the attempt ended: epoch seconds, in whole milliseconds."""
    machine_id: Annotated[int, Key(elsewhere=True)]
    outcome: Annotated[FailureClass, Key(first=True)]
    host_id: Annotated[int, ID_OR_UNKNOWN, Key("host")] = 0
    """The machine's operator; 0 if unknown."""
    gpu_name: Annotated[str, Key("gpu")] = ""
    reason: Annotated[str, Key(first=True)] = ""
    """The verdict's reason; empty if the instance became ready."""
    workload: str = ""
    """The workload's key, see :func:`workload_key`."""
    seconds: Annotated[Mapping[str, float], SECONDS] = field(default_factory=dict)
    """Seconds spent in each state, by the state's name."""
    run_id: Annotated[str, Key("run")] = ""
    image: str = ""
    """See :func:`~pytest_vastgpu.selection.requirements.image_key`; empty in older records."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Keys that a person or a later version added; kept unchanged."""

    @classmethod
    def of(cls, attempt: Attempt, workload: Workload, run_id: str, time: float) -> Outcome:
        """The outcome of an attempt that has ended.

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
            image=image_key(workload),
            seconds={name: round(value, 3) for name, value in attempt.seconds.items()},
            run_id=run_id,
        )


END = Form(
    lambda value: math.inf if value == FOREVER else time_in(value),
    lambda value: FOREVER if value == math.inf else time_out(value),
)
"""Epoch seconds; ``inf``: never."""


@dataclass(frozen=True)
class Ban:
    """A ban that a person has set."""

    until: Annotated[float, END, Key(always=True)] = math.inf
    """Epoch seconds; ``inf`` for a ban without end."""
    reason: str = ""
    since: Annotated[float, TIME_OR_UNKNOWN] = 0.0
    """Epoch seconds; 0 if unknown. Of two bans the later one applies."""
    extra: Mapping[str, object] = field(default_factory=dict)


def _ban_in(value: object) -> Ban | None:
    """Read a ban from a mapping, or from the short forms that people write: ``forever``, its end, true or false."""
    if value is False or value is None:
        return None
    if value is True:
        return Ban()
    return read_record(Ban, mapping(value)) if isinstance(value, dict) else Ban(until=END.read(value))


@dataclass(frozen=True)
class Override:
    """A person's entry for one machine or one operator."""

    allowed: Annotated[bool, Key("allow")] = False
    """Whether it is never banned; takes precedence over a ban."""
    ban: Annotated[Ban | None, Form(_ban_in, write_record)] = None
    extra: Mapping[str, object] = field(default_factory=dict)
    """Keys that this version does not know; kept unchanged."""


def workload_key(workload: Workload) -> str:
    """Identifies a workload in the question whether a machine can run it: ``vllm org/model 3fa94c02``.

    The key does not depend on values of its environment: they may be secret, and a hash can reveal a short one.
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
