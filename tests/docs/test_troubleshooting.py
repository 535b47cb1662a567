"""docs/troubleshooting.md: each message is one of ours, and each reason of a verdict is explained."""

from __future__ import annotations

import re

import pytest

from pytest_vastgpu.model import FailureClass
from tests.docs import printed
from tests.docs import reasons

TEXT = reasons.PAGE.read_text(encoding="utf-8")
MESSAGES = re.compile(r"^\| (`+)(.*?)\1 \| ", re.MULTILINE)


def messages() -> list[tuple[int, str]]:
    """The messages in the first cells of the tables before the reasons, each with its line."""
    before = TEXT.partition("\n## Reasons\n")[0]
    return [(before.count("\n", 0, each.start()) + 1, each[2]) for each in MESSAGES.finditer(before)]


def test_every_message_is_one_of_the_package() -> None:
    assert len(messages()) > 40
    texts = printed.messages()
    unknown = [
        f"docs/troubleshooting.md:{line}: no text of the package has {message!r}, with … for each value that is filled in"
        for line, message in messages()
        if message not in texts
    ]
    if unknown:
        pytest.fail("\n".join(unknown), pytrace=False)


def test_every_reason_is_explained() -> None:
    told = set(re.findall(r"`(\w+)`", TEXT))
    by_rules = {reason for each in FailureClass for reason in reasons.by_rules(each)}
    assert sorted({*by_rules, *reasons.elsewhere()} - told) == []


def test_its_tables_are_those_of_the_rules() -> None:
    assert reasons.with_tables(TEXT) == TEXT, "write them anew: python -m tests.docs.reasons"


def test_it_explains_every_class() -> None:
    titles = re.findall(r"^### (\w+)", TEXT, re.MULTILINE)
    failures = {each.value for each in FailureClass} - {FailureClass.READY, FailureClass.WARMUP}
    assert set(titles) == failures
