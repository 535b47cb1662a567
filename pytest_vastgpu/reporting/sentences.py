"""Builds sentences about offers, attempts and failures. Pure."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Protocol

from pytest_vastgpu.core.text.durations import spoken
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.words import Words

_TEST = "the test's own: nothing was found wrong with host or server"
_BLAME: Mapping[str, str] = {
    FailureClass.INFRA_FATAL: "the machine's; it is remembered and not rented again for a while",
    FailureClass.INCOMPATIBLE: "nobody's: this kind of machine cannot run this workload",
    FailureClass.WORKLOAD_FATAL: "the workload's: the next host would fail the same, so no other was tried",
    FailureClass.RUNTIME_LOST: "the machine's: it went away while it was in use",
    FailureClass.OWN_FAULT: "our own side's; nothing is recorded against any machine",
    FailureClass.WARMUP: "nobody's: it was still starting when its time ran out",
}


def blame(failure_class: str) -> str:
    """Whose fault a failure of a class is; of one that only another version knows, nobody can say.

    :param failure_class: Empty: nothing became of the test's instance.
    """
    return _BLAME.get(failure_class, "unknown; nobody is blamed") if failure_class else _TEST


def gpus(count: int, name: str) -> str:
    """``2x RTX 4090``, ``RTX 4090``, ``no GPU``."""
    if count < 1:
        return "no GPU"
    return name if count == 1 else f"{count}x {name}"


def offer_line(offer: Offer) -> str:
    """``machine 4242 (RTX 4090, 0.35 USD/h)``."""
    return f"machine {offer.machine_id} ({gpus(offer.num_gpus, offer.gpu_name)}, {offer.price_usd_h:.2f} USD/h)"


def workload_line(workload: Workload) -> str:
    """``vllm 'org/model'``, and ``host 1`` for a host without a server."""
    if workload.adapter == HOST and (number := dict(workload.details).get(HOST)):
        return f"{HOST} {number}"
    what = workload.model or " ".join(workload.command.split()) or workload.image
    return f"{workload.adapter} {what[:80]!r}" if what else workload.adapter


class WorkloadNames:
    """Names of the workloads of a run, in words: ``vllm 'org/model'``. No two are the same. Thread-safe.

    Hosts are apart by their numbers within a run, and those of another run have the same names there.
    """

    def __init__(self) -> None:
        self._names: dict[Workload, str] = {}
        self._lock = threading.Lock()

    def __getitem__(self, workload: Workload) -> str:
        with self._lock:
            if workload not in self._names:
                self._names[workload] = self._new(workload)
            return self._names[workload]

    def _new(self, workload: Workload) -> str:
        line = workload_line(workload)
        alike = [other for other in self._names if workload_line(other) == line]
        if not alike or workload.adapter == HOST:
            return line
        name = f"{line} ({_apart(workload, alike[0])})"
        return f"{name} no. {len(alike) + 1}" if name in self._names.values() else name


def _apart(workload: Workload, other: Workload) -> str:
    """In what a workload differs from another: ``gpus=0, other env``. No secret, command or path of a file is shown."""
    values = {
        each: getattr(workload, each.name)
        for each in dataclasses.fields(Workload)
        if getattr(workload, each.name) != getattr(other, each.name)
    }
    return ", ".join(
        f"{each.name}={value!r}"
        if each.repr and not isinstance(value, tuple) and each.name not in _COMMANDS
        else f"other {each.name}"
        for each, value in values.items()
    )


_COMMANDS = frozenset({"command", "setup"})
"""Fields with shell text: it is long, and may have a secret in it."""


def verdict_line(verdict: Verdict) -> str:
    """``infra_fatal: nvml_driver_library_mismatch``."""
    return f"{verdict.failure_class.value}: {verdict.reason}"


def outcome(attempt: Attempt) -> str:
    """The result of an attempt: ``ready``, ``reused, 12 min 5 s old``, ``called off``, or its verdict."""
    if attempt.verdict is not None:
        return verdict_line(attempt.verdict)
    if attempt.reused_at_s:
        return f"reused, {spoken(attempt.reused_at_s)} old"
    return "ready" if State.READY.value in attempt.seconds else "called off"


class Tried(Protocol):
    """An attempt, for sentences about several of them."""

    @property
    def machine_id(self) -> int:
        """The machine's id on the market."""
        ...

    @property
    def verdict(self) -> Verdict | None:
        """None if it did not fail."""
        ...


def decisive(attempts: Sequence[Tried]) -> Verdict:
    """The verdict that stands for all failed attempts: one that ended the tries, else the most frequent one.

    :param attempts: At least one has failed.
    """
    verdicts = [attempt.verdict for attempt in attempts if attempt.verdict]
    if verdicts[-1].failure_class in _ENDS_ALL:
        return verdicts[-1]
    reasons = Counter(map(verdict_line, verdicts))
    return max(reversed(verdicts), key=lambda verdict: reasons[verdict_line(verdict)])


_ENDS_ALL = frozenset({FailureClass.WORKLOAD_FATAL, FailureClass.OWN_FAULT})


def together(attempts: Sequence[Tried]) -> str:
    """What became of several attempts: ``3 attempts: 2 infra_fatal: ssh_never_up (machines 11, 12), 1 …``."""
    machines: dict[str, list[int]] = {}
    for attempt in attempts:
        if attempt.verdict:
            machines.setdefault(verdict_line(attempt.verdict), []).append(attempt.machine_id)
    parts = [
        f"{'all' if len(machines) == 1 and len(ids) > 1 else len(ids)} {verdict} "
        f"(machine{'s' * (len(set(ids)) > 1)} {', '.join(map(str, dict.fromkeys(ids)))})"
        for verdict, ids in sorted(machines.items(), key=lambda item: -len(item[1]))
    ]
    return f"{count(len(attempts), 'attempt')}: {', '.join(parts)}"


def count(number: int, thing: str) -> str:
    """``1 attempt``, ``2,000 attempts``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def size(count_bytes: int) -> str:
    """``4.7 GB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.1f} {name}"
    return count(count_bytes, "byte")


def some(names: Iterable[str], most: int = 3) -> str:
    """The first of them: ``a, b, c and 4 more``."""
    given = list(names)
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + more


def in_short(attempts: Sequence[Attempt]) -> str:
    """The decisive verdict of failed attempts, with what was seen: ``workload_fatal: setup_failed (exit code 1)``.

    :param attempts: Empty if nothing could be rented.
    """
    if not any(attempt.verdict for attempt in attempts):
        return ""
    verdict = decisive(attempts)
    seen = verdict.evidence.strip().partition("\n")[0]
    return f"{verdict_line(verdict)}{f' ({seen})' if seen else ''}"


def failure(workload: str, attempts: Sequence[Attempt], ended: str = "", said: Words | None = None) -> str:
    """All facts that explain a failed start to a person: steps, what they have in common, fault, evidence, remedy.

    :param workload: Its name.
    :param ended: Why no other offer is tried, where the last verdict is not the reason.
    :param said: How to name what happens; None: as for a server.
    """
    said = said or Words()
    lines = [f"{said.not_ready.format(workload)} ({count(len(attempts), 'attempt')})"]
    for attempt in attempts:
        if attempt.verdict is None:
            continue
        state = attempt.failed_in or State.READY
        where = said.failed_while.get(state, state.value)
        lines.append(
            f"  {attempt.number}. {offer_line(attempt.offer)}: failed while {where}: {verdict_line(attempt.verdict)}"
        )
        if attempt.verdict.evidence:
            lines.append(f"     evidence: {attempt.verdict.evidence.strip()[:600]}")
        if attempt.artifacts:
            lines.append(f"     kept in: {attempt.artifacts}")
    if any(attempt.verdict for attempt in attempts):
        if len(attempts) > 1:
            lines.append(f"  together: {together(attempts)}")
        verdict = decisive(attempts)
        lines.append(f"  whose fault: {blame(verdict.failure_class)}")
        if verdict.remedy:
            lines.append(f"  what to do: {verdict.remedy}")
    if ended:
        lines.append(f"  no other offer is tried: {ended}")
    last = attempts[-1].log_tail.strip() if attempts else ""
    if last:
        lines.append(f"  {said.last_lines}:")
        lines.extend(f"    | {line}" for line in last.splitlines())
    return "\n".join(lines)
