"""What a market says of money: nothing is reckoned with an amount that cannot be true."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import NoOffers
from pytest_vastgpu.providers import amounts
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.selection.admission import admissible
from pytest_vastgpu.selection.admission import admit
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.search import find_offers
from tests.providers.vast.scripted import ScriptedServer
from tests.selection.test_search import row
from tests.selection.values import need
from tests.selection.values import workload

FIELDS = [figure.field for figure in amounts.FIGURES]
WRONG = [
    pytest.param("-0.01", "below 0", id="negative"),
    pytest.param("-1199", "below 0", id="very negative"),
    pytest.param("NaN", "nan, not an amount", id="nan"),
    pytest.param("Infinity", "inf, not an amount", id="infinite"),
    pytest.param("1e12", "above anything there is", id="absurd"),
    pytest.param("1e999", "inf, not an amount", id="overflow"),
    pytest.param('"free"', "'free', not a number", id="text"),
    pytest.param("true", "a bool, not a number", id="switch"),
    pytest.param("[0.1]", "a list, not a number", id="list"),
    pytest.param("null", "missing", id="null"),
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("says", "why"), WRONG)
def test_an_offer_whose_figures_cannot_be_true_is_refused_with_the_reason(field: str, says: str, why: str) -> None:
    sound, wrong = schema.offers({"offers": [row(id=1), row(id=2, **{field: json.loads(says)})]})
    wanted = need(workload(model_gb=1000))
    assert admissible([sound, wrong], wanted) == [sound]
    (dropped,) = admit([sound, wrong], wanted).dropped
    assert dropped.offer is wrong
    [money] = [condition for condition in dropped.failed if condition.name == "money"]
    told = money.has(wrong, wanted)
    assert told.startswith(f"{field} is ")
    assert why in told
    # Nor does it pass a limit where the caller ignores the reason.
    assert not hourly_usd(replace(wrong, incredible=""), wanted.workload) <= 1e9 or field not in (
        "dph_total",
        "inet_down_cost",
    )


def test_the_reason_is_shown_where_nothing_is_left(client: MarketClient, server: ScriptedServer) -> None:
    server.will_answer(*[{"offers": [row(inet_down_cost=-1199)]}] * 2)
    with pytest.raises(NoOffers) as told:
        find_offers(client.search, need())
    assert "1 by money: amounts of money that can be true is wanted, not: inet_down_cost is -1199" in str(told.value)


@pytest.mark.parametrize(("says", "why"), WRONG[2:])
def test_a_credit_that_cannot_be_true_is_no_credit(says: str, why: str) -> None:
    with pytest.raises(MarketAnswerInvalid, match="credit is") as told:
        schema.account({"id": 1, "credit": json.loads(says)})
    assert why in str(told.value)


def test_an_account_may_owe_something() -> None:
    assert schema.account({"id": 1, "credit": -3.5}).credit_usd == -3.5


@pytest.mark.parametrize(("says", "why"), WRONG[:-1])
def test_the_price_of_an_instance_is_believed_or_named(says: str, why: str) -> None:
    status: Any = schema.one_instance({"instances": {"id": 7, "dph_total": json.loads(says)}})
    assert status.price_usd_h == 0
    assert why in status.incredible


def test_an_instance_without_a_price_has_none_yet() -> None:
    status = schema.one_instance({"instances": {"id": 7, "dph_total": None}})
    assert status is not None
    assert (status.price_usd_h, status.incredible) == (0, "")
    assert not math.isnan(status.price_usd_h)
