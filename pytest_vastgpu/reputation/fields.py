"""Single values of a host cache, from what YAML gives and back: a person may have written each of them. Pure."""

from __future__ import annotations

import math
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = "forever"
"""End of a ban that has none."""


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

    :raises ValueError: if it is not one.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:60]!r} is not a mapping")  # noqa: TRY004 - callers handle what a person mistyped
    return {str(key): item for key, item in value.items()}


def text(value: object) -> str:
    """A text; a number or a date that a person has not put in quotes is one as well."""
    return "" if value is None else str(value)


def seconds(value: object) -> float:
    """A duration.

    :raises ValueError: if it is no finite number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is not a number of seconds")


def time_in(value: object) -> float:
    """Epoch seconds of a time as a person may have written it; without a zone it is UTC, a date is its first moment.

    :raises ValueError: if it is no time.
    """
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


def time_out(value: float) -> datetime:
    """The time as YAML writes it.

    :param value: Epoch seconds.
    """
    return EPOCH + timedelta(milliseconds=round(value * 1000))
