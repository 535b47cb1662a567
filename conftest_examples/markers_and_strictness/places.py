"""Which machines this team takes: near ones, since their tests send a lot of data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vastgpu import Offer

HERE = "This machine"  # the local market's, which is in no country
NEAR = frozenset({"DE", "DK", "FI", "NL", "NO", "SE"})


def allowed(offer: Offer) -> bool:
    """The market spells a place ``Sweden, SE``."""
    return offer.geolocation == HERE or offer.geolocation.rpartition(", ")[2] in NEAR
