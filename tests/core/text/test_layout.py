from __future__ import annotations

import pytest

from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.core.text.layout import columns
from pytest_vastgpu.core.text.layout import columns_of
from pytest_vastgpu.core.text.layout import cut_end
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.core.text.layout import left_out


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns(("id", "name"), [("1", "a"), ("4242", "")]) == ["id    name", "1     a", "4242"]
    assert columns(("id",), []) == ["id"]


def test_a_text_loses_its_middle() -> None:
    assert cut_middle("0123456789", 10) == "0123456789"
    assert cut_middle("0123456789x", 4) == "01 … 9x"
    assert cut_middle("0123456789x", 1, "|") == "|"
    assert cut_middle("0123456789x", 4, left_out(7, "bytes")) == "01\n[... 7 bytes left out ...]\n9x"
    assert left_out(0, "bytes") == ""


def test_a_long_text_keeps_its_start_and_its_end() -> None:
    text = bounded("a" * 500 + "b" * 500, 100)
    assert text.startswith("a" * 50)
    assert text.endswith("b" * 50)
    assert "900 characters left out" in text
    assert bounded("short", 100) == "short"


@pytest.mark.parametrize(
    ("text", "columns", "cut"),
    [
        ("0123456789", 10, "0123456789"),
        ("0123456789x", 10, "012345678…"),
        ("模型模型模", 10, "模型模型模"),
        ("模型模型模x", 10, "模型模型…"),
        ("e\u0301" * 10, 10, "e\u0301" * 10),
        ("0123", 1, "…"),
        ("0123", 0, ""),
    ],
)
def test_a_line_is_cut_to_columns_of_which_wide_characters_take_two(text: str, columns: int, cut: str) -> None:
    assert cut_end(text, columns) == cut
    assert columns_of(cut) <= columns
