"""What the user destroys by hand while its run lives: a file of its own in the run's directory says so.

Only the supervisor writes the ledger of a living run, and this is known before the instance is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def destroying(directory: Path, label: str) -> Iterator[None]:
    """Note for the time of a ``with`` block, and from then on, that the user destroys an instance.

    If the block fails, the instance may live on, and the note is taken back. Without a note, because it cannot be
    written, the instance is destroyed all the same.

    :param directory: The run's directory.
    :param label: The instance's label.
    """
    note = _note(directory, label)
    with contextlib.suppress(OSError):
        note.touch(mode=0o600)
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            note.unlink()
        raise


def is_destroyed(directory: Path, label: str) -> bool:
    """Whether the user has destroyed an instance, or is about to."""
    return _note(directory, label).exists()


def _note(directory: Path, label: str) -> Path:
    return directory / f"destroyed-{label}"
