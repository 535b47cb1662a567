"""Where a machine stands."""

from __future__ import annotations

import re

from pytest_vastgpu.model import Offer


def country(offer: Offer) -> str:
    """The two-letter code at the end of ``Sweden, SE``; empty where there is none."""
    found = re.search(r"(?:^|,)\s*([A-Za-z]{2})\s*$", offer.geolocation)
    return found.group(1).upper() if found else ""
