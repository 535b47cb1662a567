"""The fixture ``vast_benchmark``: measures a test's instance, and keeps what it has found for the run's report."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.measuring.baselines import history
from pytest_vastgpu.measuring.baselines import words
from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import is_number
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import Past
from pytest_vastgpu.measuring.record import from_json
from pytest_vastgpu.measuring.record import to_json
from pytest_vastgpu.measuring.workload_facts import cpu_of
from pytest_vastgpu.measuring.workload_facts import kind_of
from pytest_vastgpu.measuring.workload_facts import machine_facts
from pytest_vastgpu.measuring.workload_facts import workload_facts
from pytest_vastgpu.plugin.baselines import PROPERTY
from pytest_vastgpu.plugin.baselines import name_for
from pytest_vastgpu.plugin.baselines import stored_in
from pytest_vastgpu.plugin.carried import Carried
from pytest_vastgpu.plugin.carried import carry
from pytest_vastgpu.plugin.measurements import keep
from pytest_vastgpu.plugin.measurements import measured_on
from pytest_vastgpu.plugin.options import MEASURES
from pytest_vastgpu.plugin.options import SETTINGS

if TYPE_CHECKING:
    from pytest_vastgpu.client.instance import VastInstance
    from pytest_vastgpu.measuring.measurement import Measurement
    from pytest_vastgpu.model import Workload

LONGEST_NAME = 80
_gpu_checks = pytest.StashKey[dict[int, str]]()
"""Why the GPU check of an instance failed, by its id; empty: it passed."""


class Benchmark:
    """The value of the fixture ``vast_benchmark``.

    :param workload: What runs on the instance.
    """

    def __init__(self, item: pytest.Item, instance: VastInstance, workload: Workload) -> None:
        if _in_worker(item.config) and MEASURES not in getattr(item, "fixturenames", ()):
            raise ConfigurationError(
                "in a worker of xdist, name vast_benchmark among the arguments of the test, or of one of its fixtures: "
                "a test that asks for it only while it runs does not have the instance alone"
            )
        self._item = item
        self._instance = instance
        self._workload = workload
        self._seen: list[tuple[str, object]] = []
        self._compares, self._saves = (name_for(what, item.config) for what in ("compare", "save"))

    def __call__(self, load: Load, seconds: float = 10.0, *, name: str = "") -> Measurement:
        """Measure the test's instance as its ``measure`` does. The result is part of the run's report.

        With ``--vast-baseline`` it first checks the GPUs of the host, once for an instance.

        :param load: What is asked, and how fast.
        :param seconds: How long; the load's warm-up comes before.
        :param name: Which of several measurements of the same load this is: a line of up to 80 characters.
        :raises ConfigurationError: for a load that this test has measured, without another name; for a load or a name
            that is none.
        :raises MeasurementFailed: if there is no number that means something, with the reason.
        """
        __tracebackhide__ = True
        _check(load, name)
        which = (name, to_json(load))
        if which in self._seen:
            named = f"as {name!r}" if name else "before"
            raise ConfigurationError(
                f"this test has measured that load {named}: give this measurement a name= of its own"
            )
        hardware = self._hardware() if self._compares or self._saves else ""
        reported, self._instance.on_measured = self._instance.on_measured, None  # it is reported here, with its name
        try:
            measurement = self._instance.measure(load, seconds)
        finally:
            self._instance.on_measured = reported
        self._seen.append(which)
        self._keep(measurement, name, hardware or measurement.hardware_problem)
        return measurement

    def _hardware(self) -> str:
        checks = self._item.config.stash.setdefault(_gpu_checks, {})
        if self._instance.id not in checks:
            checks[self._instance.id] = self._instance.check_gpus().hardware_problem
        return checks[self._instance.id]

    def _keep(self, measurement: Measurement, name: str, hardware: str) -> None:
        config = self._item.config
        notes, past = list[str](), list[Past]()
        entry = self._entry(measurement, name) if self._compares or self._saves else None
        if entry is not None and hardware:
            whats = {"compared": self._compares, "kept as a baseline": self._saves}
            undone = " and not ".join(what for what, baseline in whats.items() if baseline)
            notes = [f"hardware: {hardware}; so it is not {undone}"]
        elif entry is not None and self._compares:
            notes = words.compare(entry, self._compares, stored_in(config))
        if entry is not None and self._compares:
            past = history.history(entry, self._compares, stored_in(config))
        if entry is not None and self._saves and not hardware and not history.worth_keeping(entry):
            why = measurement.missing.get("throughput", "none of its numbers can be compared")
            notes = [*notes, f"not kept as a baseline: {why}"]
        elif entry is not None and self._saves and not hardware:
            carry(self._item, Carried(PROPERTY, json.dumps(to_json(entry))))
        keep(
            self._item,
            measured_on(self._instance, self._workload, measurement, name=name, notes=notes, history=past),
        )

    def _entry(self, measurement: Measurement, name: str) -> Entry:
        """It goes into the repository: nothing secret, and no path of this machine."""
        config, offer = self._item.config, self._instance.offer
        local = config.stash[SETTINGS].backend == "local"
        cpu = cpu_of(_cpu_info(), offer.cpu_cores) if local else ""
        workload = workload_facts(self._workload, str(config.rootpath))
        took = measurement.quantiles.get("e2e", ())  # without end where requests failed
        kept = Entry(
            test=self._item.nodeid,
            workload={},
            # Other headers than those with telling names may be secret, too.
            load=replace(measurement.load, headers=dict.fromkeys(measurement.load.headers, "-")),
            kind=kind_of(offer, self._instance.gpu, cpu),
            machine=platform.node() or "this machine" if local else str(offer.machine_id),
            figures={metric: figure for metric, figure in measurement.figures.items() if is_number(figure)},
            name=name,
            seconds=measurement.seconds,
            errors=measurement.errors,
            facts=machine_facts(offer, cpu),
            quantiles=took if all(map(math.isfinite, took)) else (),
        )
        harmless = {**to_json(kept), "workload": to_json(workload)}
        return from_json(Entry, sanitize.clean(harmless))


def _check(load: object, name: object) -> None:
    """Refuse what can be no load and no name, before anything is measured.

    :raises ConfigurationError: with what it is.
    """
    __tracebackhide__ = True
    if not isinstance(load, Load):
        raise ConfigurationError(
            f"load of vast_benchmark is of type {type(load).__name__}; completions(model=…) and others make one"
        )
    if not isinstance(name, str):
        raise ConfigurationError(f"name of vast_benchmark is of type {type(name).__name__}, and must be text")
    if name != name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"name of vast_benchmark is {name!r:.100}, and must be a line of up to {LONGEST_NAME} characters, "
            "without blanks at its ends"
        )


def _in_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
