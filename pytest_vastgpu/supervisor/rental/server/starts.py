"""The starts of servers on one instance: one after the other, or a second one beside the first."""

from __future__ import annotations

from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.supervisor.rental.server.watched import WatchedServer


class Starts:
    """Every start that was ready. Tests keep the number of the one that they have got."""

    def __init__(self) -> None:
        self._servers: list[WatchedServer] = []
        self.again = ""
        """Why the newest one was started for a workload that had one before, in a sentence; empty if it was not."""

    def __getitem__(self, number: int) -> WatchedServer:
        return self._servers[number]

    def add(self, server: WatchedServer) -> None:
        """The next start is ready."""
        before = self._servers[-1] if self._servers else None
        if before is None or before.end is None or before.end.by_test or before.workload != server.workload:
            self.again = ""
        else:
            how = before.end.how
            self.again = f"server started again, since the one before {how}; what that had in memory is lost"
        self._servers.append(server)

    def replace(self, how: str, *, by_test: bool = False) -> None:
        """All that run are ended: see :meth:`WatchedServer.replace`."""
        for server in self._servers:
            server.replace(how, by_test=by_test)

    def touched(self) -> None:
        """See :meth:`WatchedServer.touched`."""
        for server in self._servers:
            server.touched()

    def mark(self) -> Mark:
        """Where the newest one is now, for a test that gets it."""
        return self._servers[-1].mark(len(self._servers) - 1)

    def forget_earlier(self) -> None:
        """Forget the starts before the newest one, and that there were any. No test may have got one of them."""
        del self._servers[:-1]
        self.again = ""

    def close(self) -> None:
        """Watch none of them any more."""
        for server in self._servers:
            server.close()
