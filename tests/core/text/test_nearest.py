from __future__ import annotations

import pytest

from pytest_vastgpu.core.text import countries
from pytest_vastgpu.core.text.nearest import did_you_mean
from pytest_vastgpu.core.text.nearest import nearest_first


def test_the_nearest_words_come_first_and_none_is_lost() -> None:
    known = ["RTX 3090", "A100 SXM4", "RTX 4090", "RTX 4090 D"]
    assert nearest_first("rtx4090", known) == ["RTX 4090", "RTX 4090 D", "RTX 3090", "A100 SXM4"]
    assert nearest_first(None, known) == known


def test_only_a_word_that_is_alike_is_proposed() -> None:
    assert did_you_mean("blanced", ("strict", "balanced")) == "; did you mean balanced?"
    assert did_you_mean("azure", ("auto", "vast", "local")) == ""
    assert did_you_mean("x", ()) == ""


@pytest.mark.parametrize(
    ("word", "code"), [("SWEDEN", "SE"), ("UK", "GB"), ("USA", "US"), ("GERMNAY", "DE"), ("RUSSIA", "RU")]
)
def test_a_countrys_name_leads_to_its_code(word: str, code: str) -> None:
    assert countries.meant(word) == f"; did you mean {code}?"


def test_every_code_has_two_letters_and_a_name() -> None:
    assert len(countries.NAMES) >= 249
    assert all(len(code) == 2 and code.isupper() and name for code, name in countries.NAMES.items())
