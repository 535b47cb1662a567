"""The pytest runs that a supervisor serves: which may join, and whether it is of any more use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.supervisor.client_run import ClientRun
from pytest_vastgpu.supervisor.watched_process import WatchedProcess


class Refused(VastGpuError):
    """The supervisor does not serve this run; the text says why."""


class ClientRuns:
    """The runs that there are, with their adapters. Thread-safe.

    A run joins only as long as no end is decided, and no end for lack of use is decided while there is a run.
    """

    def __init__(self) -> None:
        self.adapters: dict[str, Adapter] = {}
        """The adapters of this package, of installed packages and of the runs that there are, by name. Where several
        runs have one of the same name, that of the newest counts."""
        self._lock = threading.RLock()
        self._ours: Sequence[tuple[Adapter, str]] | None = None
        """None until they are known: what is wrong with a run's adapters is told then."""
        self._serving: list[ClientRun] = []
        self._leaving: list[ClientRun] = []
        """Runs that are over, while what they have left is given back."""
        self._login = WatchedProcess(0)
        """Leader of the login session in which pytest was started last."""
        self._over = False
        """Whether the end is decided."""

    def has(self, ours: Sequence[tuple[Adapter, str]]) -> None:
        """Take the adapters that no run brings, each with its origin.

        :raises ConfigurationError: if a run has one of the same name.
        """
        with self._lock:
            self._ours = ours
            self._know(self._adapters_with(self._serving))

    def add(self, client: ClientRun, enter: Callable[[], None] = lambda: None) -> None:
        """A run joins.

        :param enter: Does what must be done before it counts; if it fails, the run has not joined.
        :raises Refused: the supervisor is about to end.
        :raises ConfigurationError: if the run has an adapter of a name that is taken.
        """
        with self._lock:
            if self._over:
                raise Refused("it is about to end")
            serving = [*self._serving, client]
            adapters = self._adapters_with(serving)
            enter()
            self._know(adapters)
            self._serving = serving
            if client.opening.settings.reuse:
                self._login, before = WatchedProcess(client.opening.login), self._login
                before.close()

    def leaves(self, client: ClientRun) -> bool:
        """A run is over: its adapters count no more. Returns False where it has left before."""
        with self._lock:
            if client not in self._serving:
                return False
            self._serving = [other for other in self._serving if other is not client]
            self._leaving.append(client)
            self._know(self._adapters_with(self._serving))
            return True

    def left(self, client: ClientRun) -> None:
        """What a run has left is given back, and its connections have ended."""
        with self._lock:
            self._leaving.remove(client)

    @property
    def serving(self) -> list[ClientRun]:
        """The runs that are not over, the newest last."""
        return self._serving

    @property
    def login_over(self) -> bool:
        """Whether the login session is over in which pytest was started last."""
        with self._lock:
            return self._login.gone

    def end_if(self, useless: Callable[[], bool]) -> bool:
        """Decide the end, where there is no run, and that holds. From then on no run joins. Returns whether it is so.

        :param useless: Must be quick.
        """
        with self._lock:
            self._over = self._over or (not self._serving and useless())
            return self._over

    def end(self) -> list[ClientRun]:
        """Decide the end in any case; returns the runs whose end is not complete."""
        with self._lock:
            self._over = True
            return [*self._serving, *self._leaving]

    def _adapters_with(self, serving: Iterable[ClientRun]) -> dict[str, Adapter]:
        if self._ours is None:
            return {}
        found = by_name(self._ours)
        for client in serving:
            found.update(by_name([*self._ours, *client.adapters]))
        return found

    def _know(self, adapters: dict[str, Adapter]) -> None:
        """Change what the pool has, too, at no moment without what stays."""
        self.adapters.update(adapters)
        for name in self.adapters.keys() - adapters.keys():
            del self.adapters[name]
