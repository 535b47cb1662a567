"""Our verdicts beside a table of substrings, on the labelled outputs of the tests.

``python -m tests.benchmarks.verdicts_vs_substrings`` prints how many of the labels each of them finds, by fidelity and
by label, and how many innocent machines each would blame. The substrings are those of an earlier system that rented
the same hosts: it looked for words anywhere in a text, in a fixed order.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

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
    rows = [("", "outputs", "substrings", "rules")]
    judges: tuple[Callable[[Sample], FailureClass], ...] = (by_substrings, by_rules)
    answers = [[judge(sample) for sample in given] for judge in judges]
    groups: list[tuple[str, Callable[[Sample], bool]]] = [("all", lambda _: True)]
    groups += [(name, lambda s, name=name: s.fidelity == name) for name in sorted({s.fidelity for s in given})]  # type: ignore[misc] # mypy cannot infer a lambda with a default
    groups += [
        (label, lambda s, label=label: s.label.value == label) for label in sorted({s.label.value for s in given})
    ]  # type: ignore[misc] # the same
    for name, belongs in groups:
        counts = Counter[int]()
        for number, sample in enumerate(given):
            for judge, answer in enumerate(answers):
                counts[judge] += belongs(sample) and answer[number] is sample.label
        total = sum(map(belongs, given))
        rows.append((name, str(total), str(counts[0]), str(counts[1])))
    blamed = [
        sum(a is FailureClass.INFRA_FATAL is not s.label for a, s in zip(answer, given, strict=True))
        for answer in answers
    ]
    rows.append(("innocent machines blamed", "", *map(str, blamed)))
    for name, *numbers in rows:
        sys.stdout.write(f"{name:<26}" + "".join(f"{number:>12}" for number in numbers) + "\n")


if __name__ == "__main__":
    main()
