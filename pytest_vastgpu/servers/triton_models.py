"""Reads which models of a Triton server are loaded, and why others are not: from its index and from its log. Pure.

The lines are those of Triton's ``model_lifecycle.cc`` and ``model_repository_manager.cc``, seen in Triton 2.51.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.verdicts import FINAL
from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.servers import http_probe

_LOADING = re.compile(r"\"?loading: (\S+?):\d+\"?\s*$", re.MULTILINE)
_LOADED = re.compile(r"successfully loaded '([^']+)'")
_FAILED = re.compile(
    r"failed to load '(?P<loaded>[^']+)' version (?P<version>\d+): (?P<why>.*)"
    r"|Failed to preinitialize Python stub: Python model file not found in '"
    r"(?P<file>(?:.*/)?(?P<without>[^/]+)/\d+/[^/']+)'"
    r"|(?:Poll failed for model directory|failed to (?:load|poll) model) '(?P<polled>[^']+)': (?P<reason>.*)"
)
_BAD_TEXT = re.compile(r"Error parsing text-format \S+ (.*)")
"""Where and why a ``config.pbtxt`` cannot be read: the line before the one that names the model."""
_TAKEN = re.compile(r"failed to start (\w+) service: .*'(\S+)' already in use")
_NO_GPU = re.compile(
    r"pinned memory pool will not be available: "
    r"(?:(?P<driver>CUDA driver version is insufficient)|no CUDA-capable device).*"
)
"""What ``pinned_memory_manager.cc`` says where CUDA does not work. Models without ``KIND_GPU`` run on the CPU then."""
_MEND = "mend the model in the repository: every machine would load it in the same way"


class Entry(NamedTuple):
    """A model as the index lists it."""

    name: str
    version: str
    """Empty: no version has been loaded."""
    state: str
    """``READY``, ``LOADING``, ``UNLOADING`` or ``UNAVAILABLE``; empty: it is not loaded."""
    reason: str


class Unavailable(NamedTuple):
    """A model that is not loaded."""

    name: str
    version: str
    why: str
    """One line."""

    def __str__(self) -> str:
        named = f"{self.name!r} version {self.version}" if self.version else f"{self.name!r}"
        return f"model {named} is not loaded: {self.why}"


def wanted(models: str) -> dict[str, str]:
    """The models that must be ready, with their versions: each line has a name and perhaps a version."""
    found = {}
    for line in models.splitlines():
        name, _, version = line.partition(" ")
        found[name] = version
    return found


def index(answer: http_probe.Answer) -> list[Entry] | None:
    """The answer of ``/v2/repository/index``; None if the answer is no such list."""
    listed = answer.json()
    if answer.status != 200 or not isinstance(listed, list):
        return None
    return [
        Entry(*(str(each.get(key) or "") for key in ("name", "version", "state", "reason")))
        for each in listed
        if isinstance(each, dict)
    ]


def unavailable(entries: Sequence[Entry], models: Mapping[str, str], *, all_of_them: bool) -> Unavailable | None:
    """The first model that should be ready, is not, and is not being loaded.

    Triton answers only once it has tried to load the models of its start: what is missing then does not come.

    :param models: Those that must be ready, with their versions; empty: all.
    :param all_of_them: Whether, where no models are named, those that the index lists without a state must be ready.
    """
    if not models:
        failed = (each for each in entries if _has_failed(each) or (all_of_them and not each.state))
        return next((_unavailable(each) for each in failed), None)
    for name, version in models.items():
        own = [each for each in entries if each.name == name and version in ("", each.version)]
        if not any(each.state in ("READY", "LOADING") for each in own):
            failed = (each for each in own if _has_failed(each))
            listed = ", ".join(sorted({each.name for each in entries if each.state == "READY"})) or "none"
            none = Unavailable(name, version, f"it is not among the models that are ready: {listed}")
            return next((_unavailable(each) for each in failed), none)
    return None


def _has_failed(entry: Entry) -> bool:
    return entry.state == "UNAVAILABLE" and entry.reason != "unloaded"


def _unavailable(entry: Entry) -> Unavailable:
    return Unavailable(entry.name, entry.version, _one_line(entry.reason) or "Triton gives no reason")


def _one_line(reason: str) -> str:
    """A reason without the traceback that may follow; in the log a backslash and an n stand for a line break."""
    return reason.replace("\\n", "\n").strip().partition("\n")[0].strip().removesuffix('"').strip()


def verdict(failed: Unavailable, gpus: int) -> Verdict:
    """Whose fault it is that a model is not loaded.

    :param gpus: The number of GPUs rented.
    """
    line = f"failed to load '{failed.name}' version {failed.version or 0}: {failed.why}"
    told = classify(line, channel=Channel.SERVER_LOG, server="triton", context=f"gpus={gpus}")
    if told.failure_class in FINAL:
        return Verdict(told.failure_class, told.reason, shown(str(failed)), told.remedy)
    return Verdict(FailureClass.WORKLOAD_FATAL, "model_not_loaded", shown(str(failed)), _MEND)


def explained(found: Verdict, log: str, models: Mapping[str, str], gpus: int) -> Verdict:
    """The verdict of a failed start, by the reason of the model that has failed where the log names one.

    What speaks against the machine stays: a missing GPU makes models fail, too.
    """
    if found.failure_class in (FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE):
        return found
    if taken := _TAKEN.search(log):
        remedy = f"another program listens on {taken[2]}: give another port, or do not start that program"
        return Verdict(FailureClass.WORKLOAD_FATAL, "address_in_use", shown(taken[0]), remedy)
    failed = list(_failures(log))
    own = [each for each in failed if not models or each.name in models] or failed
    return verdict(own[0], gpus) if own else found


def _failures(log: str) -> Iterator[Unavailable]:
    """The models that have failed, in the log's order."""
    bad_text = ""
    for line in log.splitlines():
        if parse := _BAD_TEXT.search(line):
            bad_text = f" ({parse[1].strip()})"
        elif failed := _FAILED.search(line):
            name = failed["loaded"] or failed["polled"] or failed["without"]
            why = failed["why"] or failed["reason"] or f"there is no {failed['file']}"
            yield Unavailable(name, failed["version"] or "", _one_line(why) + bad_text)
            bad_text = ""


def without_gpu(log: str) -> Verdict | None:
    """The verdict if Triton, on a machine with a rented GPU, has found none."""
    if (line := _NO_GPU.search(log)) is None:
        return None
    if line["driver"]:
        remedy = "the driver is older than the image's CUDA, or not in the container: give the image's cuda"
        return Verdict(FailureClass.INCOMPATIBLE, "driver_too_old_for_image", shown(line[0]), remedy)
    remedy = "the host gave the container no GPU; another host would do; nothing in the workload caused this"
    return Verdict(FailureClass.INFRA_FATAL, "no_gpu_in_container", shown(line[0]), remedy)


def progress(log: str) -> Progress | None:
    """How many of the models that Triton loads are loaded; None before it has begun."""
    begun = set(_LOADING.findall(log))
    return Progress("models", len(begun & set(_LOADED.findall(log))), len(begun)) if begun else None
