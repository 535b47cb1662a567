from __future__ import annotations

import pytest

from pytest_vastgpu.core.backoff import backoff_s


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (10_000, 3.0)])
def test_each_failure_doubles_the_pause(failures: int, pause_s: float) -> None:
    assert backoff_s(0.5, failures, 3.0) == pause_s
