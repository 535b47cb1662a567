"""Which cases of a test are in the quick suite."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def only(quick: Container[Any], values: Iterable[Any]) -> list[ParameterSet]:
    """All these values as parameters; those that are not among the quick ones are run by ``pytest -m slow``."""
    return [pytest.param(value, marks=() if value in quick else pytest.mark.slow) for value in values]
