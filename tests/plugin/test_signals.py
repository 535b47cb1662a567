from __future__ import annotations

import pytest

from pytest_vastgpu.plugin.signals import with_lines


def _interrupted() -> None:
    raise KeyboardInterrupt("SIGHUP")


def test_pytest_can_show_an_interrupt_at_an_instruction_that_belongs_to_no_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = _interrupted.__code__
    no_lines = bytes([0b1_1111_000]) * (len(code.co_code) // 2)  # for each unit: "has no location"
    monkeypatch.setattr(_interrupted, "__code__", code.replace(co_linetable=no_lines))
    with pytest.raises(KeyboardInterrupt) as interrupt:
        _interrupted()
    lines = [entry.lineno for entry in interrupt.traceback[:-1]]
    with_lines(interrupt)
    shown = str(interrupt.getrepr(funcargs=True))
    assert "KeyboardInterrupt: SIGHUP" in shown
    assert "_interrupted" in shown
    assert [entry.lineno for entry in interrupt.traceback[:-1]] == lines, "those that have one keep it"
