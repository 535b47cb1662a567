from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.lifecycle.ledger import Entry
from pytest_vastgpu.lifecycle.ledger import Label
from pytest_vastgpu.lifecycle.ledger import Ledger
from pytest_vastgpu.lifecycle.ledger import make_label
from pytest_vastgpu.lifecycle.ledger import read_ledger


def test_a_label_says_whose_it_is_and_when_it_must_be_gone() -> None:
    label = make_label("abcd1234", 3, 1_800_000_000.7)
    assert Label.parse(label) == Label("abcd1234", 3, 1_800_000_000.0)


@pytest.mark.parametrize("foreign", ["", "training", "vastgpu", "vastgpu-a-b-c", "vastgpu-a-1-xyz", "my-vastgpu-1-7f"])
def test_a_foreign_label_is_not_ours(foreign: str) -> None:
    assert Label.parse(foreign) is None


def test_the_ledger_tells_what_exists(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    ledger.write("a", "intended")
    ledger.write("a", "created", instance_id=11)
    ledger.write("a", "gone")
    ledger.write("b", "intended")
    ledger.write("b", "created", instance_id=12)
    ledger.write("c", "intended")
    ledger.write("d", "intended")
    ledger.write("d", "not_created")
    ledger.close()
    assert read_ledger(ledger.path) == {
        "a": Entry("a", 11, gone=True),
        "b": Entry("b", 12, gone=False),
        "c": Entry("c", 0, gone=False),
        "d": Entry("d", 0, gone=True),
    }
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_cut_off_at_any_byte_nothing_intended_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("a", "intended")
    ledger.write("a", "created", instance_id=11)
    ledger.close()
    whole = ledger.path.read_bytes()
    first = whole.index(b"\n")
    for end in range(len(whole) + 1):
        ledger.path.write_bytes(whole[:end])
        entries = read_ledger(ledger.path)
        if end >= first:  # the first line had reached the disk, so the create call may have been made
            assert not entries["a"].gone
            assert entries["a"].instance_id in (0, 11)


def test_a_ledger_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    with pytest.raises(ConfigurationError, match="nothing is rented without one"):
        Ledger(tmp_path / "run")
