"""Records as mappings, derived from their declarations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import UTC
from datetime import datetime
from typing import Annotated

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reputation.outcomes import Ban
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.record_codec import ID_OR_UNKNOWN
from pytest_vastgpu.reputation.record_codec import Key
from pytest_vastgpu.reputation.record_codec import read_record
from pytest_vastgpu.reputation.record_codec import write_record

NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)
WHOLE = {
    "time": NOON,
    "outcome": "infra_fatal",
    "reason": "nvml",
    "host": 7,
    "gpu": "RTX 4090",
    "workload": "vllm m",
    "seconds": {"booting": 1.5},
    "run": "r1",
    "note": "loud",
    "id": "a",
}


def test_an_outcome_keeps_its_form_and_order() -> None:
    outcome = read_record(Outcome, WHOLE, machine_id=42)
    assert outcome.extra == {"note": "loud"}
    assert (outcome.machine_id, outcome.host_id, outcome.outcome) == (42, 7, FailureClass.INFRA_FATAL)
    assert list(write_record(outcome).items()) == list(WHOLE.items())


def test_an_override_keeps_its_form_and_order() -> None:
    override = Override(True, Ban(math.inf, "slow", NOON.timestamp(), {"by": "me"}), {"note": "x"})
    written = write_record(override)
    ban = {"until": "forever", "reason": "slow", "since": NOON, "by": "me"}
    assert written == {"allow": True, "ban": ban, "note": "x"}
    assert list(written["ban"]) == list(ban)  # type: ignore[call-overload] # a mapping
    assert read_record(Override, written) == override
    assert write_record(Override(ban=Ban())) == {"ban": {"until": "forever"}}


@pytest.mark.parametrize(
    ("declared", "given", "told"),
    [
        (Outcome, {"time": NOON, "outcome": "ready"}, "id is missing"),
        (Outcome, {**WHOLE, "id": ""}, "id is missing"),
        (Outcome, {**WHOLE, "outcome": "nice"}, "'nice' is not a valid FailureClass"),
        (Outcome, {**WHOLE, "time": 5}, "5 is not a time such as 2030-01-31 18:00"),
        (Outcome, {**WHOLE, "host": "me"}, "'me' is not an id"),
        (Outcome, {**WHOLE, "seconds": {"booting": "long"}}, "'long' is not a number of seconds"),
        (Override, {"allow": "sure"}, "allow is true or false, not 'sure'"),
        (Override, {"ban": "soon"}, "'soon' is not a time such as 2030-01-31 18:00, nor 'forever'"),
    ],
)
def test_a_mistake_is_told(declared: type[Outcome], given: Mapping[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}$"):
        read_record(declared, given)


@dataclass(frozen=True)
class Later:
    """A record of a later version."""

    name: str
    rack: Annotated[int, ID_OR_UNKNOWN, Key("rack-number")] = 0
    spare: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)


def test_a_field_is_declared_once() -> None:
    assert write_record(Later("x")) == {"name": "x"}
    assert read_record(Later, {"name": "x", "rack-number": "3", "spare": True}) == Later("x", 3, True)
    assert write_record(Later("x", 3, True)) == {"name": "x", "rack-number": 3, "spare": True}
