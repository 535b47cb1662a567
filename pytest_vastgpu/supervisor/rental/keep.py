"""Leaving an instance for a look inside when nobody needs it any more (``--vast-keep``).

Only one whose dead man's switch is armed is left: it is given the time that was asked for, as its lease and as its
hard end of life, and says so before it is let go. A run that is interrupted keeps nothing from then on; what it has
kept before stays.
"""

from __future__ import annotations

import math
import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import State

if TYPE_CHECKING:
    from pytest_vastgpu.plugin.options import Keep
    from pytest_vastgpu.plugin.options import Settings
    from pytest_vastgpu.ssh.address import SshAddress
    from pytest_vastgpu.ssh.base import Connection
    from pytest_vastgpu.ssh.keys import KeyPair
    from pytest_vastgpu.supervisor.rental.heartbeat import Heartbeat

KEY_FILE = "id"
"""In the run's directory: the private key where it was made for the run."""


class NotKept(Exception):
    """Why an instance cannot be left."""


@dataclass(frozen=True)
class Kept:
    """An instance that was left for a look inside."""

    instance_id: int
    ssh: str
    """The command line that logs in."""
    price_usd_h: float
    until: float
    """Epoch seconds at which it ends itself."""
    seconds: float
    """How long that was when it was left."""

    @property
    def ends(self) -> str:
        """When it ends itself, on our clock."""
        return time.strftime("%H:%M:%S on %d %b", time.localtime(self.until))

    def lines(self) -> list[str]:
        """What a person needs: until when, for how much, how to get in, how to end it."""
        usd = self.price_usd_h * self.seconds / 3600
        return [
            f"KEPT: instance {self.instance_id} until {self.ends}, at {self.price_usd_h:.3f} USD/h ({usd:.4f} USD)",
            f"  look inside: {self.ssh}",
            f"  end it now:  vastgpu destroy {self.instance_id}",
        ]


def wanted(keep: Keep, state: State, *, went_wrong: bool) -> bool:
    """Whether an instance that nobody needs any more is to be kept.

    :param state: One that is neither *ready* nor *failed* was called off on its way: nobody wants to see it.
    :param went_wrong: Its bring-up failed, or a test that used it.
    """
    if state not in (State.READY, State.FAILED):
        return False
    return keep.when == "always" or (keep.when == "failed" and went_wrong)


def require_lasting_market(settings: Settings) -> None:
    """See that the market outlives the run where something is to be kept.

    :raises ConfigurationError: if it does not.
    """
    if settings.keep.when != "no" and settings.backend == "local":
        raise ConfigurationError(
            f"--vast-keep={settings.keep} ({settings.sources['keep']}): the local market of this run ends with it, and "
            "its instances too; start one that stays with `vastgpu local` and set VAST_URL and VAST_API_KEY as it says"
        )


class Keeper:
    """Keeps instances of a run. Any thread may use it.

    :param directory: The run's.
    """

    def __init__(self, keep: Keep, directory: Path, key: KeyPair) -> None:
        self.kept: list[Kept] = []
        self._keep = keep
        self._directory = directory
        self._key = key
        self._forbidden = False
        self._lock = threading.Lock()

    def forbid(self) -> None:
        """Keep nothing from now on."""
        self._forbidden = True

    def wants(self, state: State, *, went_wrong: bool) -> bool:
        """See :func:`wanted`."""
        return not self._forbidden and wanted(self._keep, state, went_wrong=went_wrong)

    def note(self, kept: Kept) -> None:
        """It was left."""
        with self._lock:
            self.kept.append(kept)

    def leave(
        self, instance_id: int, connection: Connection | None, heartbeat: Heartbeat | None, price_usd_h: float
    ) -> Kept:
        """Give an instance the time that was asked for.

        :raises NotKept: why that cannot be done.
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
        until = time.time() + seconds
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
