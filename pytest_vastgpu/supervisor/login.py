"""The user's login session: a supervisor that outlives its run does not outlive that."""

from __future__ import annotations

import contextlib
import os
import select


class LoginSession:
    """Watches the process that leads a login session, such as the shell of a terminal.

    :param leader: Its process id; 0 if not known.
    """

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._descriptor = -1
        self._gone = False
        if leader and hasattr(os, "pidfd_open"):  # Linux; it stays right where the id is used for another process
            try:
                self._descriptor = os.pidfd_open(leader)
            except ProcessLookupError:
                self._gone = True
            except OSError:
                pass  # a sandbox forbids it: look for the process id instead

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        if self._descriptor >= 0 and not self._gone:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            self._gone = bool(poll.poll(0))
        elif self._leader and not self._gone:
            try:
                os.kill(self._leader, 0)
            except ProcessLookupError:
                self._gone = True
            except PermissionError:
                pass  # it is another user's, such as a login program: it lives
        return self._gone

    def close(self) -> None:
        """Watch it no more."""
        with contextlib.suppress(OSError):
            if self._descriptor >= 0:
                os.close(self._descriptor)
        self._descriptor = -1
