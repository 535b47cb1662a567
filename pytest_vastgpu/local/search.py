"""Vast's offer query language, evaluated. Pure.

A query is an object of ``field: {operator: value}`` plus the special keys ``type``, ``order``, ``limit`` and
``allocated_storage``. Values may be strings whatever the field's type, since the official client sends them so.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_vastgpu.local.offers import DEFAULT_STORAGE_GB
from pytest_vastgpu.local.offers import PER_USD
from pytest_vastgpu.local.offers import Row
from pytest_vastgpu.local.offers import country_code
from pytest_vastgpu.local.offers import driver_number
from pytest_vastgpu.local.offers import priced
from pytest_vastgpu.local.offers import total_usd_h


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
_NO_FILTERS = frozenset({"type", "order", "limit", "allocated_storage", "q", "select_cols", "extra"})
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
    if kind not in _BIDS:
        raise QueryInvalid(f"q.type: Input should be 'on-demand', 'bid' or 'reserved', not {kind!r}")
    found: list[Condition] = []
    for field, tests in {**_DEFAULTS, **body}.items():
        if field not in _NO_FILTERS:
            found += conditions(field, tests)
    limit = body.get("limit")
    return Query(
        conditions=tuple(found),
        order=_order(body.get("order")),
        limit=most if limit is None else max(0, min(most, int(_number("limit", limit)))),
        storage_gb=_number("allocated_storage", body.get("allocated_storage", DEFAULT_STORAGE_GB)),
        bid=_BIDS[kind],
    )


def evaluate(query: Query, rows: Sequence[Row]) -> list[Row]:
    """The offers that a query finds, in its order, priced for its disk."""
    found = list(rows)
    # What the price decides comes last, when few offers are left to be priced.
    for condition in sorted(query.conditions, key=lambda condition: condition.field in _PRICED):
        found = _select(found, condition, _getter(condition.field, query))
    for field, descending in reversed(query.order):
        value = _getter(field, query)
        found.sort(key=lambda row, value=value: rank(value(row)), reverse=descending)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    return [priced(row, query.storage_gb, bid=query.bid) for row in found[: query.limit]]


def _select(rows: list[Row], condition: Condition, value: Callable[[Row], Any]) -> list[Row]:
    """The rows for which a condition holds. It is asked once for each different value: most columns have few."""
    column = [value(row) for row in rows]
    good = {each for each in set(column) if condition.holds(each)}
    return [row for row, each in zip(rows, column, strict=True) if each in good]


def _getter(field: str, query: Query) -> Callable[[Row], Any]:
    """Takes a field's value from an offer; what depends on the price is reckoned."""
    if field in PER_USD:
        of = PER_USD[field]

        def per_usd(row: Row) -> float:
            total = total_usd_h(row, query.storage_gb, bid=query.bid)
            return float(row[of] / total) if total else 0.0

        return per_usd
    if field in _PRICED:
        return lambda row: total_usd_h(row, query.storage_gb, bid=query.bid)
    return lambda row: row.get(field)


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
    if number is None or number != number:
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
