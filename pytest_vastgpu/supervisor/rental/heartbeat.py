"""The heartbeat of one instance: extends its lease over SSH, and reads the state of its dead man's switch."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.clock import Deadline
from pytest_vastgpu.core.clock import Repeated
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.deadman import DeadmanState
from pytest_vastgpu.supervisor.rental.deadman import HeartbeatReply
from pytest_vastgpu.supervisor.rental.deadman import heartbeat_command
from pytest_vastgpu.supervisor.rental.deadman import parse_heartbeat_reply

BEATS_PER_LEASE = 4
"""Heartbeats in the time of one lease. All but one of them may be lost."""
_COARSE_S = 1.0
"""The instance's clock counts whole seconds, so that its lease may be over this much earlier."""
_QUICK_S = 0.05
_LIMIT_S = 10.0
_UNKNOWN = DeadmanState(False, False, "nothing is known of it yet")


def arming(switch: DeadmanState, age_s: float, within_s: float) -> bool:
    """Whether the dead man's switch may still become armed.

    :param age_s: Seconds since the heartbeat was created.
    :param within_s: See :attr:`~pytest_vastgpu.core.timeouts.Timeouts.arm_within_s`.
    """
    return not switch.settled and age_s < within_s


class Heartbeat:
    """Keeps one instance alive over its SSH connection, in the background, until it is stopped.

    :param lease_s: How long the instance lives after the last heartbeat.
    :param end: Its hard end of life, sent until the instance confirms it.
    :param tell: Called with a text at each change: the dead man's switch is armed or not, heartbeats fail or succeed
        again.
    :param nudge: Called when the state of the dead man's switch becomes :attr:`known`.
    """

    def __init__(
        self,
        connection: ReconnectingConnection,
        lease_s: float,
        end: Deadline,
        tell: Callable[[str], None],
        nudge: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
        arm_within_s: float = DEFAULTS.arm_within_s,
    ) -> None:
        self._arm_within_s = arm_within_s
        self.switch = _UNKNOWN
        """The dead man's switch as the instance last reported it."""
        self._connection = connection
        self._lease_s = lease_s
        self._end: Deadline | None = end
        self._tell = tell
        self._beating = threading.Lock()
        self._nudge = nudge
        self._clock = clock
        self._stopped = False
        self.known = False
        """Whether it is settled if the dead man's switch is armed. That takes some seconds at most."""
        self._task: Repeated | None = None
        self._told: DeadmanState | None = None
        self._lost = False
        self._born = clock.monotonic()
        self._heard = self._now()

    def start(self) -> None:
        """Send the first heartbeat now, and go on."""
        self._task = self._clock.repeat("vastgpu-heartbeat", self._step)

    def stop(self) -> None:
        """Send no more heartbeats. This does not wait for one that is under way."""
        self._stopped = True
        if self._task is not None:
            self._task.stop()
        self._answered()

    @property
    def missing(self) -> str:
        """Why there is no dead man's switch; empty where there is one, or where that is not known yet."""
        return self._told.text if self._told is not None and not self._told.armed else ""

    @property
    def gave_up(self) -> bool:
        """Whether the last heartbeat is so old that the instance may have destroyed itself."""
        return self.switch.armed and self.silent_s > self._lease_s - _COARSE_S

    @property
    def silent_s(self) -> float:
        """Seconds since the last heartbeat that succeeded, including time in which this machine slept."""
        return max(now - heard for now, heard in zip(self._now(), self._heard, strict=True))

    def last_words(self, seconds: float) -> HeartbeatReply | None:
        """Set lease and end of life to this time from now, and send no more heartbeats: the instance is kept.

        :returns: The instance's answer; None where it gives none.
        """
        self.stop()
        with self._beating:
            return self._beat(seconds, seconds)

    def _step(self) -> float | None:
        with self._beating:
            if self._stopped:
                return None
            end_s = math.ceil(self._end.remaining_s) if self._end is not None else None
            beat = self._beat(self._lease_s, end_s)
        if beat is not None:
            self.switch = beat.switch
            # Before the switch is settled, the start script may still write its own, later end over this one.
            if beat.end_s == end_s and beat.switch.settled:
                self._end = None
        if arming(self.switch, self._clock.monotonic() - self._born, self._arm_within_s):
            return _QUICK_S
        self._tell_switch()
        self._answered()
        return self._lease_s / BEATS_PER_LEASE

    def _answered(self) -> None:
        self.known = True
        self._nudge()

    def _tell_switch(self) -> None:
        if self.switch != self._told and not self._stopped:
            self._told = self.switch
            self._tell(describe(self.switch))

    def _beat(self, lease_s: float, end_s: float | None) -> HeartbeatReply | None:
        sent = self._now()
        try:
            result = self._connection.run(heartbeat_command(lease_s, end_s), timeout_s=_LIMIT_S, spare=True)
        except ConnectFailed as failed:
            beat, problem = None, str(failed)
        else:
            beat, problem = parse_heartbeat_reply(result.stdout), result.stderr.strip() or result.failure.value
        if beat is not None and beat.lease_s < lease_s:
            beat = None  # the instance could not write the file
        if beat is not None:
            self._heard = sent
        lost = beat is None
        if lost != self._lost and not self._stopped:
            self._lost = lost
            self._tell(f"does not hear of us: {problem}" if lost else "hears of us again")
        return beat

    def _now(self) -> tuple[float, float]:
        """Both clocks: the first stops while this machine sleeps, the second may be set."""
        return self._clock.monotonic(), self._clock.time()


def describe(switch: DeadmanState) -> str:
    """The state of the dead man's switch, for people."""
    if switch.armed:
        return f"dead man's switch armed ({switch.text})"
    return f"NO dead man's switch: {switch.text}; if this machine dies, only the next run or `vastgpu reap` ends it"
