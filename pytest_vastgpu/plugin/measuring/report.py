"""How measurements reach the report: as properties of tests, which xdist brings to its controller."""

from __future__ import annotations

import json

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.measuring.record import COMPARISON
from pytest_vastgpu.measuring.record import MEASUREMENT
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import to_json
from pytest_vastgpu.plugin.reports import add


def keep(item: pytest.Item, record: Measured | Compared) -> None:
    """Keep what a test has measured for the run's report. A test that is tried again starts without it."""
    name = MEASUREMENT if isinstance(record, Measured) else COMPARISON
    add(item, [(name, json.dumps(sanitize.clean(to_json(record))))])
