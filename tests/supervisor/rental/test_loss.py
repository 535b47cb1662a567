from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental.loss import Seen
from pytest_vastgpu.supervisor.rental.loss import confirm_lost
from tests.support.vast import make_status

RUNS = make_status(actual_status="running")
OFFLINE = make_status(actual_status="offline")
SILENT = MarketUnreachable("timed out")


class Asked:
    """SSH and the market, which answer one thing after the other."""

    def __init__(self, ssh: Sequence[bool], market: Sequence[InstanceStatus | MarketUnreachable | None]) -> None:
        self._ssh: Iterator[bool] = iter(ssh)
        self._market = iter(market)
        self.waits = 0

    def run(self, command: str, timeout_s: float) -> ProbeResult:
        failure = ProbeFailure.NONE if next(self._ssh) else ProbeFailure.TRANSPORT
        return ProbeResult(command, failure, None, "", "", 0.0)

    def show(self, instance_id: int) -> InstanceStatus | None:
        answer = next(self._market)
        if isinstance(answer, MarketUnreachable):
            raise answer
        return answer

    def wait(self) -> None:
        self.waits += 1


@pytest.mark.parametrize(
    ("ssh", "market", "evidence"),
    [
        pytest.param([True], [], None, id="SSH answers"),
        pytest.param([False, True], [RUNS], None, id="SSH answers again"),
        pytest.param([False, True], [None], None, id="SSH answers again, and the market has lost it for one look"),
        pytest.param([False, False], [None, SILENT], None, id="the market does not answer"),
        pytest.param([False, False], [None, None], "the market no longer knows it", id="gone twice"),
        pytest.param([False, False], [None, OFFLINE], "actual_status is offline", id="gone once, then offline"),
        pytest.param([False, False], [RUNS, RUNS], "actual_status is running", id="SSH silent twice"),
    ],
)
def test_an_instance_is_lost_where_two_looks_say_so(
    ssh: Sequence[bool], market: Sequence[InstanceStatus | MarketUnreachable | None], evidence: str | None
) -> None:
    asked = Asked(ssh, market)
    seen = Seen(7, cast("Any", asked), None, Path("artifacts"), lambda verdict: verdict)
    verdict = confirm_lost(seen, cast("Any", asked), asked.wait)
    assert asked.waits == len(ssh) - 1
    if evidence is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert verdict.failure_class is FailureClass.RUNTIME_LOST
        assert evidence in verdict.evidence
