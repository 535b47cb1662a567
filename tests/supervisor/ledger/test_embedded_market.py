from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.supervisor.ledger.embedded_market import FILE
from pytest_vastgpu.supervisor.ledger.embedded_market import published
from pytest_vastgpu.supervisor.ledger.embedded_market import read


def test_it_is_there_while_the_market_runs_for_this_user_only(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("of a run that was killed")
    with published(tmp_path, "http://127.0.0.1:1", Secret("k")):
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        found = read(tmp_path)
        assert found is not None
        assert (found.url, found.key.reveal()) == ("http://127.0.0.1:1", "k")
        assert "'k'" not in repr(found)
    assert not (tmp_path / FILE).exists()
    assert read(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"url": "http://x"}', b"\xff"])
def test_what_is_no_market_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read(tmp_path) is None
