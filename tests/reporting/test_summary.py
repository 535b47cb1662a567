from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from pytest_vastgpu.core.text.layout import columns_of
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.reporting.summary import MOST_ROWS
from pytest_vastgpu.reporting.summary import Line
from pytest_vastgpu.reporting.summary import Row
from pytest_vastgpu.reporting.summary import dearest
from pytest_vastgpu.reporting.summary import summary
from pytest_vastgpu.reporting.summary import table
from pytest_vastgpu.reporting.summary import total
from tests.reporting.test_sentences import BAD_FLAG
from tests.reporting.test_sentences import BROKEN
from tests.support.factories import make_offer

EVIDENCE = (
    "OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
    "error running prestart hook #0: nvidia-container-cli: initialization error: driver/library version mismatch"
)
SILENT = Verdict(FailureClass.INFRA_FATAL, "ssh_never_up", "nothing answers on 203.0.113.4:41234", "take another host")
FIRST = Row.of(replace(BROKEN, artifacts="/home/me/vast-artifacts/ab12/1"))
SECOND = replace(
    FIRST, attempt=2, machine_id=12, verdict=SILENT, outcome="infra_fatal: ssh_never_up",
    artifacts="/home/me/vast-artifacts/ab12/2",
)  # fmt: skip
THIRD = Row("vllm 'a'", 3, 103, 13, "RTX 4090", 0.36, 0.01, "ready", {"warming": 7.0, "ready": 60.0})
BAD = Row.of(BAD_FLAG)
LOST = replace(
    THIRD,
    workload="vllm 'b'",
    outcome="runtime_lost: instance_lost",
    verdict=Verdict(FailureClass.RUNTIME_LOST, "instance_lost", "the market no longer knows it", "run the test again"),
)


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines]


def test_two_failures_and_a_success_are_one_story_and_no_failure() -> None:
    lines = summary([FIRST, SECOND, THIRD], 80)
    assert texts(lines) == [
        "vllm 'a': ready at attempt 3, after 2 failures; 0.0024 USD",
        "  attempt 1    machine 11: infra_fatal: cdi_broken: OCI runtime create failed:",
        "               CDI",
        "  attempt 2    machine 12: infra_fatal: ssh_never_up: nothing answers on",
        "               203.0.113.4:41234",
        "  kept in      /home/me/vast-artifacts/ab12/1, 2",
        "machine  USD/h  boot    warm-up  ready   cost USD  outcome",
        "11       0.300  11.5 s  -        -       0.0012    infra_fatal: cdi_broken",
        "12       0.300  11.5 s  -        -       0.0012    infra_fatal: ssh_never_up",
        "13       0.360  -       7.0 s    60.0 s  0.0100    ready",
    ]
    assert {line.colour for line in lines} == {"yellow", ""}
    assert total([FIRST, SECOND, THIRD]) == "3 instances (2 failed), 0.0124 USD"


def test_what_never_became_ready_comes_first_with_fault_evidence_remedy_and_cost() -> None:
    lines = texts(summary([FIRST, THIRD, replace(BAD, workload="vllm 'c'"), LOST], 100))
    assert lines[:6] == [
        "no instance became ready for vllm 'c' (1 attempt); 0.0056 USD",
        "  why          workload_fatal: bad_argument",
        "  whose fault  the workload's: the next host would fail the same, so no other was tried",
        "  evidence     vllm: error: unrecognized arguments: --foo",
        "  what to do   mend the argument",
        "  kept in      /home/me/vast-artifacts/ab12/2",
    ]
    headings = [line for line in lines if not line.startswith(" ")][:3]
    assert headings[1:] == [
        "instance 103 (vllm 'b') was lost in use; 0.0100 USD",
        "vllm 'a': ready at attempt 3, after 1 failure; 0.0012 USD",
    ]


def test_attempts_that_failed_alike_are_told_together_and_others_one_by_one() -> None:
    alike = [replace(FIRST, attempt=n, machine_id=n) for n in (1, 2, 3)]
    attempts = "  attempts     3 attempts: all infra_fatal: cdi_broken (machines 1, 2, 3)"
    assert attempts in texts(summary(alike, 80))
    lines = texts(summary([FIRST, SECOND, BAD], 80))
    assert [line[:13].strip() for line in lines if line.startswith("  attempt")] == [
        "attempt 1", "attempt 2", "attempt 2",
    ]  # fmt: skip
    many = [replace(FIRST, attempt=n, machine_id=n, verdict=replace(SILENT, reason=f"r{n}")) for n in range(9)]
    assert "               and 5 more, shown with -v" in texts(summary(many, 80))
    assert any("machine 8: infra_fatal: r8" in text for text in texts(summary(many, 80, 1)))


def test_workloads_that_fail_alike_are_one_story() -> None:
    hosts = [replace(FIRST, workload=f"host {n}", machine_id=n) for n in range(50)]
    red = [line.text for line in summary(hosts, 100) if line.colour]
    assert red == ["no instance became ready for host 0, host 1, host 2 and 47 more (50 attempts); 0.0600 USD"]


def test_many_instances_do_not_flood_and_what_failed_is_shown_first() -> None:
    rows = [replace(THIRD, workload=f"host {n}", machine_id=n) for n in range(50)]
    rows[40] = replace(rows[40], verdict=SILENT, seconds={}, outcome="infra_fatal: ssh_never_up")
    lines = table(rows, 100, MOST_ROWS)
    assert len(lines) == MOST_ROWS + 1
    assert lines[1].startswith("40 ")
    assert lines[-1] == "and 35 more, shown with -v: 35 ready; 0.3500 USD"
    assert len(table(rows, 100, 50)) == 51
    stories = [replace(FIRST, workload=f"vllm 'm{n}'", verdict=replace(SILENT, reason=f"r{n}")) for n in range(50)]
    assert len(summary(stories, 80)) < 80
    assert len(summary(stories, 80, 1)) > 200


def test_quiet_says_what_failed_and_what_to_do() -> None:
    assert texts(summary([BAD], 80, -1)) == [
        "no instance became ready for vllm 'a' (1 attempt); 0.0056 USD",
        "  what to do   mend the argument",
    ]
    assert summary([BAD, THIRD], 80, -1) == []


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_evidence_keeps_both_its_ends(width: int) -> None:
    long = replace(FIRST, verdict=replace(SILENT, evidence=EVIDENCE), workload="vllm '" + "x" * 60 + "'")
    wide = replace(THIRD, workload="服务器" * 30, outcome="模型" * 20)
    lines = texts(summary([long, wide, replace(wide, verdict=SILENT)], width))
    path = [line for line in lines if "/vast-artifacts/" in line]  # it stays whole, to be copied
    assert [line for line in lines if columns_of(line) > max(width, 35) and line not in path] == []
    told = " ".join("".join(lines).split())
    assert width < 80 or (told.count("OCI runtime create") and told.count("version mismatch"))


def test_foreign_text_is_harmless() -> None:
    verdict = replace(SILENT, evidence="\x1b[31mred\n::error::x", remedy="a\u202eb")
    assert not any(set("\x1b\n\u202e") & set(text) for text in texts(summary([replace(FIRST, verdict=verdict)], 80)))


def test_the_table_has_a_line_for_each_instance() -> None:
    assert table([FIRST, BAD, replace(THIRD, workload="vllm 'b'")], 200, 3) == [
        "machine  GPU          USD/h  boot    check  warm-up  ready   cost USD  workload  outcome",
        "11       RTX 4090     0.300  11.5 s  -      -        -       0.0012    vllm 'a'  infra_fatal: cdi_broken",
        "12       2x RTX 4090  0.400  20.5 s  0.3 s  12.2 s   -       0.0056    vllm 'a'  workload_fatal: bad_argument",
        "13       RTX 4090     0.360  -       -      7.0 s    60.0 s  0.0100    vllm 'b'  ready",
    ]


def test_the_table_shows_the_price_that_was_billed() -> None:
    billed = replace(BROKEN, price_usd_h=0.72, offer=make_offer(price_usd_h=0.36))
    assert (Row.of(billed).usd_h, Row.of(replace(billed, price_usd_h=0.0)).usd_h) == (0.72, 0.36)


def test_the_dearest_tests() -> None:
    costs = {f"test_{n}": Decimal(9 - n) / 100 for n in range(9)}
    assert dearest(costs, 2) == ["0.090000 USD  test_0", "0.080000 USD  test_1"]
