"""Tells whether a process of the user has ended: one that runs pytest, or one that leads a login session."""

from __future__ import annotations

import contextlib
import os
import select
import threading


class WatchedProcess:
    """Watches a process that need not be a child of this one. Thread-safe.

    :param pid: Its process id; 0 if not known.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        """Keeps a descriptor open while it is asked."""
        self._descriptor = -1
        self._gone = False
        if pid and hasattr(os, "pidfd_open"):  # Linux; it stays right where the id is used for another process
            try:
                self._descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                self._gone = True
            except OSError:
                pass  # a sandbox forbids it: look for the process id instead

    @property
    def gone(self) -> bool:
        """Whether it has ended; False if it is not known."""
        with self._lock:
            if self._pid and not self._gone:
                self._gone = self._has_ended()
            return self._gone

    def close(self) -> None:
        """Watch it no more: what was seen last stays."""
        with self._lock:
            self._pid = 0
            if self._descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(self._descriptor)
            self._descriptor = -1

    def _has_ended(self) -> bool:
        if self._descriptor >= 0:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            return bool(poll.poll(0))
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is another user's, such as a login program: it lives
        return False
