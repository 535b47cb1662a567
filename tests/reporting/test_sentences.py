from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from dataclasses import replace
from pathlib import Path

import pytest

import pytest_vastgpu
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import WorkloadNames
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.reporting.sentences import together
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.servers.host import numbered
from tests.support.factories import make_offer

WORKLOAD = Workload("vllm", model="org/model")
BROKEN = Attempt(
    1,
    "label-1",
    make_offer(machine_id=11, price_usd_h=0.3),
    101,
    Verdict(FailureClass.INFRA_FATAL, "cdi_broken", "OCI runtime create failed: CDI", "another host would do"),
    State.BOOTING,
    {"created": 0.5, "booting": 11.0},
    0.0012,
    workload="vllm 'a'",
)
BAD_FLAG = Attempt(
    2,
    "label-2",
    make_offer(machine_id=12, price_usd_h=0.4, num_gpus=2),
    102,
    Verdict(
        FailureClass.WORKLOAD_FATAL,
        "bad_argument",
        "vllm: error: unrecognized arguments: --foo",
        "mend the argument",
    ),
    State.WARMING,
    {"created": 0.5, "booting": 20.0, "reachable": 0.3, "checked": 0.2, "warming": 12.0},
    0.0056,
    log_tail="usage: vllm\nvllm: error: unrecognized arguments: --foo",
    artifacts="/home/me/vast-artifacts/ab12/2",
    workload="vllm 'a'",
)


def test_a_failed_start_says_step_fault_evidence_remedy_and_the_servers_last_words() -> None:
    assert failure(workload_line(WORKLOAD), [BROKEN, BAD_FLAG]).splitlines() == [
        "no instance became ready for vllm 'org/model' (2 attempts)",
        "  1. machine 11 (RTX 4090, 0.30 USD/h): failed while booting: infra_fatal: cdi_broken",
        "     evidence: OCI runtime create failed: CDI",
        "  2. machine 12 (2x RTX 4090, 0.40 USD/h): failed while warming: workload_fatal: bad_argument",
        "     evidence: vllm: error: unrecognized arguments: --foo",
        "     kept in: /home/me/vast-artifacts/ab12/2",
        "  together: 2 attempts: 1 infra_fatal: cdi_broken (machine 11), 1 workload_fatal: bad_argument (machine 12)",
        "  whose fault: the workload's: the next host would fail the same, so no other was tried",
        "  what to do: mend the argument",
        "  the server's last lines:",
        "    | usage: vllm",
        "    | vllm: error: unrecognized arguments: --foo",
    ]


def test_gpus_for_people() -> None:
    assert [gpus(0, ""), gpus(1, "H100 SXM"), gpus(8, "H100 SXM")] == ["no GPU", "H100 SXM", "8x H100 SXM"]


def failed(machine: int, reason: str, failure_class: FailureClass = FailureClass.INFRA_FATAL) -> Attempt:
    verdict = Verdict(failure_class, reason, "", f"the remedy of {reason}")
    return replace(BROKEN, number=machine, offer=make_offer(machine_id=machine), verdict=verdict)


def test_several_attempts_are_counted_and_the_most_frequent_cause_gives_the_remedy() -> None:
    attempts = [failed(1, "slow"), failed(2, "dark"), failed(3, "slow"), failed(4, "old", FailureClass.WARMUP)]
    told = "4 attempts: 2 infra_fatal: slow (machines 1, 3), 1 infra_fatal: dark (machine 2), 1 warmup: old (machine 4)"
    assert together(attempts) == told
    text = failure(workload_line(WORKLOAD), attempts, "--vast-attempts 4 allows no more").splitlines()
    assert text[-4:] == [
        f"  together: {told}",
        "  whose fault: the machine's; it is remembered and not rented again for a while",
        "  what to do: the remedy of slow",
        "  no other offer is tried: --vast-attempts 4 allows no more",
    ]


def test_what_is_common_to_all_attempts_is_said() -> None:
    assert together([failed(n, "slow") for n in (1, 2, 3)]) == "3 attempts: all infra_fatal: slow (machines 1, 2, 3)"
    assert together([failed(1, "slow")]) == "1 attempt: 1 infra_fatal: slow (machine 1)"


def test_a_fault_of_the_workload_stands_for_all_attempts() -> None:
    attempts = [failed(1, "slow"), failed(2, "slow"), BAD_FLAG]
    assert "  what to do: mend the argument" in failure(workload_line(WORKLOAD), attempts).splitlines()


def test_no_remedy_promises_what_may_not_follow() -> None:
    remedies = [rule.remedy for rule in RULES]
    assert remedies
    assert [remedy for remedy in remedies if "is tried" in remedy] == []
    package = Path(pytest_vastgpu.__file__).parent
    modules = ((path, path.read_text()) for path in package.rglob("*.py"))
    written = [(path, text) for path, source in modules if " tried" in source for text in _texts(ast.parse(source))]
    allowed = "  no other offer is tried: "  # that one is an end, not a remedy
    promises = re.compile(r"\b(?:host|offer|machine|kind|one) (?:is|will be) tried\b")
    assert [(path, text) for path, text in written if promises.search(text) and text != allowed] == []


def _texts(module: ast.Module) -> Iterator[str]:
    """The texts of a module that are values, and not descriptions."""
    said = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def test_a_host_for_tests_has_its_number_for_a_name() -> None:
    hosts = [numbered(Workload("host", port=0, image="me/mine"), number) for number in (1, 2)]
    names = WorkloadNames()
    assert [workload_line(each) for each in hosts] == [names[each] for each in hosts] == ["host 1", "host 2"]


def test_no_two_workloads_have_the_same_name_and_no_secret_is_in_one() -> None:
    names = WorkloadNames()
    one = Workload("command", command="serve\n  --all", env=(("KEY", "s3cret"),))
    two, three = replace(one, gpus=0), replace(one, env=(("KEY", "0ther"),))
    assert [names[each] for each in (one, two, three, replace(three, env=(("KEY", "x"),)), one, WORKLOAD)] == [
        "command 'serve --all'",
        "command 'serve --all' (gpus=0)",
        "command 'serve --all' (other env)",
        "command 'serve --all' (other env) no. 4",
        "command 'serve --all'",
        "vllm 'org/model'",
    ]


@pytest.mark.parametrize(
    "field", [each.name for each in fields(Workload) if not each.repr or each.name in {"args", "command", "setup"}]
)
def test_a_name_shows_no_field_that_may_hold_a_secret(field: str) -> None:
    names = WorkloadNames()
    secret: object = (("s3cret", "s3cret"),) if isinstance(getattr(WORKLOAD, field), tuple) else "-p s3cret"
    names[WORKLOAD]
    other = replace(WORKLOAD, **{field: secret})  # type: ignore[arg-type] # of the field's type
    assert names[other] == f"vllm 'org/model' (other {field})"
