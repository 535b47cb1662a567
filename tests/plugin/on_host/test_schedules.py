"""Which modes of distribution are taken, and which is refused."""

from __future__ import annotations

import pytest

from pytest_vastgpu.plugin.on_host import schedules


@pytest.mark.parametrize("dist", [schedules.DEFAULT, "load", *schedules.OWN])
def test_what_the_user_asks_for_is_taken(dist: str) -> None:
    schedules.may_distribute(dist)


def test_each_is_refused_before_anything_is_rented() -> None:
    with pytest.raises(pytest.UsageError, match="--dist each and --vast-hosts exclude each other"):
        schedules.may_distribute("each")
