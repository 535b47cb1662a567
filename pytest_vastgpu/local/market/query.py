"""Vast's offer query language, evaluated. Pure.

A query is an object of ``field: {operator: value}`` plus the special keys ``type``, ``order``, ``limit`` and
``allocated_storage``. Values may be strings whatever the field's type, since the official client sends them so.
"""

from __future__ import annotations

import functools
import heapq
import math
import operator
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_vastgpu.local.market.column_index import ColumnIndex
from pytest_vastgpu.local.market.offer_rows import DEFAULT_STORAGE_GB
from pytest_vastgpu.local.market.offer_rows import PER_USD
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import country_code
from pytest_vastgpu.local.market.offer_rows import driver_number
from pytest_vastgpu.local.market.offer_rows import priced
from pytest_vastgpu.local.market.offer_rows import usd_h


class QueryInvalid(ValueError):
    """A query that cannot be evaluated; the text is the API's message."""


@dataclass(frozen=True)
class Condition:
    """One comparison of one field."""

    field: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Query:
    """A query, checked."""

    conditions: tuple[Condition, ...]
    order: tuple[tuple[str, bool], ...]
    """Fields, and whether each is descending; the first one leads."""
    limit: int
    storage_gb: float
    bid: bool


_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "rented": {"eq": False},
}
"""What the market asks for where the query does not say."""

_ALIASES = {"reliability": "reliability2", "driver_version": "driver_vers", "dph": "dph_total"}
_BIDS = {"on-demand": False, "ondemand": False, "reserved": False, "bid": True, "interruptible": True}
_NO_FILTERS = frozenset(
    {
        *("type", "order", "limit", "allocated_storage", "q", "select_cols", "extra", "disable_bundling"),
        *("target_reliability", "extra_ids", "gpu_option", "show_incompatible", "sort_option"),
        *("template_id", "template_hash_id"),
    }
)
_PLAIN = frozenset({"external", "has_avx"})
"""What the official client's Python interface gives as a plain value."""
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_PRICED = frozenset({"dph_total", "discounted_dph_total", "dph_total_adj", *PER_USD})


def parse_query(body: object, most: int) -> Query:
    """Check a query.

    :param most: How many offers one search gives at most.
    :raises QueryInvalid: with the API's message.
    """
    if not isinstance(body, dict):
        raise QueryInvalid("Invalid query: must be dict of conditions")
    kind = body.get("type") or "on-demand"
    if not isinstance(kind, str) or kind not in _BIDS:
        raise QueryInvalid(f"q.type: Input should be 'on-demand', 'bid' or 'reserved', not {kind!r}")
    found: list[Condition] = []
    for field, tests in {**_DEFAULTS, **body}.items():
        if field in _PLAIN and not isinstance(tests, dict):
            found += conditions(field, {"eq": tests})
        elif field not in _NO_FILTERS:
            found += conditions(field, tests)
    limit, storage = body.get("limit"), body.get("allocated_storage")
    return Query(
        conditions=tuple(found),
        order=_order(body.get("order")),
        limit=most if limit is None else max(0, min(most, int(_number("limit", limit)))),
        storage_gb=DEFAULT_STORAGE_GB if storage is None else _number("allocated_storage", storage),
        bid=_BIDS[kind],
    )


def evaluate(query: Query, table: ColumnIndex) -> list[Row]:
    """The offers that a query finds, in its order, priced for its disk."""
    plain = [condition for condition in query.conditions if condition.field not in _PRICED]
    view = _View(query, table, _select(plain, table))
    for condition in query.conditions:
        if condition.field in _PRICED:
            values = view.values(condition.field)
            kept = [each for each, value in zip(view.positions, values, strict=True) if condition.holds(value)]
            view = _View(query, table, kept)
    # The position comes last: equal offers stay in their order.
    keys = [_sort_key(view.values(field), descending) for field, descending in query.order]
    first = heapq.nsmallest(query.limit, zip(*keys, view.positions, strict=True))
    return [priced(table.rows[each[-1]], query.storage_gb, bid=query.bid) for each in first]


def _select(wanted: Sequence[Condition], table: ColumnIndex) -> Sequence[int]:
    """The positions of the offers for which all conditions hold, in order."""
    found = table.everything
    others: list[Condition] = []
    for condition in wanted:
        index = table.index(condition.field)
        if index is None:
            others.append(condition)
        else:
            found &= functools.reduce(
                operator.or_, (rows for value, rows in index.items() if condition.holds(value)), 0
            )
    positions = table.positions(found)
    for condition in others:
        column = table.column(condition.field)
        positions = [each for each in positions if condition.holds(column[each])]
    return positions


class _View:
    """Some offers, and what the query's disk makes of their prices."""

    def __init__(self, query: Query, table: ColumnIndex, positions: Sequence[int]) -> None:
        self._query = query
        self._table = table
        self.positions = positions
        self._prices: list[float] | None = None

    def values(self, field: str) -> Sequence[Any]:
        """A field's value in each of the offers."""
        if field in PER_USD:
            per = zip(self._plain(PER_USD[field]), self.values("dph_total"), strict=True)
            return [figure / total if total else 0.0 for figure, total in per]
        if field not in _PRICED:
            return self._plain(field)
        if self._prices is None:
            base = self._plain("min_bid" if self._query.bid else "dph_base")
            storage = self._plain("storage_cost")
            self._prices = [usd_h(gpu, each, self._query.storage_gb) for gpu, each in zip(base, storage, strict=True)]
        return self._prices

    def _plain(self, field: str) -> list[Any]:
        column = self._table.column(field)
        return [column[each] for each in self.positions]


def _sort_key(values: Sequence[Any], descending: bool) -> Sequence[float]:
    """Numbers that sort as the values do."""
    if not {bool, int, float}.issuperset(map(type, values)):
        places = {value: place for place, value in enumerate(sorted(set(values), key=rank))}
        values = [places[value] for value in values]
    return list(map(operator.neg, values)) if descending else values


def rank(value: object) -> tuple[int, Any]:
    """Numbers before texts before nothing, so that a mixed column sorts."""
    if isinstance(value, (int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, 0)


def conditions(field: str, tests: object) -> list[Condition]:
    """The conditions on one field, as in ``{"gte": 1, "lte": 4}``.

    :raises QueryInvalid: with the API's message.
    """
    if not isinstance(tests, dict):
        raise QueryInvalid(f"q.{field}: Input should be a valid dictionary")
    name = _ALIASES.get(field, field)
    return [Condition(name, _test(name, str(word), wanted)) for word, wanted in tests.items()]


def _test(field: str, word: str, wanted: object) -> Callable[[Any], bool]:
    """The test of one operator. A value that is not there equals null and false, and is neither more nor less."""
    if word in {"in", "notin", "nin"}:
        each = [_equals(field, item) for item in (wanted if isinstance(wanted, (list, tuple)) else [wanted])]
        if word == "in":
            return lambda value: any(equal(value) for equal in each)
        return lambda value: not any(equal(value) for equal in each)
    if word in {"eq", "neq"}:
        equal = _equals(field, wanted)
        return equal if word == "eq" else lambda value: not equal(value)
    if word not in _COMPARISONS:
        raise QueryInvalid(f"q.{field}: unknown operator {word!r}")
    compare, bound = _COMPARISONS[word], _number(field, wanted)
    return lambda value: isinstance(value, (int, float)) and compare(value, bound)


def _equals(field: str, wanted: object) -> Callable[[Any], bool]:
    if field == "geolocation" and isinstance(wanted, str):
        place = wanted.strip().lower()
        return lambda value: (
            isinstance(value, str)
            and place in {value.lower(), country_code(value).lower(), value.partition(",")[0].lower()}
        )
    flag = _flag(wanted)
    text = str(wanted)
    number = _number_or_none(field, wanted)

    def equal(value: object) -> bool:
        if value is None:
            return wanted is None or flag is False
        if isinstance(value, bool):
            return flag is value
        if isinstance(value, (int, float)):
            return number is not None and value == number
        return value == text

    return equal


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).lower())


def _number_or_none(field: str, value: object) -> float | None:
    if field == "driver_vers" and isinstance(value, str) and "." in value:
        return float(driver_number(value))
    if isinstance(value, (int, float, str)):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _number(field: str, value: object) -> float:
    number = _number_or_none(field, value)
    if number is None or not math.isfinite(number):
        raise QueryInvalid(f"q.{field}: Input should be a valid number, not {value!r}")
    return number


def _order(wanted: object) -> tuple[tuple[str, bool], ...]:
    if wanted is None:
        return (("score", True),)
    if not isinstance(wanted, list):
        raise QueryInvalid("q.order: Input should be a valid list")
    order: list[tuple[str, bool]] = []
    for item in wanted:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or str(item[1]).lower() not in {"asc", "desc"}:
            raise QueryInvalid(f"q.order: Input should be [field, 'asc' or 'desc'], not {item!r}")
        order.append((_ALIASES.get(str(item[0]), str(item[0])), str(item[1]).lower() == "desc"))
    return tuple(order)
