"""Whether an instance that boots, connects or warms up is waited for or given up.

Pure: no clock, no network, no process. Times are seconds since create.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.core.image_login import REMEDY
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.supervisor.rental.boot_progress import BootHistory
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample

LOOKS = 2
"""Reports of the market in a row that must say the same against a machine: a single one may be a gap in its data."""
BOOT_CAP = 1.5
"""A boot that still makes progress at the end of its budget gets this many budgets in all."""
GETTING_ON_SHARE = 0.1
"""It still makes progress if the last progress is no older than this share of the budget."""
BLACK_HOLE = "ssh_black_hole"
WARMUP_CAP = 3.0
"""A warm-up ends after this many windows, even if it makes progress."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do yet."""


@dataclass(frozen=True)
class Connect:
    """The instance runs and has an address; connect by SSH."""


@dataclass(frozen=True)
class AttachKey:
    """The instance refuses the key; attach it once more, then go on waiting."""


@dataclass(frozen=True)
class GiveUp:
    """The attempt has failed."""

    verdict: Verdict


@dataclass(frozen=True)
class ConnectAttempt:
    """One try to connect by SSH."""

    at_s: float
    failures: tuple[ProbeFailure, ...]
    """Why each address failed."""
    text: str = ""


@dataclass(frozen=True)
class ProgressSample:
    """A sign of progress of a warming server."""

    at_s: float
    progress: Progress


def judge_boot(history: BootHistory, budget_s: float, timeouts: Timeouts = DEFAULTS) -> Wait | Connect | GiveUp:
    """Decide from the market's reports since create.

    :param history: At least one report.
    :param budget_s: The infrastructure budget.
    """
    against = judge_reports(history, timeouts)
    if against is not None:
        return against
    newest = history.samples[-1]
    if newest.status is not None and newest.status.phase is Phase.RUNNING:
        return Connect() if history.ssh else _out_of_time(newest.at_s, budget_s)
    return _with_login(_undecided(history, budget_s, timeouts), history)


_PULLING = re.compile(r"pulling (?:fs layer|from|image)|waiting|downloading|verifying checksum", re.IGNORECASE)
"""Status texts of a pull that has not come to its end."""


def _with_login(step: Wait | GiveUp, history: BootHistory) -> Wait | GiveUp:
    """Name the login as the remedy where an anonymous pull stands still: registries hold such pulls back."""
    status = history.samples[-1].status
    if isinstance(step, Wait) or status is None or not history.anonymous or not _PULLING.search(status.message):
        return step
    remedy = f"{step.verdict.remedy}. The image is pulled without a login, which some registries hold back: {REMEDY}"
    return GiveUp(replace(step.verdict, remedy=remedy))


def judge_reports(history: BootHistory, timeouts: Timeouts = DEFAULTS) -> Wait | GiveUp | None:
    """What the market's reports hold against the instance, while it boots and while SSH is tried.

    :param history: At least one report.
    :returns: None: nothing. Wait: the newest report does, and it takes more of them to be believed.
    """
    return _believed(history.samples, lambda sample: _against(history, sample, timeouts))


LOST_TO_ANOTHER = frozenset({"instance_vanished", "host_port_taken"})
"""Reasons that a boot gives up for where the market has rented one offer to two clients: the instance is taken away, or
its container finds the ports of the other."""
FIRST_PROGRESS_S = 60.0
"""Later progress of a boot shows that the instance has its machine. An earlier status text may be the market's own."""
SOLD_TWICE_S = 180.0
"""An instance that has lived for longer was not lost to another client."""


def sold_twice(verdict: Verdict, history: BootHistory) -> bool:
    """Whether a boot that has failed looks like an offer that another client rented at the same moment.

    The market then grants both creates, and only one instance starts. This is no fault of the machine's. It is also
    assumed where the instance is stopped before its host has said anything of it. A boot that goes on to get on, has
    run or has taken minutes had the machine.
    """
    statuses = [each.status for each in history.samples if each.status]
    got_on = history.got_on and history.last_s > FIRST_PROGRESS_S
    had_it = got_on or any(status.phase is Phase.RUNNING for status in statuses)
    if verdict.failure_class is not FailureClass.INFRA_FATAL or had_it or history.samples[-1].at_s > SOLD_TWICE_S:
        return False
    if verdict.reason in LOST_TO_ANOTHER:
        return True
    return verdict.reason == "never_started" and not any(status.state or status.message for status in statuses)


def judge_published(history: BootHistory, port: int, timeouts: Timeouts = DEFAULTS) -> Wait | GiveUp | None:
    """Decide about a running instance whose port the market has not published; None if the newest report is no such.

    :param history: At least one report.
    """

    def missing(sample: StatusSample) -> _Sign | None:
        status = sample.status
        if status is None or status.phase is not Phase.RUNNING or port in status.published:
            return None
        evidence = f"the market published {dict(status.published)}, not {port}"
        verdict = Verdict(FailureClass.INFRA_FATAL, "port_not_published", evidence, "another host would do")
        return _Sign(verdict, timeouts.ports_grace_s)

    return _believed(history.samples, missing)


@dataclass(frozen=True)
class _Sign:
    """What one report of the market holds against the instance."""

    verdict: Verdict
    for_s: float = 0.0
    """How long all reports must have said so."""


def _believed(samples: Sequence[StatusSample], sign_of: Callable[[StatusSample], _Sign | None]) -> Wait | GiveUp | None:
    """Believe a sign once :data:`LOOKS` reports in a row have it, and for as long as it takes."""
    newest = sign_of(samples[-1])
    if newest is None:
        return None
    looks, since_s = 0, samples[-1].at_s
    for sample in reversed(samples):
        sign = sign_of(sample)
        if sign is None or sign.verdict.reason != newest.verdict.reason:
            break
        looks, since_s = looks + 1, sample.at_s
    lasted_s = samples[-1].at_s - since_s
    if looks < LOOKS or lasted_s < newest.for_s:
        return Wait()
    if not newest.for_s:
        return GiveUp(newest.verdict)
    return GiveUp(replace(newest.verdict, evidence=f"{newest.verdict.evidence} for {lasted_s:.0f} s"))


def _against(history: BootHistory, sample: StatusSample, timeouts: Timeouts) -> _Sign | None:
    status = sample.status
    if status is None:
        text = "the market says that the instance does not exist"
        vanished = Verdict(FailureClass.INFRA_FATAL, "instance_vanished", text, "another host would do")
        return _Sign(vanished, 0.0 if history.seen else timeouts.vanished_grace_s)
    if not history.concerns(status):
        text = f"the market reports it on machine {status.machine_id}, machine {history.machine_id} was rented"
        return _Sign(Verdict(FailureClass.UNKNOWN, "other_machine", text, "another host would do"))
    if status.phase is Phase.RUNNING:
        return None
    verdict = history.judge(status.message) if status.message else None
    if verdict and verdict.failure_class in _DECIDED:
        return _Sign(verdict)
    if status.phase is Phase.NOT_STARTED:
        remedy = "another host would do; nothing in the workload caused this"
        return _Sign(Verdict(FailureClass.INFRA_FATAL, "never_started", status.explanation, remedy))
    if status.phase is Phase.OFFLINE:
        offline = Verdict(FailureClass.INFRA_FATAL, "host_offline", status.explanation, "another host would do")
        return _Sign(offline, timeouts.offline_grace_s)
    if status.phase is Phase.ENDED:
        text = f"{status.explanation}; status text: {status.message or 'none'}"
        remedy = "read the container log; the image may not stay up"
        return _Sign(Verdict(FailureClass.UNKNOWN, "container_ended", text, remedy))
    return None


_DECIDED = frozenset({FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE, FailureClass.WORKLOAD_FATAL})


def _undecided(history: BootHistory, budget_s: float, timeouts: Timeouts) -> Wait | GiveUp:
    """Decide by the boot's progress, not by the clock alone."""
    now_s = history.samples[-1].at_s
    still_s = now_s - history.last_s
    if still_s >= (timeouts.boot_still_s if history.got_on else timeouts.boot_lifeless_s):
        text = f"no new status text, no line of log and no disk space more for {still_s:.0f} s"
        return GiveUp(Verdict(FailureClass.UNKNOWN, "boot_stalled", text, "another host would do"))
    if history.got_on and still_s <= budget_s * GETTING_ON_SHARE:
        return _out_of_time(now_s, budget_s * BOOT_CAP)
    return _out_of_time(now_s, budget_s)


def _out_of_time(at_s: float, budget_s: float, said: str = "") -> Wait | GiveUp:
    if at_s < budget_s:
        return Wait()
    return GiveUp(
        Verdict(
            FailureClass.UNKNOWN,
            "boot_timeout",
            f"not reachable {at_s:.0f} s after create; the infrastructure budget is {budget_s:.0f} s"
            + (f"; {said}" if said else ""),
            "raise --vast-boot-timeout for large images, or ask for faster hosts with --vast-strictness=strict",
        )
    )


def judge_connect(
    attempts: Sequence[ConnectAttempt],
    running_at_s: float,
    budget_s: float,
    attached_again: bool,
    timeouts: Timeouts = DEFAULTS,
) -> Wait | AttachKey | GiveUp:
    """Decide from failed attempts to connect by SSH.

    :param attempts: All attempts so far, oldest first; the last one failed.
    :param running_at_s: When the instance was first seen running, or when a better address appeared.
    :param attached_again: Whether the key was attached a second time.
    """
    newest = attempts[-1]
    kinds = set(newest.failures)
    young_s = newest.at_s - running_at_s
    if ProbeFailure.HOST_KEY in kinds:
        if len(attempts) >= LOOKS and all(ProbeFailure.HOST_KEY in each.failures for each in attempts[-LOOKS:]):
            return GiveUp(_ssh_verdict("ssh_host_key_changed", newest))
    elif ProbeFailure.NOT_RUN in kinds:
        pass  # we are logged in, and the image still prepares its login: that is no fault of the host
    elif ProbeFailure.AUTHENTICATION in kinds:
        refused_s = newest.at_s - _failing_since(attempts, ProbeFailure.AUTHENTICATION)
        if young_s >= timeouts.key_grace_s:
            return GiveUp(_ssh_verdict("ssh_key_refused", newest))
        if refused_s >= timeouts.key_attach_again_s and not attached_again:
            return AttachKey()
    elif kinds <= {ProbeFailure.UNREACHABLE, ProbeFailure.TIMEOUT}:
        dark_s = newest.at_s - max(
            running_at_s, _failing_since(attempts, ProbeFailure.UNREACHABLE, ProbeFailure.TIMEOUT)
        )
        if dark_s >= timeouts.black_hole_s:
            return GiveUp(_ssh_verdict(BLACK_HOLE, newest))
    elif young_s >= timeouts.refused_grace_s:
        return GiveUp(_ssh_verdict("ssh_never_up", newest))
    return _out_of_time(newest.at_s, budget_s, newest.text)


def _failing_since(attempts: Sequence[ConnectAttempt], *kinds: ProbeFailure) -> float:
    """When the newest unbroken series of attempts that failed in one of these ways began."""
    began = attempts[-1].at_s
    for attempt in reversed(attempts):
        if not set(attempt.failures) & set(kinds):
            break
        began = attempt.at_s
    return began


def _ssh_verdict(reason: str, attempt: ConnectAttempt) -> Verdict:
    return Verdict(
        FailureClass.INFRA_FATAL, reason, attempt.text, "another host would do; nothing in the workload caused this"
    )


def judge_warmup(moves: Sequence[ProgressSample], now_s: float, window_s: float, shown: str = "") -> Wait | GiveUp:
    """Decide whether a warming server gets more time. New progress extends the window, up to a hard cap.

    Progress seen before does not count again: a server that restarts over and over gets no more time.

    :param moves: Every change of progress, oldest first; the first is the launch.
    :param window_s: The warm-up window, from the workload or its adapter.
    :param shown: What the server shows now, for the evidence.
    """
    if warmup_left_s(moves, now_s, window_s) > 0:
        return Wait()
    started_s, still_s = moves[0].at_s, now_s - _newest_at_s(moves)
    return GiveUp(
        Verdict(
            FailureClass.WARMUP,
            "warmup_timeout",
            f"not ready {now_s - started_s:.0f} s after launch, the last {still_s:.0f} s of them at "
            f"'{moves[-1].progress}'; the warm-up window is {window_s:.0f} s{'; ' * bool(shown)}{shown}",
            "give the workload a longer warmup_s, or a machine with a faster network and disk",
        )
    )


def warmup_left_s(moves: Sequence[ProgressSample], now_s: float, window_s: float) -> float:
    """How long a warming server may still take if it makes no progress; 0 or less: its time is over.

    :param moves: See :func:`judge_warmup`, also for the others.
    """
    return min(_newest_at_s(moves) + window_s, moves[0].at_s + window_s * WARMUP_CAP) - now_s


def _newest_at_s(moves: Sequence[ProgressSample]) -> float:
    """When the newest progress was made that had not been made before."""
    firsts: dict[Progress, float] = {}
    for move in moves:
        firsts.setdefault(move.progress, move.at_s)
    return max(firsts.values())
