"""Decides which offers are admitted: the market applies the conditions, and this module checks them again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.conditions import CONDITIONS
from pytest_vastgpu.selection.conditions import OfferCondition
from pytest_vastgpu.selection.conditions import no_way
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.selection.requirements import OfferRequirements

SEARCH_LIMIT = 64
"""Most rows of one search: the market gives no more at once, and counts the account's rows of each day."""


@dataclass(frozen=True)
class Dropped:
    """An offer that is not admitted."""

    offer: Offer
    failed: tuple[OfferCondition, ...]
    """All conditions that the offer fails, in the table's order; at least one."""


@dataclass(frozen=True)
class Admission:
    """Offers, divided into admitted and dropped ones."""

    kept: tuple[Offer, ...]
    dropped: tuple[Dropped, ...]


def _query(need: OfferRequirements, conditions: Iterable[OfferCondition]) -> OfferQuery:
    filters = (condition.filter(need) for condition in conditions)
    return OfferQuery(tuple(each for each in filters if each), need.workload.disk_gb, SEARCH_LIMIT)


def search_query(need: OfferRequirements) -> OfferQuery:
    """The query for these requirements: every condition that a provider can check, cheapest first."""
    return _query(need, CONDITIONS)


def wide_query(need: OfferRequirements) -> OfferQuery:
    """The query for machines that could run the workload, regardless of the policy."""
    return _query(need, (condition for condition in CONDITIONS if condition.hardware))


def widest_query(need: OfferRequirements) -> OfferQuery:
    """The query for every offer that the market has on demand."""
    return _query(need, ())


def near_queries(need: OfferRequirements, *, hardware: bool) -> list[OfferQuery]:
    """Queries for the offers that miss by the least: each leaves out what one change would relax.

    A wide search shows the cheapest offers only, which may all be far from what is wanted.

    :param hardware: Whether no offer has the hardware: then one need of hardware after the other is left out, and the
        policy is. Otherwise one part of the policy is.
    """
    asked = [condition for condition in CONDITIONS if condition.hardware or not hardware]
    relaxed = dict.fromkeys(
        condition.relax
        for condition in asked
        if condition.hardware is hardware and condition.relax is not no_way and condition.filter(need)
    )
    return [_query(need, (condition for condition in asked if condition.relax is not each)) for each in relaxed]


def admissible(offers: Iterable[Offer], need: OfferRequirements) -> list[Offer]:
    """The offers that meet every condition: the market is known not to apply all of its filters every time.

    It keeps the same offers as :func:`admit`, but does not compute the reasons, which are seldom needed.
    """
    kept = list(offers)
    for condition in CONDITIONS:
        if test := condition.test(need):
            kept = list(filter(test, kept))
    return kept


def admit(offers: Iterable[Offer], need: OfferRequirements) -> Admission:
    """Check every condition, and record which ones an offer fails."""
    tests = [(condition, test) for condition in CONDITIONS if (test := condition.test(need))]
    kept: list[Offer] = []
    dropped: list[Dropped] = []
    for offer in offers:
        if failed := [condition for condition, test in tests if not test(offer)]:
            dropped.append(Dropped(offer, tuple(failed)))
        else:
            kept.append(offer)
    return Admission(tuple(kept), tuple(dropped))
