"""A provider and connections in memory, on a clock of their own. They pass the same contract tests as the real ones."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from types import TracebackType

from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.providers.base import Account
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.base import SelfDestruct
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.virtual import VirtualClock


@dataclass(frozen=True)
class Script:
    """How a machine behaves. Times are seconds, each from the end of the one before."""

    listed_after_s: float = 0.0
    """The list lags behind create for so long."""
    boot_s: float = 20.0
    messages: tuple[str, ...] = ("pulling image", "success, running image/ssh")
    """Status texts while it boots, spread over that time."""
    offline_s: tuple[float, float] | None = None
    """From when to when, since create, its host does not report."""
    never_runs: bool = False
    ssh_from_s: float | None = None
    """When, since create, its address is listed and SSH lets us in, though it is not said to run yet."""
    refuses_s: float = 5.0
    """How long its SSH server is not up yet."""
    dark: bool = False
    """Nothing ever answers at its SSH address."""
    refuses_key_s: float = 0.0
    """How long it then refuses our key."""
    no_switch: bool = False
    setup_log: tuple[str, ...] = ("collecting", "done")
    """What the setup command prints, a line every 10 seconds, before it ends."""
    setup_code: int = 0
    setup_breaks: bool = False
    """Whether the connection breaks after the first line of it."""
    start_s: float = 30.0
    """How long the server takes to be ready."""
    log: tuple[str, ...] = ("loading", "ready")
    exit_code: int | None = None
    """How the server ends instead of being ready; None: it does not."""
    vanishes_after_s: float = float("inf")
    """When the provider takes it away, since create."""


@dataclass
class Instance:
    """One that was rented."""

    id: int
    offer: Offer
    request: CreateRequest
    script: Script
    created: float
    keys: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    launched: float | None = None
    lease_ends: float = float("inf")


class MemoryProvider:
    """Implements :class:`~pytest_vastgpu.providers.base.Provider`.

    :param scripts: How each machine behaves, by its id.
    """

    def __init__(self, clock: Clock, offers: Sequence[Offer], scripts: Mapping[int, Script] | None = None) -> None:
        self.clock = clock
        self.offers = {offer.id: offer for offer in offers}
        self.scripts = scripts or {}
        self.instances: dict[int, Instance] = {}
        self.calls: list[str] = []
        self._ids = itertools.count(1)

    self_destruct = SelfDestruct("http://memory.invalid/", "KEY", "ID", "")

    def __enter__(self) -> MemoryProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing to close."""

    def account(self) -> Account:
        return Account(1, "someone@example.org", 100.0)

    def search(self, query: OfferQuery) -> Sequence[Offer]:
        taken = {instance.offer.id for instance in self._alive()}
        free = (offer for offer in self.offers.values() if offer.id not in taken)
        return sorted(free, key=lambda offer: offer.price_usd_h)[: query.limit]

    def create(self, offer_id: int, request: CreateRequest) -> int:
        offer = self.offers.get(offer_id)
        if offer is None or any(instance.offer.id == offer_id for instance in self._alive()):
            raise OfferGone(f"offer {offer_id} is gone")
        script = self.scripts.get(offer.machine_id, Script())
        instance = Instance(next(self._ids), offer, request, script, self.clock.monotonic())
        self.instances[instance.id] = instance
        return instance.id

    def show(self, instance_id: int) -> InstanceStatus | None:
        instance = self._find(instance_id)
        return self._status(instance) if instance is not None else None

    def list_instances(self, label: str | None = None) -> Sequence[InstanceStatus]:
        return [
            self._status(instance)
            for instance in self._alive()
            if self.age_s(instance) >= instance.script.listed_after_s and label in (None, instance.request.label)
        ]

    def destroy(self, instance_id: int) -> None:
        self.instances.pop(instance_id, None)

    def attach_key(self, instance_id: int, public_key: str) -> None:
        instance = self._find(instance_id)
        if instance is None:
            raise RequestRejected(f"no instance {instance_id}", status=404)
        instance.keys.append(public_key)

    def logs(self, instance_id: int, tail: int) -> str:
        return ""

    # ------------------------------------------------------------- for the other side

    def age_s(self, instance: Instance) -> float:
        return self.clock.monotonic() - instance.created

    def lets_in_early(self, instance: Instance) -> bool:
        from_s = instance.script.ssh_from_s
        return from_s is not None and self.age_s(instance) >= from_s

    def at(self, address: SshAddress) -> Instance | None:
        """The instance that is reached there."""
        return self._find(address.port)

    def _find(self, instance_id: int) -> Instance | None:
        return next((instance for instance in self._alive() if instance.id == instance_id), None)

    def _alive(self) -> list[Instance]:
        now = self.clock.monotonic()
        for instance in list(self.instances.values()):
            if self.age_s(instance) >= instance.script.vanishes_after_s or instance.lease_ends <= now:
                del self.instances[instance.id]
        return list(self.instances.values())

    def _status(self, instance: Instance) -> InstanceStatus:
        script, age_s = instance.script, self.age_s(instance)
        runs = age_s >= script.boot_s and not script.never_runs
        share = min(age_s / script.boot_s, 1.0) if script.boot_s else 1.0
        message = script.messages[min(int(share * len(script.messages)), len(script.messages) - 1)]
        phase = Phase.RUNNING if runs else Phase.STARTING
        if script.offline_s is not None and script.offline_s[0] <= age_s < script.offline_s[1]:
            phase = Phase.OFFLINE
        address = SshAddress("memory.invalid", instance.id, "proxy" if script.dark else "direct")
        return InstanceStatus(
            id=instance.id,
            label=instance.request.label,
            machine_id=instance.offer.machine_id,
            host_id=instance.offer.host_id,
            phase=phase,
            state=phase.value,
            explanation=f"it is {phase.value}",
            message=message,
            ssh=(address,) if runs or self.lets_in_early(instance) else (),
            published={},
            price_usd_h=instance.offer.price_usd_h,
            start_date=self.clock.time(),
        )


class MemoryConnection:
    """Implements :class:`~pytest_vastgpu.ssh.base.Connection`: a shell that knows our own commands."""

    def __init__(self, provider: MemoryProvider, clock: VirtualClock, address: SshAddress) -> None:
        self.address = address
        self._provider = provider
        self._clock = clock
        self.closed = False
        self._streams: list[MemoryStream] = []

    @property
    def alive(self) -> bool:
        return not self.closed and self._provider.at(self.address) is not None

    def run(
        self,
        command: str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        name: str = "command",
        spare: bool = False,
    ) -> ProbeResult:
        instance = self._provider.at(self.address)
        if self.closed or instance is None:
            return ProbeResult(name, ProbeFailure.TRANSPORT, None, "", "[the SSH connection broke]\n", 0.0)
        code, output = self._carry_out(instance, command)
        failure = ProbeFailure.COMMAND if code else ProbeFailure.NONE
        return ProbeResult(name, failure, code, output, "", 0.0)

    def _carry_out(self, instance: Instance, command: str) -> tuple[int, str]:
        if lease := re.search(r"echo \$\(\(n\+(\d+)\)\) 1<>lease", command):
            return 0, self._heartbeat(instance, int(lease[1]), command)
        if command == judge.SCRIPT:
            return 0, "@@ end 0\n"
        if command == job.START:
            instance.launched = self._clock.monotonic()
            return 0, ""
        match shlex.split(command):
            case ["cat", path]:
                found = instance.files.get(path)
                return (0, found.decode()) if found is not None else (1, "")
            case ["exit", code]:
                return int(code), ""
            case ["true"] | ["umask", *_] | ["tail", *_]:
                return 0, ""
        return 127, ""

    def _heartbeat(self, instance: Instance, lease_s: int, command: str) -> str:
        now = int(self._clock.time())
        instance.lease_ends = self._clock.monotonic() + lease_s
        end = re.search(r"echo \$\(\(n\+(\d+)\)\) 1<>end", command)
        state = "gone" if instance.script.no_switch else "alive curl 200"
        return f"{now} {now + lease_s} {now + int(end[1]) if end else ''} {state}\n"

    def probe_all(self, probes: Iterable[Probe], env: Mapping[str, str] | None = None) -> dict[str, ProbeResult]:
        return {
            probe.name: self.run(probe.command, timeout_s=probe.timeout_s, name=probe.name, env=env) for probe in probes
        }

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600, timeout_s: float = 60.0) -> None:
        if (instance := self._provider.at(self.address)) is not None:
            instance.files[path] = data

    def stream(
        self,
        command: str,
        on_line: Callable[[str], None],
        on_end: Callable[[int | None], None] | None = None,
        *,
        env: Mapping[str, str] | None = None,
    ) -> MemoryStream:
        stream = MemoryStream(self, on_line, on_end or (lambda _: None))
        self._streams.append(stream)
        instance = self._provider.at(self.address)
        if instance is None:
            self._clock.at(0.0, lambda: stream.end(None))
        elif (setup := re.search(r"^sent=(\d+)$", command, re.MULTILINE)) is not None:
            self._set_up(instance, stream, int(setup[1]))
        elif ".vastgpu/watch.sh" in command:
            self._watch(instance, stream)
        else:
            words = shlex.split(command)
            for word in words[1:]:
                self._clock.at(0.0, lambda word=word: stream.line(word))  # type: ignore[misc] # bound now
            self._clock.at(0.0, lambda: stream.end(0))
        return stream

    def _set_up(self, instance: Instance, stream: MemoryStream, sent: int) -> None:
        """What the setup command prints after the lines that were sent."""
        script, at = instance.script, 0.0
        for number, text in enumerate(script.setup_log[sent:], sent):
            at += 10.0
            if number == 1 and sent == 0 and script.setup_breaks:
                self._clock.at(at, lambda: stream.end(None))
                return
            self._clock.at(at, lambda text=text: stream.line(text))  # type: ignore[misc] # bound now
        self._clock.at(at, lambda: stream.end(script.setup_code))

    def _watch(self, instance: Instance, stream: MemoryStream) -> None:
        """What the watcher tells of the scripted server."""
        script, offset = instance.script, 0
        began = instance.launched if instance.launched is not None else self._clock.monotonic()
        for number, text in enumerate(script.log, 1):
            data = f"{text}\n".encode()
            line = f"log {offset} {data.hex()}"
            offset += len(data)
            at = began + script.start_s * number / len(script.log)
            self._clock.at(at - self._clock.monotonic(), lambda line=line: stream.line(line))  # type: ignore[misc]
        if script.exit_code is not None:
            ended = began + script.start_s - self._clock.monotonic()
            self._clock.at(ended, lambda: stream.line(f"server {script.exit_code}"))
        stream.line("server alive")

    def close(self) -> None:
        self.closed = True
        for stream in self._streams:
            stream.end(None)


class MemoryStream:
    """Implements :class:`~pytest_vastgpu.ssh.base.Stream`."""

    def __init__(
        self, connection: MemoryConnection, on_line: Callable[[str], None], on_end: Callable[[int | None], None]
    ) -> None:
        self.problem = ""
        self.stderr = ""
        self._connection = connection
        self._on_line = on_line
        self._on_end = on_end
        self._over = False

    def line(self, text: str) -> None:
        if not self._over and self._connection.alive:
            self._on_line(text)

    def end(self, code: int | None) -> None:
        if not self._over:
            self._over = True
            self._on_end(code)

    def hang_up(self) -> None:
        self.end(None)


@dataclass
class MemoryForward:
    """Implements :class:`~pytest_vastgpu.ssh.base.Forward`, and leads nowhere."""

    url: str = "http://memory.invalid"

    def close(self) -> None:
        """There is nothing to close."""


class MemoryConnector:
    """Implements :class:`~pytest_vastgpu.ssh.base.Connector`."""

    def __init__(self, provider: MemoryProvider, clock: VirtualClock) -> None:
        self.proxy_answers = True
        self._provider = provider
        self._clock = clock
        self.connections: list[MemoryConnection] = []
        self.on_connect: Callable[[], None] = lambda: None
        """Called when a connection has been made."""

    def dialler(self, addresses: Sequence[SshAddress]) -> Callable[[], Connection]:
        return lambda: self._connect(addresses[0])

    def _connect(self, address: SshAddress) -> Connection:
        instance = self._provider.at(address)
        if instance is None or instance.script.dark:
            raise ConnectFailed([AddressFailure(address, ProbeFailure.UNREACHABLE, "nothing answers")])
        up_s = self._provider.age_s(instance) - instance.script.boot_s - instance.script.refuses_s
        if up_s < 0 and not self._provider.lets_in_early(instance):
            raise ConnectFailed([AddressFailure(address, ProbeFailure.REFUSED, "refused")])
        refuses_key = 0 <= up_s < instance.script.refuses_key_s
        if refuses_key or not instance.keys:
            raise ConnectFailed([AddressFailure(address, ProbeFailure.AUTHENTICATION, "the key is refused")])
        connection = MemoryConnection(self._provider, self._clock, address)
        self.connections.append(connection)
        self.on_connect()
        return connection

    def forward(self, connection: Callable[[], Connection | None], port: int) -> MemoryForward:
        return MemoryForward()

    def speaks_ssh(self, address: SshAddress) -> bool:
        instance = self._provider.at(address)
        return instance is not None and self._provider.lets_in_early(instance)

    def answers(self, host: str, port: int) -> bool:
        return self.proxy_answers


def fleet(template: Offer, count: int) -> list[Offer]:
    """Offers of so many machines, each dearer than the one before."""
    return [
        replace(template, id=1000 + number, machine_id=number, host_id=number, price_usd_h=0.1 + number / 1000)
        for number in range(1, count + 1)
    ]
