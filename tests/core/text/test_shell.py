from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.core.text.shell import exported
from pytest_vastgpu.core.text.shell import exports

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "export")


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_an_environment_that_was_exported_can_be_read_again(env: dict[str, str]) -> None:
    assert exported(exports(env)) == env


def test_what_was_cut_short_or_is_something_else_is_left_out() -> None:
    assert exported("export A='one\nexport B") == {}
    assert exported("set -e; export A=1\ncd x=y 1=2\n") == {"A": "1", "x": "y"}
