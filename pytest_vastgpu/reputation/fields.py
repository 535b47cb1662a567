"""Fields of a host cache, as YAML gives them, read into values: a person may have written each of them. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reputation.outcomes import Ban
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.writer import EPOCH
from pytest_vastgpu.reputation.writer import FOREVER


def machine_id(value: object) -> int:
    """An id as a person may have written it: 123, "123" or 123.0.

    :raises ValueError: if it is not a positive whole number.
    """
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"{value!r} is not an id")


def mapping(value: object) -> dict[str, object]:
    """A mapping by name.

    :raises ValueError: if it is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:60]!r} is not a mapping")  # noqa: TRY004 - callers handle what a person mistyped
    return {str(key): item for key, item in value.items()}


def evidence_in(machine: int, fields: dict[str, object]) -> Outcome:
    """A piece of evidence of a machine; what is not known is kept as it is. The fields are used up.

    :raises ValueError: with what is wrong.
    """
    try:
        outcome = FailureClass(str(fields.pop("outcome", "")))
        item = Outcome(
            id=_required_text(fields, "id"),
            time=_time_in(fields.pop("time", None)),
            machine_id=machine,
            outcome=outcome,
            host_id=machine_id(host) if (host := fields.pop("host", None)) else 0,
            gpu_name=_text(fields, "gpu"),
            reason=_text(fields, "reason"),
            workload=_text(fields, "workload"),
            seconds={key: _number(value) for key, value in mapping(fields.pop("seconds", {})).items()},
            run_id=_text(fields, "run"),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from error
    return replace(item, extra=fields)


def entry_in(fields: dict[str, object]) -> Override:
    """What a person has said of a machine or an operator.

    :raises ValueError: with what is wrong.
    """
    fields = dict(fields)
    allowed = fields.pop("allow", False)
    if not isinstance(allowed, bool):
        raise ValueError(f"allow is true or false, not {allowed!r}")  # noqa: TRY004 - as above
    ban = fields.pop("ban", False)
    return Override(allowed, None if ban is False or ban is None else _ban_in(ban), fields)


def _ban_in(value: object) -> Ban:
    if value is True or value == FOREVER:
        return Ban()
    if not isinstance(value, dict):
        return Ban(until=_time_in(value))
    fields = mapping(value)
    until = fields.pop("until", FOREVER)
    since = fields.pop("since", None)
    return Ban(
        until=math.inf if until == FOREVER else _time_in(until),
        since=_time_in(since) if since else 0.0,
        reason=_text(fields, "reason"),
        extra=fields,
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.pop(name, None)
    return "" if value is None else str(value)


def _required_text(fields: dict[str, object], name: str) -> str:
    text = _text(fields, name)
    if not text:
        raise ValueError(f"{name} is missing")
    return text


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is not a number of seconds")


def _time_in(value: object) -> float:
    """Epoch seconds of a time as a person may have written it; without a zone it is UTC, a date is its first moment."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError as error:
            raise ValueError(f"{value!r} is not a time such as 2030-01-31 18:00, nor {FOREVER!r}") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is not a time such as 2030-01-31 18:00")  # noqa: TRY004 - as above
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return round((value - EPOCH) / timedelta(milliseconds=1)) / 1000
