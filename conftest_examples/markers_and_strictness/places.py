"""Where this team's test data may go: the European Union, or this machine (which is in no country)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vastgpu import Offer

HERE = "This machine"
EUROPEAN_UNION = frozenset(
    ["AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU"]
    + ["IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"]
)


def allowed(offer: Offer) -> bool:
    """The market spells a place ``Sweden, SE``."""
    return offer.geolocation == HERE or offer.geolocation.rpartition(", ")[2] in EUROPEAN_UNION
