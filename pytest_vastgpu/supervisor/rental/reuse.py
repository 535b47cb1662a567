"""Whether a ready instance is handed out again, and what its server needs before: one look, and a decision over it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_vastgpu.core.image_login import ImageLogin
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.hostcheck import judge as hostcheck
from pytest_vastgpu.hostcheck.facts import df
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import verdict_line
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.servers.archive import differing
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.listing import brought_by
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.bringup.context import login_for
from pytest_vastgpu.supervisor.rental.give_up import LOOKS
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.server import at_once
from pytest_vastgpu.supervisor.rental.server import gpu_memory
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.server.end import ServerEnd
from pytest_vastgpu.supervisor.rental.server.gpu_memory import GpuMemory
from pytest_vastgpu.supervisor.rental.server.job import Launched

LEAST_LIFE_S = 300.0
"""An instance with less life left is not handed out: a run of some minutes would lose it."""
LEAST_LIFE_SHARE = 0.1
"""Where lives are short, so that this share of one is less than :data:`LEAST_LIFE_S`, this share is enough."""
LEAST_DISK_GB = 0.5
"""A disk with less free space counts as full."""
_LIMIT_S = 15.0
"""Time limit of the look, beside that of the slowest probe."""


@dataclass(frozen=True)
class Fit:
    """It serves, and is handed out as it is."""


@dataclass(frozen=True)
class Restart:
    """Its server must be started again first."""

    why: str
    """Ends a sentence after "because": ``its GPU memory has grown from 11.2 GiB to 14.0 GiB``."""


@dataclass(frozen=True)
class Useless:
    """It is handed out no more."""

    verdict: Verdict


@dataclass(frozen=True)
class Condition:
    """What was seen of a ready instance."""

    life_s: float = float("inf")
    """Seconds until its end of life."""
    whole_life_s: float = float("inf")
    """Seconds from create to that end."""
    disk_free_gb: float | None = None
    """None: unknown, which counts against nothing. So do all other unknown values."""
    end: ServerEnd | None = None
    """How its server has ended; None: its process lives."""
    readiness: Readiness = field(default_factory=Ready)
    """What the adapter says of its probes now, and of the log until it was ready."""
    gpus_at_ready: GpuMemory | None = None
    gpus: GpuMemory | None = None
    changed: str = ""
    """What is here another than the server was started with, ending a sentence after "because"."""


def decide(seen: Condition) -> Fit | Restart | Useless:
    """What becomes of an instance that was seen like this. Pure."""
    if verdict := _useless(seen):
        return Useless(verdict)
    if seen.end is not None:
        return Restart(f"it {seen.end.how}")
    if isinstance(seen.readiness, Warming):
        return Restart(f"it does not answer as one that is ready ({seen.readiness.progress})")
    if isinstance(seen.readiness, Failed):
        return Restart(f"it is no longer ready ({verdict_line(seen.readiness.verdict)})")
    why = gpu_memory.grown(seen.gpus_at_ready, seen.gpus) or seen.changed
    return Restart(why) if why else Fit()


def _useless(seen: Condition) -> Verdict | None:
    """Why another start of the server would not help; None where it would, or none is needed."""
    if seen.life_s < min(LEAST_LIFE_S, LEAST_LIFE_SHARE * seen.whole_life_s):
        text = f"its life ends in {max(0.0, seen.life_s):.0f} s (--vast-max-lifetime)"
        return Verdict(FailureClass.OWN_FAULT, "lifetime_over", text, "raise --vast-max-lifetime")
    if seen.disk_free_gb is not None and seen.disk_free_gb < LEAST_DISK_GB:
        text = f"{seen.disk_free_gb:.1f} GB of its disk are free"
        return Verdict(FailureClass.UNKNOWN, "disk_full", text, "raise disk_gb, or have the tests clean up")
    for verdict in (
        seen.end.verdict if seen.end is not None else None,
        seen.readiness.verdict if isinstance(seen.readiness, Failed) else None,
        _gpu_trouble(seen.gpus_at_ready, seen.gpus),
    ):
        if verdict is not None and verdict.failure_class.blames_machine:
            return verdict
    return None


def _gpu_trouble(before: GpuMemory | None, now: GpuMemory | None) -> Verdict | None:
    if now is None:
        return None
    if now.exit_code:
        return classify(now.said, channel=Channel.NVIDIA_SMI)
    if before is not None and gpu_memory.fewer(before, now):
        text = f"{len(before.used_mib)} GPUs when it was ready, {len(now.used_mib)} now"
        return Verdict(FailureClass.INFRA_FATAL, "fewer_gpus_than_sold", text, "another host would do")
    return None


def look_again(context: BringUpContext, workload: Workload | None = None) -> Fit | Restart | Useless:
    """Look whether a ready instance, which no test uses, can be handed out; one command where it can.

    From now on the adapter of the context judges the server. What is handed out again is told. Where it cannot, a
    second look is closer, since the first may have been a gap: an instance that does not answer, a server that is not
    ready for a moment. Where the market does not answer either, it looks again until that does.

    :param workload: What it is wanted for; None: what it serves. Its server must be replaced for another one, which it
        must take (:func:`takes`); so only what stays is looked at.
    :raises HookFailed: if the adapter fails.
    :raises ConfigurationError: if the workload's files cannot be read any more.
    :raises Cancelled: the run is ending.
    """
    rental, cancel = context.rental, context.cancel
    server = rental.servers[-1]
    if workload is None or workload == rental.workload:
        server.judge_with(context.adapter)
        probes, changed = context.adapter.probes(rental.workload), _changed(context)
    else:
        probes, changed = None, f"{workload_line(workload)} is needed"
    found: Fit | Restart | Useless = Fit()
    clock, timeouts = context.services.clock, context.services.timeouts
    silence_ends = clock.monotonic() + timeouts.market_silence_s
    for look in itertools.count():
        if look:
            cancel.wait(timeouts.look_least_s if look < LOOKS else timeouts.look_most_s)
        cancel.check()
        signs = server.signs
        seen = _look(context, probes, changed, closely=bool(look))
        if isinstance(seen, Verdict):
            found = Useless(seen)
            if seen.failure_class is not FailureClass.UNKNOWN:
                break
            if look + 1 < LOOKS:
                continue
            if clock.monotonic() >= silence_ends or not _market_is_silent(rental):
                break
            if look + 1 == LOOKS:
                rental.tell("neither it nor the market answers: our own network may be down; it is looked at again")
            continue
        found = decide(seen)
        if seen.end is not None or isinstance(found, Fit | Useless) or found == Restart(changed) or look + 1 >= LOOKS:
            break
    if isinstance(found, Fit):
        server.was_seen(signs)
        rental.tell(f"used again, {warm(context.services.clock.time() - rental.ready_at, rental.ready_at)}")
    return found


def warm(seconds: float, ready_at: float) -> str:
    """``warm for 12 min (ready since 14:03)``.

    :param ready_at: Epoch seconds.
    """
    long = f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min"
    return f"warm for {long} (ready since {time.strftime('%H:%M', time.localtime(ready_at))})"


def takes(rental: Rental, workload: Workload, adapter: Adapter) -> str:
    """Why a workload cannot run on a ready instance with another start of the server; empty where it can. Pure.

    Looks at what is fixed at create, and at what the host check has found. Whether the offer is admitted for the
    workload is another question.
    """
    rented = rental.rented
    if rental.state is not State.READY or rented is None:
        return f"it is {rental.state.value}"
    image = workload.image or adapter.default_image
    if image != rented.image:
        return f"its image is {rented.image}, and {image} is needed"
    login = _login(workload, image, rental.services.image_login)
    if login != (rented.image_login.reveal() if rented.image_login else ""):
        return "its image was pulled with another login"
    if workload.disk_gb > rented.disk_gb:
        return f"its disk has {rented.disk_gb:g} GB, and {workload.disk_gb:g} GB are needed"
    if rented.ports and workload.port not in rented.ports:
        return f"it publishes port {rented.ports[0]}, and port {workload.port} is needed (--vast-expose)"
    verdict = hostcheck.judge(rental.offer, workload, rental.host_facts)
    return f"its host does not fit: {verdict.evidence}" if verdict is not None else ""


def apart(
    one: Workload,
    ones: Adapter,
    other: Workload,
    others: Adapter,
    users_login: ImageLogin | None,
    ports_matter: bool,
) -> str:
    """Why no instance can serve two workloads one after the other, whatever its host; empty where one can. Pure.

    :param ones: The adapter of the first, and so on.
    :param users_login: The user's login at a registry.
    :param ports_matter: Whether instances publish the port of their server.
    """
    images = (one.image or ones.default_image, other.image or others.default_image)
    if images[0] != images[1]:
        return f"one needs the image {images[0]}, the other {images[1]}"
    if _login(one, images[0], users_login) != _login(other, images[1], users_login):
        return "each pulls the image with another login"
    if one.gpus != other.gpus:
        return f"one needs {count(one.gpus, 'GPU')}, the other {count(other.gpus, 'GPU')}"
    if one.gpu_name and other.gpu_name and one.gpu_name != other.gpu_name:
        return f"one needs {one.gpu_name}, the other {other.gpu_name}"
    if ports_matter and one.port != other.port:
        return f"one publishes port {one.port}, the other {other.port} (--vast-expose)"
    return ""


def _login(workload: Workload, image: str, users_login: ImageLogin | None) -> str:
    login = login_for(workload, image, users_login)
    return login.text().reveal() if login else ""


def _look(
    context: BringUpContext, theirs: Sequence[Probe] | None, changed: str, *, closely: bool
) -> Condition | Verdict:
    """What is seen now, or why nothing can be seen.

    :param theirs: The adapter's probes; None: the server does not matter.
    :param closely: Whether to run also probes that are run seldom while a server starts, and to ask whose the GPU
        memory is.
    """
    rental, adapter, workload = context.rental, context.adapter, context.rental.workload
    server = rental.servers[-1]
    script = gpu_memory.SCRIPT if closely else gpu_memory.QUICK_SCRIPT
    gpus = [Probe("gpus", script, gpu_memory.LIMIT_S)] if workload.gpus else []
    ours = [Probe("disk", "df -Pk ."), *gpus]
    if theirs is not None:
        ours.append(Probe("server", job.look(workload.port)))
    probes = [*ours, *(probe for probe in theirs or () if closely or not probe.every_s)]
    command = f"{job.IN_IMAGE_ENV}{at_once.script(probes)}"
    limit_s = _LIMIT_S + max(probe.timeout_s for probe in probes)
    try:
        answer = rental.connected.run(command, limit_s, env={job.API_KEY: rental.api_key})
    except ConnectFailed as failed:
        return rental.confirm_lost() or _unseen(str(failed))
    if answer.exit_code is None:
        return rental.confirm_lost() or _unseen(answer.stderr.strip() or answer.failure.value)
    results = at_once.results(answer.stdout, probes)
    if not any(result.exit_code is not None for result in results):
        return _unseen(answer.stderr.strip() or f"exit code {answer.exit_code}")
    whole_life_s = context.services.settings.max_lifetime
    found = Condition(
        whole_life_s - rental.age_s,
        whole_life_s,
        df(results[0].stdout, 4, 1024 / 1e9),
        gpus_at_ready=server.gpu_memory,
        gpus=gpu_memory.parse(results[1].stdout) if gpus else None,
        changed=changed,
    )
    if theirs is None:
        return replace(found, gpus_at_ready=None)  # its server is ended, with whatever memory it holds
    listens = results[len(ours) - 1].stdout.strip() == job.LISTENING
    end = rental.look() if server.end is not None or not listens else None
    if isinstance(end, Verdict):
        return end
    if end is not None:
        return replace(found, end=end)
    seen = {probe.name: at_once.not_run(probe) for probe in theirs}
    seen |= {result.name: result for result in results[len(ours) :]}
    return replace(found, readiness=adapter.assess(workload, Observation(seen, rental.log, None, server.age_s)))


def _market_is_silent(rental: Rental) -> bool:
    try:
        rental.services.provider.show(rental.instance_id)
    except MarketUnreachable:
        return True
    except MarketError:  # it answers
        pass
    return False


def _unseen(text: str) -> Verdict:
    return Verdict(FailureClass.UNKNOWN, "not_seen", f"it cannot be looked at: {text}", "another instance would do")


def _changed(context: BringUpContext) -> str:
    """What differs here from what its server was started with."""
    rental, adapter, workload = context.rental, context.adapter, context.rental.workload
    if others := differing(brought_by(workload), rental.files):
        first = others[0].partition("/")[2] if workload.adapter == HOST else others[0]
        more = f" and {count(len(others) - 1, 'more file')} have" if len(others) > 1 else " has"
        return f"{sanitize.line(first)}{more} changed here"
    start = adapter.launch(workload, rental.api_key)
    if Launched(start, dict(adapter.headers(workload, rental.api_key))) != rental.start:
        return f"its adapter {adapter.name!r} starts it in another way now"
    return ""
