"""Our verdicts beside a table of substrings, on the labelled outputs of the tests.

``python -m tests.benchmarks.verdicts_vs_substrings`` prints how many of the labels each of them finds, by fidelity and
by label, and how many innocent machines each would blame. The substrings are those of an earlier system that rented
the same hosts: it looked for words anywhere in a text, in a fixed order.
"""

from __future__ import annotations

import sys
from collections import defaultdict

from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.readiness.verdicts import classify
from tests.readiness.samples import Sample
from tests.readiness.samples import samples

_HOST_IN_STATUS = (
    "oci runtime create failed",
    "failed to create task for container",
    "error response from daemon",
    "no such container",
)
_HOST_IN_MESSAGE = ("cdi", "cuda", "gpu error, unable to start instance", "cannot find -lcuda")
_HOST_IN_SSH = ("remote port forwarding failed for listen port", "port forwarding failed for listen port")
_IN_LOG: tuple[tuple[FailureClass, tuple[str, ...]], ...] = (
    (
        FailureClass.INFRA_FATAL,
        (
            "unsupported display driver / cuda driver combination",
            "cudagetdevicecount",
            "oci runtime create failed",
            "gpu error, unable to start instance",
            "failed to create task for container",
            "error response from daemon",
        ),
    ),
    (
        FailureClass.INCOMPATIBLE,
        ("cannot find -lcuda", "engine core initialization failed", "inductorerror"),
    ),
    (
        FailureClass.WORKLOAD_FATAL,
        ("failed core proc", "returned non-zero exit status", "traceback", "runtimeerror"),
    ),
)


def by_substrings(sample: Sample) -> FailureClass:
    """What the table of substrings says."""
    text = sample.text.lower()
    if sample.channel is Channel.STATUS_MSG:
        blamed = any(words in text for words in (*_HOST_IN_STATUS, *_HOST_IN_MESSAGE))
        return FailureClass.INFRA_FATAL if blamed else FailureClass.WARMUP
    if sample.channel is Channel.SSH:
        return FailureClass.INFRA_FATAL if any(words in text for words in _HOST_IN_SSH) else FailureClass.WARMUP
    if sample.channel is Channel.CURL:
        return FailureClass.READY if " 200 " in text else FailureClass.WARMUP
    if "application startup complete" in text:
        return FailureClass.READY  # it asked with curl before it read the log, and is answered from here on
    for failure, substrings in _IN_LOG:
        if any(words in text for words in substrings):
            return failure
    return FailureClass.WARMUP


def by_rules(sample: Sample) -> FailureClass:
    """What this package says."""
    return classify(sample.text, channel=sample.channel, server=sample.server, context=sample.context).failure_class


def main() -> None:
    """Print the comparison."""
    given = samples()
    judges = (by_substrings, by_rules)
    _print_row("", "outputs", "substrings", "rules")
    for name, group in _groups(given).items():
        _print_row(name, len(group), *(sum(judge(s) is s.label for s in group) for judge in judges))
    innocent = [sample for sample in given if sample.label is not FailureClass.INFRA_FATAL]
    blamed = (sum(judge(s) is FailureClass.INFRA_FATAL for s in innocent) for judge in judges)
    _print_row("innocent machines blamed", len(innocent), *blamed)


def _groups(given: list[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in given:
        for name in ("all", f"fidelity {sample.fidelity}", f"label {sample.label.value}"):
            groups[name].append(sample)
    return dict(sorted(groups.items()))


def _print_row(name: str, *cells: object) -> None:
    sys.stdout.write(f"{name:<26}" + "".join(f"{cell:>12}" for cell in cells) + "\n")


if __name__ == "__main__":
    main()
