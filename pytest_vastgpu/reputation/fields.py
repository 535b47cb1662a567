"""Converts single values of a host cache from YAML and back; a person may have written any of them. Pure."""

from __future__ import annotations

import math
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = "forever"
"""The end of a ban without end."""


def machine_id(value: object) -> int:
    """An id in the forms that people write: 123, "123" or 123.0.

    :raises ValueError: if the value is not a positive whole number.
    """
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"{value!r} is not an id")


def mapping(value: object) -> dict[str, object]:
    """A mapping with text keys.

    :raises ValueError: if the value is not a mapping.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:60]!r} is not a mapping")  # noqa: TRY004 - a user's typing error is a ValueError
    return {str(key): item for key, item in value.items()}


def text(value: object) -> str:
    """A text; numbers and dates that a person wrote without quotes are converted."""
    return "" if value is None else str(value)


def seconds(value: object) -> float:
    """A duration in seconds.

    :raises ValueError: if the value is not a finite number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is not a number of seconds")


def time_in(value: object) -> float:
    """Epoch seconds of a time in the forms that people write; without a zone it is UTC, a date means its first moment.

    :raises ValueError: if the value is not a time.
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
    """The time in the form that YAML writes.

    :param value: Epoch seconds.
    """
    return EPOCH + timedelta(milliseconds=round(value * 1000))
