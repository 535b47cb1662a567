from __future__ import annotations

import pytest

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.core.text.durations import measured
from pytest_vastgpu.core.text.durations import parse_duration
from pytest_vastgpu.core.text.durations import spoken


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("1.5m", 90.0), ("36h", 1.5 * DAY_S), ("1d12h", 1.5 * DAY_S), ("2w", 14 * DAY_S)],
)
def test_what_people_write(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "h", "-1h", "1y", "0s", "1h ", "101w5300w", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90m, 36h, 7d or 1d12h"):
        parse_duration(text)


def test_what_a_table_shows() -> None:
    assert (measured(0.0), measured(12.34), measured(12.34, 1)) == ("-", "12 s", "12.3 s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (270, "4 min 30 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (3900, "1 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_what_people_who_wait_read(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
