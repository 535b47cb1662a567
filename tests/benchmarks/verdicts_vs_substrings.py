"""Our verdicts beside a table of substrings, on the labelled outputs of the tests.

``python -m tests.benchmarks.verdicts_vs_substrings`` counts how many of the labels each of them misses, by label and by
how close an output is to a real one, and how many innocent machines each would blame. The substrings are those of an
earlier system that rented the same hosts: it looked for words anywhere in a text, in a fixed order.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass
from tests.benchmarks import report
from tests.diagnosis.samples import Sample
from tests.diagnosis.samples import samples

BESIDE = "table of substrings"
Judge = Callable[[Sample], FailureClass]

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


def rows(quick: bool) -> list[report.Row]:
    given = samples()[:: 10 if quick else 1]
    innocent = [sample for sample in given if sample.label is not FailureClass.INFRA_FATAL]
    groups = {
        name: {"outputs": len(group), "wrong": _wrong(group, by_rules), "others": _wrong(group, by_substrings)}
        for name, group in _groups(given).items()
    }
    return [
        report.Row(
            f"outputs judged wrongly, of {len(given)}",
            _wrong(given, by_rules),
            "",
            _wrong(given, by_substrings),
            BESIDE,
            facts=groups,
        ),
        report.Row(
            f"innocent machines blamed, of {len(innocent)}",
            _blamed(innocent, by_rules),
            "",
            _blamed(innocent, by_substrings),
            BESIDE,
        ),
    ]


def _wrong(group: list[Sample], judge: Judge) -> int:
    return sum(judge(sample) is not sample.label for sample in group)


def _blamed(group: list[Sample], judge: Judge) -> int:
    return sum(judge(sample) is FailureClass.INFRA_FATAL for sample in group)


def _groups(given: list[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in given:
        for name in (f"fidelity {sample.fidelity}", f"label {sample.label.value}"):
            groups[name].append(sample)
    return dict(sorted(groups.items()))


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
