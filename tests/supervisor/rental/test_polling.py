from __future__ import annotations

import math

import pytest

from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.supervisor.rental.give_up import ConnectAttempt
from pytest_vastgpu.supervisor.rental.polling import connect_pause_s
from pytest_vastgpu.supervisor.rental.polling import poll_pause_s

REFUSED = (ProbeFailure.REFUSED,)
KEY = (ProbeFailure.AUTHENTICATION,)


@pytest.mark.parametrize(
    ("awaited_s", "pause_s"),
    [(-1, 0.05), (0, 0.05), (0.5, 0.05), (2, 0.2), (5, 0.5), (25, 0.5), (60, 1.2), (250, 5), (3600, 5)],
)
def test_looks_grow_rarer_with_what_was_waited(awaited_s: float, pause_s: float) -> None:
    assert poll_pause_s(awaited_s) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("young_s", "pause_s"), [(0, 0.1), (10, 0.1), (30, 0.3), (50, 0.5), (300, 0.5), (-math.inf, 1.0)]
)
def test_attempts_are_quick_while_it_is_young_and_slow_before_it_runs(young_s: float, pause_s: float) -> None:
    attempt = ConnectAttempt(100.0 + young_s if math.isfinite(young_s) else 100.0, REFUSED)
    assert connect_pause_s([attempt], 100.0 if math.isfinite(young_s) else math.inf) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("failures", "pause_s"),
    [
        ([KEY], 0.5),
        ([KEY, KEY], 1.0),
        ([KEY, KEY, KEY, KEY], 4.0),
        ([KEY] * 9, 5.0),
        ([KEY] * 9 + [REFUSED], 0.1),
        ([KEY] * 9 + [REFUSED, KEY], 0.5),
        ([(ProbeFailure.UNREACHABLE, ProbeFailure.AUTHENTICATION)], 0.5),
    ],
)
def test_a_refused_key_is_shown_ever_more_rarely(failures: list[tuple[ProbeFailure, ...]], pause_s: float) -> None:
    assert connect_pause_s([ConnectAttempt(1.0, each) for each in failures], 1.0) == pytest.approx(pause_s)


def test_no_server_shuts_us_out_for_its_default_penalties() -> None:
    """OpenSSH adds 5 s for each refused login, takes a second off each second, and shuts out from 15 s on."""
    now = penalty = 0.0
    attempts: list[ConnectAttempt] = []
    for _ in range(100):
        assert penalty < 15, f"shut out at the try after {now:g} s"
        attempts.append(ConnectAttempt(now, KEY))
        pause = connect_pause_s(attempts, 0.0)
        penalty = max(0.0, penalty + 5 - pause)
        now += pause
