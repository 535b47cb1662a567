from __future__ import annotations

import itertools
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.reporting.costs import CostRecord
from pytest_vastgpu.reporting.costs import EarlierPrice
from pytest_vastgpu.reporting.costs import Shares
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.reporting.costs import by_test
from pytest_vastgpu.reporting.costs import shares
from pytest_vastgpu.reporting.costs import spent

BILL = CostRecord("i", usd_h=3.6, transfer_usd=0.25, since=1000.0, until=1100.0)
"""A thousandth of a dollar a second: a hundred seconds and the transfer are 0.35 USD."""


def usd(*amounts: float) -> list[Decimal]:
    return [Decimal(str(amount)).quantize(Decimal("1e-9")) for amount in amounts]


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        pytest.param([], {}, id="nobody: all is overhead"),
        pytest.param([("a", 1010, 1020)], {"a": 0.01}, id="alone"),
        pytest.param([("a", 1010, 1020), ("a", 1050, 1055)], {"a": 0.015}, id="twice"),
        pytest.param([("a", 1010, 1030), ("b", 1020, 1030)], {"a": 0.015, "b": 0.005}, id="two share what they share"),
        pytest.param([("a", 1010, 1020), ("b", 1020, 1030)], {"a": 0.01, "b": 0.01}, id="one after the other"),
        pytest.param([("a", 1010, 1020), ("a", 1015, 1025)], {"a": 0.015}, id="held twice, counted once"),
        pytest.param([("a", 1090, math.inf)], {"a": 0.01}, id="still going on"),
        pytest.param([("a", 900, 1001), ("b", 1099, 1200)], {"a": 0.001, "b": 0.001}, id="only while it was there"),
        pytest.param([("a", 800, 900), ("b", 1200, 1300), ("c", 1010, 1010)], {}, id="before, after, and not at all"),
        pytest.param(
            [("a", 1000, 1003), ("b", 1000, 1003), ("c", 1000, 1003)], dict.fromkeys("abc", 0.001), id="a third each"
        ),
    ],
)
def test_each_moment_is_shared_by_those_who_use_it(
    uses: list[tuple[str, float, float]], expected: dict[str, float]
) -> None:
    divided = shares(BILL, [Use(test, "i", start, end) for test, start, end in uses])
    assert divided.tests == {test: usd(cost)[0] for test, cost in expected.items()}
    assert divided.cost == usd(0.35)[0]
    assert divided.overhead + sum(divided.tests.values()) == divided.cost


def test_other_instances_are_not_its_affair() -> None:
    assert shares(BILL, [Use("a", "other", 1010, 1020)]) == Shares(usd(0.35)[0])


def test_seconds_are_those_of_the_clock_however_many_share_them() -> None:
    divided = shares(BILL, [Use("a", "i", 1010, 1030), Use("b", "i", 1020, 1040)])
    assert divided.seconds == {"a": 20.0, "b": 20.0}


def test_a_tests_cost_is_the_sum_over_its_instances_and_the_dearest_comes_first() -> None:
    one = Shares(Decimal(2), {"a": Decimal("0.5"), "b": Decimal("0.6")})
    two = Shares(Decimal(1), {"a": Decimal("0.25")})
    assert list(by_test([one, two]).items()) == [("a", Decimal("0.75")), ("b", Decimal("0.6"))]


def test_what_a_test_has_spent_so_far_is_its_part_of_the_whole() -> None:
    bills = {label: BILL._replace(label=label) for label in "ij"}
    uses = [
        Use("before", "i", 1000, 1010),
        Use("beside", "i", 1005, 1030),
        Use("it", "i", 1020, math.inf),
        Use("it", "j", 1040, 1050),
        Use("it", "unknown", 1040, 1050),
        Use("elsewhere", "j", 1000, 1040),
    ]
    whole = by_test(shares(bill, uses) for bill in bills.values())
    for test in whole:
        assert spent(test, bills, uses) == whole[test]
    assert spent("none", bills, uses) == 0


moments = st.floats(0, 10_000)
uses_of_one = st.lists(
    st.builds(
        lambda test, start, length: Use(test, "i", start, start + length),
        st.sampled_from("abcdefgh"),
        moments,
        st.one_of(st.floats(0, 3000), st.just(math.inf)),
    ),
    max_size=40,
)


@given(
    bill=st.builds(
        lambda usd_h, transfer, since, length: CostRecord("i", usd_h, transfer, since, since + length),
        st.floats(0, 50),
        st.floats(0, 5),
        moments,
        st.floats(0, 10_000),
    ),
    uses=uses_of_one,
)
def test_the_parts_add_up_to_the_cost_to_the_last_digit(bill: CostRecord, uses: list[Use]) -> None:
    divided = shares(bill, uses)
    assert divided.cost == sum(divided.tests.values(), divided.overhead)
    assert all(cost >= 0 for cost in divided.tests.values())
    assert divided.overhead >= Decimal(bill.transfer_usd) - Decimal("1e-9")
    assert abs(divided.cost - Decimal(bill.cost_usd)) <= Decimal("5e-10")
    # Shared or not, together they pay for every second in which a test used it, and for no other.
    starts_and_ends = (moment for use in uses for moment in (use.start, use.end))
    edges = sorted(
        {bill.since, bill.until, *(moment for moment in starts_and_ends if bill.since < moment < bill.until)}
    )
    used = math.fsum(
        end - start
        for start, end in itertools.pairwise(edges)
        if any(use.start <= start and end <= use.end for use in uses)
    )
    assert math.isclose(
        float(sum(divided.tests.values())), bill.usd_h * used / 3600, rel_tol=1e-6, abs_tol=1e-8 * (1 + len(uses))
    )


def test_a_price_that_was_raised_holds_from_then_on() -> None:
    raised = BILL._replace(usd_h=36.0, earlier=(EarlierPrice(3.6, 1050.0),))
    assert raised.cost_usd == pytest.approx(0.05 + 0.5 + 0.25)
    divided = shares(raised, [Use("a", "i", 1010, 1020), Use("b", "i", 1040, 1060)])
    assert divided.tests == {"a": usd(0.01)[0], "b": usd(0.01 + 0.1)[0]}
    assert divided.seconds == {"a": 10.0, "b": 20.0}
    assert divided.overhead + sum(divided.tests.values()) == divided.cost


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-100, 3000))), st.floats(-10, 2000))
def test_no_cost_is_ever_negative(earlier: list[tuple[float, float]], until: float) -> None:
    prices = tuple(EarlierPrice(usd_h, at) for usd_h, at in earlier)
    bill = BILL._replace(until=until, earlier=prices)
    assert bill.cost_usd >= bill.transfer_usd
    assert all(end >= start for start, end, _ in bill.stretches)
