"""Which instances are left for a look inside, and what is said of them."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from pytest_vastgpu.client.calls import Kept
from pytest_vastgpu.model import State
from pytest_vastgpu.option_values import Keep
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental.keep import KEY_FILE
from pytest_vastgpu.supervisor.rental.keep import Keeper
from pytest_vastgpu.supervisor.rental.keep import wanted


@pytest.mark.parametrize(
    ("when", "state", "went_wrong", "kept"),
    [
        ("no", State.READY, True, False),
        ("no", State.FAILED, True, False),
        ("failed", State.READY, False, False),
        ("failed", State.READY, True, True),
        ("failed", State.FAILED, True, True),
        ("always", State.READY, False, True),
        ("always", State.FAILED, True, True),
        # Called off on its way up, or on its way out already.
        *(("always", state, True, False) for state in State if state not in (State.READY, State.FAILED)),
    ],
)
def test_who_is_kept(when: str, state: State, went_wrong: bool, kept: bool) -> None:
    assert wanted(Keep(when, 60.0), state, went_wrong=went_wrong) is kept


def test_what_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    kept = Kept(4711, "ssh -i '/a key' -p 22022 root@host", 0.36, 1_800_000_000.0, 1800.0)
    assert kept.alive.lines() == [
        "KEPT: instance 4711 until 08:00:00 on 15 Jan, at 0.360 USD/h (0.1800 USD)",
        "  look inside: ssh -i '/a key' -p 22022 root@host",
        "  end it now:  vastgpu destroy 4711",
    ]


def keeper(directory: Path, key: KeyPair) -> Keeper:
    return Keeper(Keep("always", 60.0), directory, key)


def test_a_key_that_was_made_for_the_run_is_at_hand_while_it_lives(tmp_path: Path) -> None:
    made = load_key({}, tmp_path)
    with keeper(tmp_path, made).key_at_hand():
        assert (tmp_path / KEY_FILE).read_bytes() == made.private_text
        assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert not (tmp_path / KEY_FILE).exists()
    with (keeping := keeper(tmp_path, made)).key_at_hand():
        keeping.note(Kept(4711, "ssh", 0.36, 1_800_000_000.0, 1800.0))
    assert (tmp_path / KEY_FILE).exists(), "somebody shall look inside"


def test_the_users_own_key_is_copied_nowhere(tmp_path: Path) -> None:
    load_key({}, tmp_path).save(tmp_path / "own")
    own = load_key({"VAST_SSH_KEY_PATH": str(tmp_path / "own")}, tmp_path)
    with keeper(tmp_path, own).key_at_hand():
        assert not (tmp_path / KEY_FILE).exists()
    assert (tmp_path / "own").exists()


def test_a_run_goes_on_where_its_key_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with keeper(tmp_path / "missing", load_key({}, tmp_path)).key_at_hand():
        assert "cannot be written" in caplog.text


def test_a_run_ends_as_it_should_where_its_key_cannot_be_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with keeper(tmp_path, load_key({}, tmp_path)).key_at_hand():
        (tmp_path / KEY_FILE).unlink()
        (tmp_path / KEY_FILE).mkdir()
    assert "cannot be removed" in caplog.text
