"""What strictness, price limit and the conftest's filter promise of a machine, seen on the one that was rented."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import allowed

from pytest_vastgpu import VastInstance
from pytest_vastgpu import command

HERE = Path(__file__).parent

pytestmark = pytest.mark.vast(
    command(
        "exec python3 -m http.server 8000 --bind 127.0.0.1",
        files={"greeting.txt": HERE / "greeting.txt"},
        ready_path="/greeting.txt",
        gpus=0,
    )
)


def test_strict_admits_dependable_machines_only(vast_instance: VastInstance):
    offer = vast_instance.offer
    assert offer.verified
    assert offer.reliability >= 0.995
    assert offer.direct_port_count >= 16
    assert offer.inet_down_mbps >= 500


def test_the_price_limit_of_the_ini_file_holds(vast_instance: VastInstance):
    assert vast_instance.offer.price_usd_h <= 0.50


def test_the_conftests_filter_chose_the_place(vast_instance: VastInstance):
    assert allowed(vast_instance.offer)
