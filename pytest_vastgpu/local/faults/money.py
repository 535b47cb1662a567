"""A market that says what cannot be true, above all of money, and one that raises its prices."""

from __future__ import annotations

from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.effects import Raises
from pytest_vastgpu.local.faults.effects import Says

MONEY_FAULTS: tuple[FaultKind, ...] = (
    FaultKind(
        "offer_says",
        "A field of the machine's offers is something else, in JSON's words: -0.5, NaN, null, a text; or missing",
        Layer.API,
        Says("offer"),
        {"field": "inet_down_cost", "says": "-1199"},
    ),
    FaultKind(
        "account_says",
        "A field of the account is something else; for the market as a whole",
        Layer.API,
        Says("account"),
        {"field": "credit", "says": "NaN"},
    ),
    FaultKind(
        "instance_says",
        "A field of the instance is something else from some time on",
        Layer.MID_TEST,
        Says("instance"),
        {"field": "dph_total", "says": "-1", "after_s": 0.0},
    ),
    FaultKind(
        "price_raised",
        "The instance costs so many times as much an hour from some time on, while it runs",
        Layer.MID_TEST,
        Raises(),
        {"times": 10.0, "after_s": 5.0},
    ),
)
