from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.summary import dearest
from pytest_vastgpu.reporting.summary import table
from pytest_vastgpu.reporting.summary import total
from tests.support.factories import make_offer

WORKLOAD = Workload("vllm", model="org/model")
BROKEN = Attempt(
    1,
    "label-1",
    make_offer(machine_id=11, price_usd_h=0.3),
    101,
    Verdict(
        FailureClass.INFRA_FATAL, "cdi_device_unresolvable", "OCI runtime create failed: CDI", "another host is tried"
    ),
    State.BOOTING,
    {"created": 0.5, "booting": 11.0},
    0.0012,
)
BAD_FLAG = Attempt(
    2,
    "label-2",
    make_offer(machine_id=12, price_usd_h=0.4, num_gpus=2),
    102,
    Verdict(
        FailureClass.WORKLOAD_FATAL,
        "bad_cli_argument",
        "vllm: error: unrecognized arguments: --foo",
        "mend the argument",
    ),
    State.WARMING,
    {"created": 0.5, "booting": 20.0, "reachable": 0.3, "checked": 0.2, "warming": 12.0},
    0.0056,
    log_tail="usage: vllm\nvllm: error: unrecognized arguments: --foo",
    artifacts="/home/me/vast-artifacts/ab12/2",
)
GOOD = Attempt(3, "label-3", make_offer(machine_id=13), 103, None, None, {"warming": 7.0, "ready": 60.0}, 0.01)


def test_a_failed_start_says_step_fault_evidence_remedy_and_the_servers_last_words() -> None:
    assert failure(WORKLOAD, [BROKEN, BAD_FLAG]).splitlines() == [
        "no instance became ready for vllm 'org/model' (2 attempts)",
        "  1. machine 11 (RTX 4090, 0.30 USD/h): failed while booting: infra_fatal: cdi_device_unresolvable",
        "     evidence: OCI runtime create failed: CDI",
        "  2. machine 12 (2x RTX 4090, 0.40 USD/h): failed while warming: workload_fatal: bad_cli_argument",
        "     evidence: vllm: error: unrecognized arguments: --foo",
        "     kept in: /home/me/vast-artifacts/ab12/2",
        "  whose fault: the workload's: the next host would fail the same, so no other was tried",
        "  what to do: mend the argument",
        "  the server's last lines:",
        "    | usage: vllm",
        "    | vllm: error: unrecognized arguments: --foo",
    ]


def test_the_table_has_a_line_for_each_instance() -> None:
    assert table([BROKEN, BAD_FLAG, GOOD]) == [
        "machine  GPU          USD/h  boot    check  warm-up  ready   cost USD  outcome",
        "11       RTX 4090     0.300  11.5 s  -      -        -       0.0012    infra_fatal: cdi_device_unresolvable",
        "12       2x RTX 4090  0.400  20.5 s  0.3 s  12.2 s   -       0.0056    workload_fatal: bad_cli_argument",
        "13       RTX 4090     0.360  -       -      7.0 s    60.0 s  0.0100    ready",
    ]
    assert total([BROKEN, BAD_FLAG, GOOD]) == "3 instances, 0.0168 USD"


def test_the_table_shows_the_price_that_was_billed() -> None:
    assert table([replace(GOOD, price_usd_h=0.72)])[1].startswith("13       RTX 4090  0.720 ")


def test_the_dearest_tests() -> None:
    costs = {f"test_{n}": Decimal(9 - n) / 100 for n in range(9)}
    assert dearest(costs, 2) == ["0.090000 USD  test_0", "0.080000 USD  test_1"]


def test_gpus_for_people() -> None:
    assert [gpus(0, ""), gpus(1, "H100 SXM"), gpus(8, "H100 SXM")] == ["no GPU", "H100 SXM", "8x H100 SXM"]
