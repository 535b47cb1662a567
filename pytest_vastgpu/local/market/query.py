"""Parses and evaluates Vast's offer query language. Pure.

A query is an object of ``field: {operator: value}`` plus the special keys ``type``, ``order``, ``limit`` and
``allocated_storage``. Values of any type may be strings, because the official client sends strings.
"""

from __future__ import annotations

import functools
import heapq
import math
import operator
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

from pytest_vastgpu.local.market.offer_rows import DEFAULT_STORAGE_GB
from pytest_vastgpu.local.market.offer_rows import PER_USD
from pytest_vastgpu.local.market.offer_rows import Row
from pytest_vastgpu.local.market.offer_rows import country_code
from pytest_vastgpu.local.market.offer_rows import driver_number
from pytest_vastgpu.local.market.offer_rows import per_usd
from pytest_vastgpu.local.market.offer_rows import priced
from pytest_vastgpu.local.market.offer_rows import total_usd_h


class QueryInvalid(ValueError):
    """A query is not valid; the text is the API's message."""


@dataclass(frozen=True)
class Condition:
    """A comparison of one field."""

    field: str
    holds: Callable[[Any], bool]
    quick: Callable[[Any], bool]
    """The same without a Python call for most values, for searches of many offers; raises TypeError for values that
    cannot be compared or remembered."""


@dataclass(frozen=True)
class Query:
    """A checked query."""

    conditions: tuple[Condition, ...]
    order: tuple[tuple[str, bool], ...]
    """The fields to sort by, the most important first, and whether each is descending."""
    limit: int
    storage_gb: float
    bid: bool


_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "rented": {"eq": False},
}
"""The conditions that hold unless the query has its own for the field."""

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
"""The fields for which the official client's Python interface sends a plain value instead of a condition."""
_COMPARISONS: Mapping[str, tuple[Callable[[Any, Any], bool], Callable[[Any, Any], bool]]] = {
    "gt": (operator.gt, operator.lt),
    "gte": (operator.ge, operator.le),
    "lt": (operator.lt, operator.gt),
    "lte": (operator.le, operator.ge),
}
"""Each comparison, and the one with its sides exchanged."""
_PRICED = frozenset({"dph_total", "discounted_dph_total", "dph_total_adj", *PER_USD})


def parse_query(body: object, most: int) -> Query:
    """Check a query.

    :param most: The largest number of offers in one answer.
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


def evaluate(query: Query, rows: Iterable[Row]) -> list[Row]:
    """Return the offers that match a query, in its order, priced for its disk."""
    found = list(rows)
    # Conditions on prices come last, when few offers are left: each price has to be computed.
    for condition in sorted(query.conditions, key=lambda each: each.field in _PRICED):
        values = list(map(_reader(query, condition.field), found))
        try:
            found = list(compress(found, map(condition.quick, values)))
        except TypeError:
            found = list(compress(found, map(condition.holds, values)))
    found = _candidates(query, found)
    # Sorting is stable, so the most important field comes last, and equal offers keep their order.
    for field, descending in reversed(query.order):
        value = _reader(query, field)
        found.sort(key=lambda row: rank(value(row)), reverse=descending)
    return [priced(row, query.storage_gb, bid=query.bid) for row in found[: query.limit]]


def _candidates(query: Query, rows: list[Row]) -> list[Row]:
    """Drop the offers that the most important field excludes from the answer, so that few have to be sorted."""
    if not query.order or not 0 < query.limit < len(rows):
        return rows
    field, descending = query.order[0]
    value = _reader(query, field)
    keys = [rank(value(row)) for row in rows]
    if descending:
        last = heapq.nlargest(query.limit, keys)[-1]
        return [row for row, key in zip(rows, keys, strict=True) if key >= last]
    last = heapq.nsmallest(query.limit, keys)[-1]
    return [row for row, key in zip(rows, keys, strict=True) if key <= last]


def _reader(query: Query, field: str) -> Callable[[Row], Any]:
    """Return a function that reads a field of an offer; prices include the query's disk."""
    if field not in _PRICED:
        return operator.methodcaller("get", field)
    total = functools.partial(total_usd_h, storage_gb=query.storage_gb, bid=query.bid)
    if field not in PER_USD:
        return total
    return lambda row: per_usd(row, field, total(row))


def rank(value: object) -> tuple[int, Any]:
    """A sort key for values of mixed types: numbers, then texts, then None."""
    if isinstance(value, (int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, 0)


def conditions(field: str, tests: object) -> list[Condition]:
    """Parse the conditions on one field, such as ``{"gte": 1, "lte": 4}``.

    :raises QueryInvalid: with the API's message.
    """
    if not isinstance(tests, dict):
        raise QueryInvalid(f"q.{field}: Input should be a valid dictionary")
    name = _ALIASES.get(field, field)
    return [_condition(name, str(word), wanted) for word, wanted in tests.items()]


class _Known(dict[Any, bool]):
    """The results of a test by value, each computed once: a field has few different values, all of one type."""

    def __init__(self, test: Callable[[Any], bool]) -> None:
        super().__init__()
        self._test = test

    def __missing__(self, value: Any) -> bool:
        self[value] = result = self._test(value)
        return result


def _condition(field: str, word: str, wanted: object) -> Condition:
    if word not in _COMPARISONS:
        test = _test(field, word, wanted)
        return Condition(field, test, _Known(test).__getitem__)
    compare, flipped = _COMPARISONS[word]
    bound = _number(field, wanted)
    return Condition(
        field,
        lambda value: isinstance(value, (int, float)) and compare(value, bound),
        functools.partial(flipped, bound),
    )


def _test(field: str, word: str, wanted: object) -> Callable[[Any], bool]:
    """Return the test of an operator. A missing value equals null and false, and is neither greater nor less."""
    if word in {"eq", "in"}:
        return _equals_any(field, wanted if word == "in" and isinstance(wanted, (list, tuple)) else [wanted])
    if word in {"neq", "notin", "nin"}:
        equal = _test(field, "eq" if word == "neq" else "in", wanted)
        return lambda value: not equal(value)
    raise QueryInvalid(f"q.{field}: unknown operator {word!r}")


def _equals_any(field: str, wanted: Iterable[object]) -> Callable[[Any], bool]:
    """Return a test for equality with one of several values, which may be texts of flags and numbers."""
    # By type, because True equals 1 in Python. Sets, because a search runs this for every offer.
    accepted: dict[type, set[object]] = {bool: set(), float: set(), str: set(), type(None): set()}
    accepted[int] = accepted[float]
    places: set[str] = set()
    for item in wanted:
        if field == "geolocation" and isinstance(item, str):
            places.add(item.strip().lower())
            continue
        flag = _flag(item)
        accepted[bool].add(flag)
        accepted[float].add(_number_or_none(field, item))
        accepted[str].add(str(item))
        if item is None or flag is False:
            accepted[type(None)].add(None)

    def equal(value: object) -> bool:
        return value in accepted.get(type(value), ())

    if not places:
        return equal
    return lambda value: equal(value) or (isinstance(value, str) and not places.isdisjoint(_names_of_place(value)))


@functools.lru_cache(maxsize=1024)
def _names_of_place(geolocation: str) -> tuple[str, ...]:
    """The texts that match a geolocation: all of it, its country code, its first part."""
    return geolocation.lower(), country_code(geolocation).lower(), geolocation.partition(",")[0].lower()


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
