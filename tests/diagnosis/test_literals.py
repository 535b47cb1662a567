from __future__ import annotations

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.diagnosis.lines import read_line
from pytest_vastgpu.diagnosis.literals import required_literals
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from tests.diagnosis.samples import healthy_lines
from tests.diagnosis.samples import messages
from tests.diagnosis.samples import samples


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^Killed$", {"killed"}),
        (r"\[Errno 12\]", {"[errno 12]"}),
        (r"error\s*:", {"error"}),
        (r"out of memory|std::bad_alloc", {"out of memory", "std::bad_alloc"}),
        (r"ab+c?def", {"def"}),
        (r"xyz{2}abcd", {"abcd"}),
        (r"abc(?:defg)?", {"abc"}),
        (r"(?:aaa|bbbb)(?:ccc|ddd)", {"aaa", "bbbb"}),
        (r"(?:aaa|bbbb)\bcccc", {"cccc"}),
        (r"(?!other)abc", {"abc"}),
        (r"[abc]{12}: (?:Pulling|Waiting)", {"pulling", "waiting"}),
        (r"(?:abc)?x", None),
        (r"(?:abc|\d+)", None),
        (r"\d+", None),
        ("", None),
    ],
)
def test_what_must_be_there(pattern: str, expected: set[str] | None) -> None:
    assert required_literals(pattern) == expected


def may_match(rule: Rule, text: str) -> bool:
    return rule.required_literals is None or any(needle in text.lower() for needle in rule.required_literals)


@settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_that_a_rule_matches_is_passed_over(data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(RULES))
    text = data.draw(st.from_regex(rule.matches, alphabet=st.characters(codec="ascii")))
    assert may_match(rule, text), (rule.reason, rule.required_literals, text)


@pytest.mark.slow
def test_nothing_that_programs_print_is_passed_over() -> None:
    texts = [*(sample.text for sample in samples()), *(given.text for given in messages())]
    lines = {read_line(line).text for text in texts for line in text.splitlines()} | set(healthy_lines())
    for rule in RULES:
        for line in lines:
            assert may_match(rule, line) or not rule.matches.search(line), (rule.reason, line)


def test_nearly_every_rule_says_what_to_look_for() -> None:
    assert sum(rule.required_literals is None for rule in RULES) <= 3
