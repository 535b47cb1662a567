from __future__ import annotations

import re

import pytest

from pytest_vastgpu.diagnosis.rules import base
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.diagnosis.verdicts import prepare
from pytest_vastgpu.model import FailureClass


def test_expressions_are_compiled_when_they_are_needed() -> None:
    """A test process that only builds a workload loads the rules as well."""
    rule = Rule("broken", FailureClass.UNKNOWN, ("(",), "no remedy", "nobody")
    with pytest.raises(re.error):
        _ = rule.matches


def test_every_expression_is_one() -> None:
    for rule in RULES:
        for expression in (rule.matches, rule.excludes, rule.belongs):
            assert expression is None or expression.flags & re.IGNORECASE, rule.reason


def test_what_was_prepared_is_there_for_the_first_log(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr(base, "required_literals", lambda pattern: pytest.fail("it is looked for again"))
    assert judge_log("all is well\n", context="gpus=0").verdict.failure_class is FailureClass.WARMUP
