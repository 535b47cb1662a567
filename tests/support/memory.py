"""A provider and connections in memory, on a clock of their own. They pass the same contract tests as the real ones."""

from __future__ import annotations

import itertools
import re
import shlex
import socket
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from types import TracebackType

from pytest_vastgpu.core.clock import Clock
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import OfferRefused
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.hostcheck import judge
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.providers.base import Account
from pytest_vastgpu.providers.base import AccountKey
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.base import SelfDestruct
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.servers.system_probes import LISTENERS
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import AddressFailure
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.base import Connection
from pytest_vastgpu.ssh.base import Conversed
from pytest_vastgpu.ssh.base import TransferFailed
from pytest_vastgpu.supervisor.rental.server import at_once
from pytest_vastgpu.supervisor.rental.server import gpu_memory
from pytest_vastgpu.supervisor.rental.server import job
from tests.support.virtual import VirtualClock

STOP = job.stop(DEFAULTS.stop_s)
AT_ONCE = f"{job.IN_IMAGE_ENV}{at_once.script(())[:40]}"


@dataclass(frozen=True)
class End:
    """How a start of a server ends, after it was ready."""

    after_s: float = 60.0
    exit_code: int | None = 1
    """None: its process lives on, and no longer listens."""
    says: str = ""


@dataclass(frozen=True)
class Script:
    """How a machine behaves. Times are seconds, each from the end of the one before."""

    listed_after_s: float = 0.0
    """The list lags behind create for so long."""
    reports: Callable[[int, InstanceStatus], InstanceStatus | None] = lambda _, status: status
    """What the provider says instead of the truth, from the number of the look, the first is 1; None: nothing."""
    attach_refusal: MarketError | None = None
    """What the provider says to an attached key, which it does not attach."""
    onstart_ignored: bool = False
    """Its image honours attached keys only."""
    attach_ignored: bool = False
    """Its image honours only keys that its start script writes."""
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
    ports_late_s: float = 0.0
    """How long after it runs its direct port is not shown: only its proxy is, which refuses connections."""
    published_late_s: float = 0.0
    """How long after it runs the ports that were asked for are not shown."""
    hijacked_s: float = 0.0
    """How long its sessions then run something else than what they were asked to."""
    proxy_works: bool = False
    """Whether its proxy lets us in while its direct port is not shown."""
    ssh_gap_s: tuple[float, float] | None = None
    """From when to when, since create, its SSH server is away: connections break, and new ones are refused."""
    breaks_at: str = ""
    """The command at which a connection breaks."""
    breaks: int = 1
    loses_answer_to: str = ""
    """The command that is carried out, and whose answer a connection that breaks loses, once."""
    listens: str = ""
    """What the servers listen on, as :data:`LISTENERS` prints it."""
    """How often it does."""
    dark: bool = False
    """Nothing ever answers at its SSH address."""
    refuses_key_s: float = 0.0
    """How long it then refuses our key."""
    refused: str = ""
    """With which words its create is refused; empty: it is granted."""
    no_switch: bool = False
    setup_log: tuple[str, ...] = ("collecting", "done")
    """What the setup command prints, a line every 10 seconds, before it ends."""
    setup_code: int = 0
    setup_breaks: bool = False
    """Whether the connection breaks after the first line of it."""
    start_s: float = 30.0
    """How long the server takes to be ready."""
    log: tuple[str, ...] = ("loading", "ready")
    updates: tuple[tuple[float, str], ...] = ()
    """What the watcher tells besides, and when since the launch."""
    elsewhere: str = ""
    """What a request to another place than the server's prints."""
    exit_code: int | None = None
    """How the server ends instead of being ready; None: it does not."""
    ends: tuple[End, ...] = ()
    """How the first start of the server ends that was ready, the second, and so on; later ones live."""
    ready_starts: int = 1_000_000
    """Starts beyond this many end instead of being ready."""
    lists_sockets: bool = True
    """Whether its system lists what listens on its ports."""
    stays: str = ""
    """The processes that live on when the server is ended; empty: none does."""
    gpus: tuple[str, ...] = ()
    """What its driver says of the GPUs' memory: the first time, the second, and so on; the last again and again."""
    disk_free_kib: int = 10**7
    answers: tuple[bool, ...] = (True,)
    """Whether a look that runs several probes at once gets an answer: the first, the second, and so on."""
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
    launched: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When the present start of a server was, and its number, by the server's folder."""
    starts: int = 0
    lease_ends: float = float("inf")
    looks: int = 0
    broke: int = 0
    stops: int = 0
    gpu_looks: int = 0
    all_looks: int = 0
    commands: list[str] = field(default_factory=list)
    """Those that were carried out."""
    inputs: dict[str, bytes] = field(default_factory=dict)
    """The last input of each command that has got one."""

    def end(self, folder: str) -> tuple[End | None, float]:
        """How the present start of a server ends, and when."""
        launched, start = self.launched.get(folder, (0.0, 0))
        ends = self.script.ends[start - 1 : start] if start else ()
        return (ends[0], launched + self.script.start_s + ends[0].after_s) if ends else (None, float("inf"))


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
        self.unanswered: MarketError | None = None
        """What asking for an instance raises."""
        self.keys: dict[int, str] = {}
        """The account's SSH keys."""
        self.uplink_bytes_s = float("inf")
        """How fast files travel to its instances."""
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
        if script.refused:
            raise OfferRefused(f"create: {script.refused}", words=script.refused, status=400)
        instance = Instance(next(self._ids), offer, request, script, self.clock.monotonic())
        self.instances[instance.id] = instance
        return instance.id

    def show(self, instance_id: int) -> InstanceStatus | None:
        self.calls.append("show")
        if self.unanswered is not None:
            raise self.unanswered
        instance = self._find(instance_id)
        return self._reported(instance) if instance is not None else None

    def list_instances(self, label: str | None = None) -> Sequence[InstanceStatus]:
        listed = (
            self._reported(instance)
            for instance in self._alive()
            if self.age_s(instance) >= instance.script.listed_after_s and label in (None, instance.request.label)
        )
        return [status for status in listed if status is not None]

    def destroy(self, instance_id: int) -> None:
        self.instances.pop(instance_id, None)

    def attach_key(self, instance_id: int, public_key: str) -> None:
        instance = self._find(instance_id)
        if instance is None:
            raise RequestRejected(f"no instance {instance_id}", status=404)
        if instance.script.attach_refusal is not None:
            raise instance.script.attach_refusal
        instance.keys.append(public_key)
        if public_key not in self.keys.values():
            self.keys[next(self._ids)] = public_key

    def account_keys(self) -> Sequence[AccountKey]:
        return [AccountKey(number, line) for number, line in self.keys.items()]

    def delete_account_key(self, key_id: int) -> None:
        self.keys.pop(key_id, None)

    def logs(self, instance_id: int, tail: int) -> str:
        return ""

    # ------------------------------------------------------------- for the other side

    def age_s(self, instance: Instance) -> float:
        return self.clock.monotonic() - instance.created

    def lets_in_early(self, instance: Instance) -> bool:
        from_s = instance.script.ssh_from_s
        return from_s is not None and self.age_s(instance) >= from_s

    def hijacked(self, instance: Instance) -> bool:
        script = instance.script
        since_s = self.age_s(instance) - script.boot_s - script.refuses_s - script.refuses_key_s
        return since_s < script.hijacked_s and script.hijacked_s > 0

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

    def _reported(self, instance: Instance) -> InstanceStatus | None:
        instance.looks += 1
        return instance.script.reports(instance.looks, self._status(instance))

    def admits(self, instance: Instance) -> bool:
        """Whether some key of ours is in a place that its image looks at."""
        script = instance.script
        attached = bool(instance.keys) and not script.attach_ignored
        return attached or ("authorized_keys" in instance.request.onstart and not script.onstart_ignored)

    def _status(self, instance: Instance) -> InstanceStatus:
        script, age_s = instance.script, self.age_s(instance)
        runs = age_s >= script.boot_s and not script.never_runs
        share = min(age_s / script.boot_s, 1.0) if script.boot_s else 1.0
        message = script.messages[min(int(share * len(script.messages)), len(script.messages) - 1)]
        phase = Phase.RUNNING if runs else Phase.STARTING
        if script.offline_s is not None and script.offline_s[0] <= age_s < script.offline_s[1]:
            phase = Phase.OFFLINE
        late = age_s < script.boot_s + script.ports_late_s
        address = SshAddress("memory.invalid", instance.id, "proxy" if script.dark or late else "direct")
        shown = runs and age_s >= script.boot_s + script.published_late_s
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
            published={port: f"memory.invalid:{port}" for port in instance.request.ports} if shown else {},
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
        if command == instance.script.breaks_at and instance.broke < instance.script.breaks:
            instance.broke += 1
            self.close()
            return ProbeResult(name, ProbeFailure.TRANSPORT, None, "", "[the SSH connection broke]\n", 0.0)
        if self._provider.hijacked(instance):
            self._clock.sleep(min(1.0, timeout_s))
            return ProbeResult(name, ProbeFailure.NOT_RUN, None, "", "[the command was not run: no sessions]\n", 0.0)
        if stdin:
            instance.inputs[command] = stdin
        code, output = self._carry_out(instance, command)
        if command == instance.script.loses_answer_to and not instance.broke:
            instance.broke += 1
            self.close()
        if self.closed:
            return ProbeResult(name, ProbeFailure.TRANSPORT, None, "", "[the SSH connection broke]\n", 0.0)
        failure = ProbeFailure.COMMAND if code else ProbeFailure.NONE
        return ProbeResult(name, failure, code, output, "", 0.0)

    def send(
        self,
        command: str,
        data: Callable[[], Iterable[bytes]],
        *,
        still_s: float,
        watch: Callable[[], None] = lambda: None,
        name: str = "send",
    ) -> ProbeResult:
        parts = []
        for part in data():
            parts.append(part)
            self._clock.sleep(len(part) / self._provider.uplink_bytes_s)
            watch()
        return self.run(command, timeout_s=still_s, stdin=b"".join(parts), name=name)

    def _carry_out(self, instance: Instance, command: str) -> tuple[int, str]:
        if lease := re.search(r"echo \$\(\(n\+(\d+)\)\) 1<>lease", command):
            return 0, self._heartbeat(instance, int(lease[1]), command)
        if command == judge.SCRIPT:
            return 0, "@@ end 0\n"
        instance.commands.append(command)
        if command == STOP:
            instance.stops += 1
            return 0, f"{job.LEFT} {instance.script.stays}\n" if instance.script.stays else ""
        if command in (gpu_memory.SCRIPT, gpu_memory.QUICK_SCRIPT):
            instance.gpu_looks += 1
            said = instance.script.gpus[: instance.gpu_looks]
            return 0, said[-1] if said else ""
        if command == job.UNTOUCHED:
            return 0, "same\n" * (instance.inputs[command].count(b"\n") // 2)
        if command.startswith(AT_ONCE):
            return self._at_once(instance, command)
        if command in (job.start(), job.start(job.BESIDE)):
            instance.starts += 1
            folder = job.HOME if command == job.start() else job.BESIDE
            if folder == job.HOME:
                instance.launched.clear()
            instance.launched[folder] = self._clock.monotonic(), instance.starts
            return 0, ""
        if command == job.BEGUN_BESIDE:
            return int(job.BESIDE not in instance.launched), ""
        if command == LISTENERS.command and instance.script.listens:
            return 0, instance.script.listens
        if looks := re.match(r"cd (\S+) \|\| exit 1\nlistens\(\)", command):
            return 0, self._look(instance, looks[1])
        if "\nbase=\n" in command:
            return 0, instance.script.elsewhere
        match shlex.split(command):
            case ["cat", path]:
                found = instance.files.get(path)
                return (0, found.decode()) if found is not None else (1, "")
            case ["echo", word]:
                return 0, f"{word}\n"
            case ["exit", code]:
                return int(code), ""
            case ["df", *_]:
                return 0, f"Filesystem\noverlay 20000000 1 {instance.script.disk_free_kib} 1% /\n"
            case ["true"] | ["umask", *_] | ["cd", job.WORK, "&&", "xargs", *_] | ["tail", *_]:
                return 0, ""
            case ["grep", "-qs", *_] if instance.script.lists_sockets:
                return 0, ""
        return 127, ""

    def _at_once(self, instance: Instance, command: str) -> tuple[int, str]:
        """Carry out several probes in one command."""
        instance.all_looks += 1
        if not instance.script.answers[min(instance.all_looks, len(instance.script.answers)) - 1]:
            self.close()
            return 1, ""
        lines = []
        words = shlex.split(command[command.index("\nprobe 1 ") :])
        for number, _, probe in (words[at + 1 : at + 4] for at, word in enumerate(words) if word == "probe"):
            code, output = self._carry_out(instance, probe)
            lines.append(f"probe {number} {code} 0 {output.encode().hex()} \n")
        return 0, "".join(lines)

    def _look(self, instance: Instance, folder: str) -> str:
        end, at = instance.end(folder)
        if end is None or self._clock.monotonic() < at:
            return f"{job.LISTENING}\n"
        return f"{job.DEAF}\n" if end.exit_code is None else f"{job.ENDED} {end.exit_code}\n"

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
        instance = self._provider.at(self.address)
        if self.closed or instance is None:
            raise TransferFailed("the SSH connection broke", ProbeResult("", ProbeFailure.TRANSPORT, None, "", "", 0.0))
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
        elif watches := re.search(r"(\S+)/watch\.sh ", command):
            self._watch(instance, stream, watches[1])
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

    def _watch(self, instance: Instance, stream: MemoryStream, folder: str) -> None:
        """What the watcher tells of the scripted server."""
        if folder not in instance.launched:
            return  # there is no log, and nothing runs
        script, offset, (began, start) = instance.script, 0, instance.launched[folder]
        for number, text in enumerate(script.log, 1):
            data = f"{text}\n".encode()
            line = f"log {offset} {data.hex()}"
            offset += len(data)
            at = began + script.start_s * number / len(script.log)
            self._clock.at(at - self._clock.monotonic(), lambda line=line: stream.line(line))  # type: ignore[misc]
        for at, line in script.updates:
            self._clock.at(began + at - self._clock.monotonic(), lambda line=line: stream.line(line))  # type: ignore[misc]
        code, took_s = script.exit_code, script.start_s
        if start > script.ready_starts:
            code, took_s = 1, script.start_s / 4
        if code is not None:
            self._clock.at(began + took_s - self._clock.monotonic(), lambda: stream.line(f"server {code}"))
        end, at = instance.end(folder)
        if end is not None and code is None:
            if end.says:
                last = f"log {offset} {end.says.encode().hex()}"
                self._clock.at(at - self._clock.monotonic(), lambda: stream.line(last))
            if end.exit_code is not None:
                self._clock.at(at - self._clock.monotonic(), lambda: stream.line(f"server {end.exit_code}"))
        stream.line("server alive")

    def converse(self, command: str, local: socket.socket, on_stderr: Callable[[bytes], None]) -> Conversed:
        raise NotImplementedError("no program runs here")

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

    port: int
    url: str = "http://memory.invalid"
    unanswered: int = 0
    hung_up: int = 0
    closed: bool = False

    def answers(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class MemoryConnector:
    """Implements :class:`~pytest_vastgpu.ssh.base.Connector`."""

    def __init__(self, provider: MemoryProvider, clock: VirtualClock) -> None:
        self.proxy_answers = True
        self._provider = provider
        self._clock = clock
        self.connections: list[MemoryConnection] = []
        self.forwards: list[MemoryForward] = []
        self.on_connect: Callable[[], None] = lambda: None
        """Called when a connection has been made."""

    def dialler(self) -> Callable[[Sequence[SshAddress]], Connection]:
        return self._connect_at

    def _connect_at(self, addresses: Sequence[SshAddress]) -> Connection:
        failures: list[AddressFailure] = []
        for address in addresses:
            try:
                return self._connect(address)
            except ConnectFailed as failed:
                failures += failed.failures
        raise ConnectFailed(failures)

    def _connect(self, address: SshAddress) -> Connection:
        instance = self._provider.at(address)
        if instance is None or instance.script.dark:
            raise ConnectFailed([AddressFailure(address, ProbeFailure.UNREACHABLE, "nothing answers")])
        up_s = self._provider.age_s(instance) - instance.script.boot_s - instance.script.refuses_s
        if up_s < 0 and not self._provider.lets_in_early(instance):
            raise ConnectFailed([AddressFailure(address, ProbeFailure.REFUSED, "refused")])
        gap = instance.script.ssh_gap_s
        age_s = self._provider.age_s(instance)
        if gap is not None and gap[0] <= age_s < gap[1]:
            raise ConnectFailed([AddressFailure(address, ProbeFailure.REFUSED, "refused")])
        if address.kind == "proxy" and instance.script.ports_late_s and not instance.script.proxy_works:
            raise ConnectFailed([AddressFailure(address, ProbeFailure.REFUSED, "refused")])
        refuses_key = 0 <= up_s < instance.script.refuses_key_s
        if refuses_key or not self._provider.admits(instance):
            raise ConnectFailed([AddressFailure(address, ProbeFailure.AUTHENTICATION, "the key is refused")])
        connection = MemoryConnection(self._provider, self._clock, address)
        self.connections.append(connection)
        if gap is not None and age_s < gap[0]:
            self._clock.at(gap[0] - age_s, connection.close)
        self.on_connect()
        return connection

    def forward(self, connection: Callable[[], Connection | None], port: int) -> MemoryForward:
        self.forwards.append(MemoryForward(port))
        return self.forwards[-1]

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
