"""The server of a ready instance: watched from then on, so that its end is known, and explained while it can be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress

from pytest_vastgpu.client.calls import Mark
from pytest_vastgpu.core.clock import SYSTEM_CLOCK
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import verdict_line
from pytest_vastgpu.reporting.words import words
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Forward
from pytest_vastgpu.ssh.reconnecting import ReconnectingConnection
from pytest_vastgpu.supervisor.rental.server import gpu_memory
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.server.end import judge
from pytest_vastgpu.supervisor.rental.server.gpu_memory import GpuMemory
from pytest_vastgpu.supervisor.rental.server.monitor import ServerMonitor
from pytest_vastgpu.supervisor.rental.server.state import parse

KEEP_UP_S = 1.0
"""Pause between two checks whether the monitor's program still runs."""
_AGAIN_S = 5.0
"""The same, after it could not be started."""
_LOOK_S = 10.0
SETTLE_S = 0.3
"""After a request without an answer, how long a server may take to end before it is handed out again."""
SETTLE_FAILED_S = 1.0
"""The same, before it is said not to have ended while a test that failed used it."""


class InstanceSilent(Exception):
    """The instance cannot be asked: it may be lost."""


class WatchedServer:
    """One start of a server, from *ready* on. Thread-safe.

    :param monitor: Tells of its end; it is kept up from now on.
    :param forward: The port at which tests reach it; None where the market publishes the port.
    :param api_key: The instance's key, for the adapter's probes.
    :param tell: Called with a text once its end is explained.
    :param record: Called with a text and facts that are for reports alone.
    :raises ConnectFailed: if the instance can no longer be reached.
    """

    def __init__(
        self,
        monitor: ServerMonitor,
        connection: ReconnectingConnection,
        forward: Forward | None,
        workload: Workload,
        adapter: Adapter,
        api_key: str,
        tell: Callable[[str], None],
        record: Callable[..., None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._monitor = monitor
        self._connection = connection
        self._forward = forward
        self._workload = workload
        self._adapter = adapter
        self._env = {job.API_KEY: api_key}
        self._tell = tell
        self._record = record
        self._clock = clock
        self._looking = threading.Lock()
        self._since = clock.monotonic()
        self._unanswered = self.unanswered
        self._touches = 0
        self._signs = self.signs
        self._listed = connection.run(job.lists(workload.port), timeout_s=_LOOK_S).ok
        """Whether the system lists that it listens, now that it does."""
        self.end: ServerEnd | None = None
        """How it ended, once that has been looked at."""
        self.gpu_memory: GpuMemory | None = None
        """The memory of the GPUs when it was ready; None: not known yet, or it needs no GPU."""
        self._asked_gpus = False
        self._task = clock.repeat("vastgpu-server", self._step)

    @property
    def workload(self) -> Workload:
        """What it serves."""
        return self._workload

    @property
    def age_s(self) -> float:
        """Seconds since it was ready."""
        return self._clock.monotonic() - self._since

    def judge_with(self, adapter: Adapter) -> None:
        """Have this adapter judge its end: the one that it was started with may be another run's, and gone."""
        self._adapter = adapter

    @property
    def unanswered(self) -> int:
        """See :class:`~pytest_vastgpu.ssh.base.Forward`."""
        return self._forward.unanswered if self._forward is not None else 0

    @property
    def doubtful(self) -> bool:
        """Whether it has ended, as far as is known without asking the instance, or may have: :meth:`look` tells."""
        return self.end is not None or self._monitor.ended_at is not None or self.signs != self._signs

    def touched(self) -> None:
        """Note that a test runs a command on the instance, which may end the server."""
        self._touches += 1

    def was_seen(self, signs: tuple[int, int, int]) -> None:
        """Note that it was seen to serve.

        :param signs: Those from before the look.
        """
        self._signs = signs

    @property
    def signs(self) -> tuple[int, int, int]:
        """What has happened that may have been its end."""
        return self.unanswered, self._forward.hung_up if self._forward is not None else 0, self._touches

    def mark(self, start: int) -> Mark:
        """Where it is now, for a test that gets it.

        :param start: The number of this start.
        """
        return Mark(start, self._monitor.printed, self.unanswered, self._clock.time())

    def log(self, *, fresh: bool) -> tuple[str, int]:
        """All that it has printed, as far as it is kept, and how many characters that were.

        :param fresh: Whether to ask the instance for the newest lines.
        """
        if self.end is not None:
            return self.end.log, self.end.printed
        if fresh:
            with suppress(ConnectFailed, Cancelled):
                self._monitor.catch_up()
        return self._monitor.log

    def look(self, unanswered: int | None = None) -> ServerEnd | None:
        """Ask the instance what has become of it; None: it serves.

        :param unanswered: How many requests had got no answer before; None: before the last look.
        :raises InstanceSilent: if the instance does not answer.
        """
        with self._looking:
            if self.end is None:
                now, signs = self.unanswered, self.signs
                if unanswered is None and now == self._unanswered and self._answers():
                    self._signs = signs
                    return None
                if unanswered is None:
                    settle_s = SETTLE_S if now != self._unanswered else 0.0
                else:
                    settle_s = SETTLE_FAILED_S if now != unanswered else 0.0
                if self._ended(settle_s):
                    self._task.stop()
                    self._monitor.close()
                    self.end = self._explained()
                    what = words(self._workload).ended.format(self.end.how)
                    self._tell(f"{what}: {verdict_line(self.end.verdict)}")
                self._unanswered, self._signs = now, signs
            return self.end

    def replace(self, how: str, *, by_test: bool = False) -> None:
        """Watch it no more, since another start replaces it.

        :param how: What is done to it, in words that go after "it".
        :param by_test: Whether the test that uses it has that done.
        """
        with self._looking:
            self.close()
            if self.end is None:
                verdict = Verdict(FailureClass.OWN_FAULT, "server_replaced", f"it {how}", "run the test again")
                self.end = ServerEnd(self._clock.time(), None, verdict, *self._monitor.log, how, by_test)

    def close(self) -> None:
        """Watch it no more."""
        self._task.stop()
        self._monitor.close()

    def _answers(self) -> bool:
        """Whether it certainly listens, as far as a round trip tells."""
        return self._monitor.ended_at is None and self._forward is not None and self._forward.answers()

    def _ended(self, settle_s: float) -> bool:
        """Whether its process has ended, or no longer listens."""
        if self._monitor.ended_at is not None:
            return True
        try:
            look = job.look(self._workload.port, settle_s, self._monitor.folder)
            found = self._connection.run(look, timeout_s=_LOOK_S)
        except ConnectFailed as failed:
            raise InstanceSilent from failed
        if found.exit_code is None:
            raise InstanceSilent
        answer = found.stdout.strip()
        if answer.startswith(job.ENDED) and (update := parse(answer.replace(job.ENDED, "server", 1), ())):
            self._monitor.take(update)
        return self._monitor.ended_at is not None or (answer == job.DEAF and self._listed)

    def _explained(self) -> ServerEnd:
        at = self._clock.time() if self._monitor.ended_at is None else self._monitor.ended_at
        probes: Mapping[str, ProbeResult] = {}
        with suppress(ConnectFailed, Cancelled, HookFailed):  # it is judged by what is known
            self._monitor.catch_up()
            probes = self._connection.connection().probe_all(self._adapter.probes(self._workload), self._env)
        seen = self._monitor.observe(self.age_s)
        verdict = judge(self._adapter, self._workload, Observation(probes, seen.log, seen.exit_code, seen.age_s))
        return ServerEnd(at, seen.exit_code, verdict, *self._monitor.log)

    def _step(self) -> float | None:
        try:
            self._monitor.keep_up()
        except ConnectFailed:
            return _AGAIN_S
        except Cancelled:
            return None
        if self._workload.gpus and not self._asked_gpus:  # later it would say what tests have done
            self._asked_gpus = True
            with suppress(ConnectFailed):
                told = self._connection.run(gpu_memory.QUICK_SCRIPT, gpu_memory.LIMIT_S)
                self.gpu_memory = seen = gpu_memory.parse(told.stdout)
                if seen is not None and seen.used_mib:
                    self._record("its GPU memory once it serves", used_mib=seen.used_mib, total_mib=seen.total_mib)
        return KEEP_UP_S if self._monitor.runs else _AGAIN_S
