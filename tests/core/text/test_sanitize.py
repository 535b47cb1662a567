from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
COMMAND = re.compile(r"^\s*::|##(vso|teamcity)?\[", re.MULTILINE | re.IGNORECASE)
ANYTHING = st.text(st.characters(codec=None, exclude_categories=()) | st.sampled_from("\r\n\t #[:\x1b\ud800"))


@pytest.mark.parametrize("make", [sanitize.line, sanitize.block, lambda text: sanitize.tail(text, 10)])
@given(ANYTHING)
def test_nothing_of_it_steers_a_terminal_or_a_ci_system(make: Callable[[str], str], text: str) -> None:
    shown = make(text)
    assert not UNSAFE.search(shown)
    assert not COMMAND.search(shown)
    assert make(shown) == shown
    shown.encode()


@given(ANYTHING)
def test_a_line_is_one_line(text: str) -> None:
    assert len(sanitize.line(text).splitlines()) <= 1


@given(
    st.recursive(ANYTHING | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner))
)
def test_values_stay_json(value: object) -> None:
    json.loads(json.dumps(sanitize.clean(value), ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::no", ": :error::no"),
        (" \t::add-mask::x", " \t: :add-mask::x"),
        ("10%\r::error::no\r\nend", "10%\n: :error::no\nend"),
        ("ok ##[group]x ##vso[task.x] ##teamcity[y]", "ok # #[group]x # #vso[task.x] # #teamcity[y]"),
        ("\x1b[31mred\x1b[0m \x9b1m \x07", "\\u001b[31mred\\u001b[0m \\u009b1m \\u0007"),
        ("std::vector and # one\n## [x]", "std::vector and # one\n## [x]"),
        ("Größe 数\t1", "Größe 数\t1"),
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str, shown: str) -> None:
    assert sanitize.block(text) == shown


def test_a_key_of_a_document_is_no_secret_though_it_reads_like_one() -> None:
    KNOWN.add("key", "workload")
    document = sanitize.clean({"workload": {"said": "workload"}, "hf_0123456789xyz": 1})
    assert document == {"workload": {"said": "<key>"}, "<removed>": 1}


def test_a_long_text_keeps_its_start_and_its_end_and_no_half_of_a_secret() -> None:
    KNOWN.add("key", "0123456789abcdef")
    text = sanitize.line("start" + "x" * 90 + "0123456789abcdef" + "x" * 90 + "end", 200)
    assert text.startswith("start")
    assert text.endswith("end")
    assert "<key>" in text
    shown = sanitize.line("x" * 95 + "0123456789abcdef" + "x" * 500, 200)
    assert not re.search("[0-9]", shown)


def test_a_tail_is_bounded_in_lines_and_in_characters() -> None:
    assert sanitize.tail("a\nb\nc\n", 2) == "b\nc"
    assert len(sanitize.tail("x" * 5_000_000, 40)) <= sanitize.TAIL_LINE_CHARS + 10
    shown = sanitize.tail("\n".join("y" * 400 for _ in range(1000)), 40)
    assert len(shown) <= sanitize.TAIL_CHARS + 40
    assert sanitize.tail("", 5) == ""
