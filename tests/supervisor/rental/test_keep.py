"""Which instances are left for a look inside, and what is said of them."""

from __future__ import annotations

import time

import pytest

from pytest_vastgpu.client.calls import Kept
from pytest_vastgpu.model import State
from pytest_vastgpu.option_values import Keep
from pytest_vastgpu.supervisor.rental.keep import wanted


@pytest.mark.parametrize(
    ("when", "state", "went_wrong", "kept"),
    [
        ("no", State.READY, True, False),
        ("no", State.FAILED, True, False),
        ("failed", State.READY, False, False),
        ("failed", State.READY, True, True),
        ("failed", State.FAILED, True, True),
        ("always", State.READY, False, True),
        ("always", State.FAILED, True, True),
        # Called off on its way up, or on its way out already.
        *(("always", state, True, False) for state in State if state not in (State.READY, State.FAILED)),
    ],
)
def test_who_is_kept(when: str, state: State, went_wrong: bool, kept: bool) -> None:
    assert wanted(Keep(when, 60.0), state, went_wrong=went_wrong) is kept


def test_what_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    kept = Kept(4711, "ssh -i '/a key' -p 22022 root@host", 0.36, 1_800_000_000.0, 1800.0)
    assert kept.lines() == [
        "KEPT: instance 4711 until 08:00:00 on 15 Jan, at 0.360 USD/h (0.1800 USD)",
        "  look inside: ssh -i '/a key' -p 22022 root@host",
        "  end it now:  vastgpu destroy 4711",
    ]
