from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.supervisor.ledger.ledger import Ledger


def test_a_label_says_whose_it_is_and_when_it_must_be_gone() -> None:
    label = make_label("abcd1234", 3, 1_800_000_000.7)
    assert Label.parse(label) == Label("abcd1234", 3, 1_800_000_000.0)


@pytest.mark.parametrize(
    "foreign",
    ["", "training", "vastgpu", "vastgpu-a-b-c", "vastgpu-a-1-xyz", "my-vastgpu-1-7f", f"vastgpu-a-1-{'f' * 300}"],
)
def test_a_foreign_label_is_not_ours(foreign: str) -> None:
    assert Label.parse(foreign) is None


def test_the_ledger_tells_what_exists(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    ledger.begin("run", "the account", "http://market", embedded=False)
    ledger.write("", "guard", pid=7)
    ledger.write("a", "intended")
    ledger.write("a", "created", instance_id=11)
    ledger.write("a", "gone")
    ledger.write("b", "intended")
    ledger.write("b", "created", instance_id=12)
    ledger.write("c", "intended")
    ledger.write("d", "intended")
    ledger.write("d", "not_created")
    ledger.write("e", "created", instance_id=15)
    ledger.write("e", "kept", until=2000.0)
    ledger.close()
    record = read_ledger(ledger.path)
    assert (record.market, record.url, record.pid, record.guard) == ("the account", "http://market", os.getpid(), 7)
    assert {label: (entry.instance_id, entry.gone) for label, entry in record.entries.items()} == {
        "a": (11, True),
        "b": (12, False),
        "c": (0, False),
        "d": (0, True),
        "e": (15, False),
    }
    assert [entry.label for entry in record.left(1999.0)] == ["b", "c"]
    assert [entry.label for entry in record.left(2000.0)] == ["b", "c", "e"]
    assert record.entries["b"].intended_at > 1e9
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_an_embedded_market_leaves_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.begin("run", "the account", "http://market", embedded=True)
    ledger.write("a", "intended")
    ledger.close()
    assert read_ledger(ledger.path).left(0.0) == []


def test_what_a_crash_cut_short_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("a", "intended")
    ledger.write("b", "intended")
    ledger.close()
    whole = ledger.path.read_bytes()
    for end in range(len(whole) + 1):
        ledger.path.write_bytes(whole[:end])
        after = Ledger(tmp_path)
        after.write("c", "created", instance_id=13)
        after.close()
        entries = read_ledger(ledger.path).entries
        assert entries["c"] == LedgerEntry("c", 13)
        assert ("a" in entries) is (end >= whole.index(b"\n"))


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\n", b'{"step": "run"', b"[]\n7\nnull\n", b'{"label": 7}\n', b"[" * 100_000]
)
def test_no_text_is_too_strange_to_be_read(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(text)
    assert read_ledger(path) == Record()


def test_a_ledger_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    with pytest.raises(ConfigurationError, match="nothing is rented without one"):
        Ledger(tmp_path / "run")


def test_a_full_disk_stops_renting_but_not_giving_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    ledger = Ledger(tmp_path)
    with pytest.raises(ConfigurationError, match=r"No space left on device.*nothing is rented without one"):
        ledger.write("a", "intended")
    ledger.write("a", "destroying")
    ledger.close()
    assert "cannot be written: No space left on device" in caplog.text
