"""Keeps an instance for inspection after its last test (``--vast-keep``).

Only an instance whose dead man's switch is armed is kept. The keeper sets the instance's lease and hard end of life to
the time that the user asked for, and the instance confirms both before the run lets it go. An interrupted run keeps no
more instances; those that it kept before stay.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.client.calls import Kept
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import State

if TYPE_CHECKING:
    from pytest_vastgpu.option_values import Keep
    from pytest_vastgpu.settings import Settings
    from pytest_vastgpu.ssh.address import SshAddress
    from pytest_vastgpu.ssh.base import Connection
    from pytest_vastgpu.ssh.keys import KeyPair
    from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat

KEY_FILE = "id"
"""File in the run's directory for the private key, where the key pair was made for the run."""

_log = logging.getLogger(__name__)


class NotKept(Exception):
    """An instance cannot be kept; the message says why."""


def wanted(keep: Keep, state: State, *, went_wrong: bool) -> bool:
    """Whether to keep an instance that no test needs any more.

    :param state: An instance neither *ready* nor *failed* was cancelled during bring-up and is never kept.
    :param went_wrong: Whether its bring-up failed, or a test that used it.
    """
    if state not in (State.READY, State.FAILED):
        return False
    return keep.when == "always" or (keep.when == "failed" and went_wrong)


def require_lasting_market(settings: Settings) -> None:
    """Check that the market outlives the run, where ``--vast-keep`` is set.

    :raises ConfigurationError: if it does not.
    """
    if settings.keep.when != "no" and settings.backend == "local":
        raise ConfigurationError(
            f"--vast-keep={settings.keep} ({settings.sources['keep']}): the local market of this run ends with it, and "
            "its instances too; start one that stays with `vastgpu local` and set VAST_URL and VAST_API_KEY as it says"
        )


class Keeper:
    """Keeps instances of a run. Thread-safe.

    :param directory: The run's directory.
    :param key: The key pair that logs in to the instances.
    """

    def __init__(self, keep: Keep, directory: Path, key: KeyPair, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.kept: list[Kept] = []
        self._keep = keep
        self._directory = directory
        self._key = key
        self._forbidden = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def key_at_hand(self) -> Iterator[None]:
        """Have the key pair's private key in the run's directory for the time of a ``with`` block, for ``vastgpu ssh``
        and ``vastgpu logs``; and from then on, where an instance is kept.
        """
        try:
            path = self._key_file()
        except NotKept as problem:  # the run itself has the key
            _log.warning("%s", problem)
            yield
            return
        try:
            yield
        finally:
            if self._key.path is None and not self.kept:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:  # nothing is left that it opens
                    _log.warning("the key %s cannot be removed (%s)", path, error.strerror)

    def forbid(self) -> None:
        """Keep nothing from now on."""
        self._forbidden = True

    def wants(self, state: State, *, went_wrong: bool) -> bool:
        """See :func:`wanted`."""
        return not self._forbidden and wanted(self._keep, state, went_wrong=went_wrong)

    def note(self, kept: Kept) -> None:
        """Remember a kept instance for the report."""
        with self._lock:
            self.kept.append(kept)

    def leave(
        self, instance_id: int, connection: Connection | None, heartbeat: Heartbeat | None, price_usd_h: float
    ) -> Kept:
        """Set the instance's remaining life to the time that the user asked for.

        :raises NotKept: if the instance cannot be kept.
        """
        if heartbeat is None or connection is None:
            raise NotKept("it cannot be reached over SSH")
        seconds = math.ceil(self._keep.seconds)
        beat = heartbeat.last_words(seconds)
        if beat is None:
            raise NotKept("it cannot be told how long it has to live")
        if not beat.switch.armed:
            raise NotKept(f"nothing would end it, since it has no dead man's switch: {beat.switch.text}")
        if (beat.lease_s, beat.end_s) != (seconds, seconds):
            raise NotKept(f"it would end itself in {min(beat.lease_s, beat.end_s)} s, whatever it is told")
        until = self._clock.time() + seconds
        return Kept(instance_id, self._command(connection.address), price_usd_h, until, seconds)

    def _command(self, address: SshAddress) -> str:
        return f"ssh -i {shlex.quote(str(self._key_file()))} -p {address.port} {shlex.quote(f'root@{address.host}')}"

    def _key_file(self) -> Path:
        if self._key.path is not None:
            return self._key.path
        path = self._directory / KEY_FILE
        with self._lock:
            if not path.exists():
                try:
                    self._key.save(path)
                except OSError as error:
                    raise NotKept(f"the key to it cannot be written to {path} ({error.strerror})") from error
        return path
