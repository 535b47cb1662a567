"""Finds the country of a machine."""

from __future__ import annotations

import re
from functools import lru_cache

from pytest_vastgpu.model import Offer

_CODE = re.compile(r"(?:^|,)\s*([A-Za-z]{2})\s*$")


def country(offer: Offer) -> str:
    """The two-letter code at the end of ``Sweden, SE``; empty if there is none."""
    return _code(offer.geolocation)


@lru_cache(maxsize=1024)  # the market has far more offers than places
def _code(place: str) -> str:
    found = _CODE.search(place)
    return found.group(1).upper() if found else ""
