"""Looks at things at the same time, each with a time limit: networks and file systems can be silent for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic
from typing import TypeVar

from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.errors import VastGpuError

T = TypeVar("T")


class NoAnswer(VastGpuError):
    """What was looked at gave no answer in time."""


class Pending(Generic[T]):
    """The result of a function that runs in a thread of its own, and is left alone there once its time is over.

    :param look: What to do.
    :param within_s: Its time limit in seconds, from now on.
    """

    def __init__(self, look: Callable[[], T], within_s: float) -> None:
        self._within_s = within_s
        self._deadline = Deadline.after(within_s)
        self._over = threading.Event()
        self._found: list[T] = []
        self._error: Exception | None = None

        def run() -> None:
            try:
                self._found.append(look())
            except Exception as error:  # noqa: BLE001 - raised in whoever asks for the result
                self._error = error
            finally:
                self._over.set()

        threading.Thread(target=run, name="vastgpu-doctor", daemon=True).start()

    def result(self) -> T:
        """What the function returned. Any thread may ask, and as often as it likes.

        :raises NoAnswer: if the function is not over in time.
        :raises Exception: what the function raised.
        """
        if not self._over.wait(max(0.0, self._deadline.remaining_s)):
            raise NoAnswer(f"no answer within {self._within_s:g} s")
        if self._error is not None:
            raise self._error
        return self._found[0]

    def outcome(self) -> T | Exception:
        """The result, or the exception that :meth:`result` would raise."""
        try:
            return self.result()
        except Exception as error:  # noqa: BLE001 - the caller judges it
            return error
