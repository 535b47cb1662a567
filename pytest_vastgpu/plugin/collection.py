"""Finds out what the selected tests will need, as far as this is known before they run."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import pytest

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Hook
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin import hookspecs
from pytest_vastgpu.plugin.marks import marked
from pytest_vastgpu.plugin.options import ASKING
from pytest_vastgpu.servers.workloads import require_workload


def collect(items: Iterable[pytest.Item], *, certain: bool = True) -> Collected:
    """Look at all tests that use an instance.

    :param certain: Whether tests run at all.
    """
    found = Collected()
    defaults = _Defaults()
    equal: dict[Workload, Workload] = {}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if ASKING.isdisjoint(fixtures):
            continue
        skipped = will_skip(item)
        try:
            workload, changes = marked(item)
            if "vast_instance" not in fixtures or skipped:
                continue
            workload = workload or defaults.of(item)
            if workload is not None:
                workload = require_workload(dataclasses.replace(workload, **changes), f"{item.nodeid}: its workload")
                workload = with_whole_paths(workload, item.config)
                workload = equal.setdefault(workload, workload)
        except ConfigurationError as error:
            if str(error) not in found.problems:  # tests share a fixture
                found.problems.append(str(error))
            continue
        runs = found.tests[item.nodeid].runs + 1 if item.nodeid in found.tests else 1
        found.tests[item.nodeid] = Expected(workload, certain and skipped is False, runs)
    return found


def may_ask(item: pytest.Item) -> bool:
    """Whether a test may ask for a fixture while it runs."""
    return "request" in getattr(item, "fixturenames", ()) or hasattr(item, "dtest")  # a doctest has getfixture()


def with_whole_paths(workload: Workload, config: pytest.Config) -> Workload:
    """The workload, with the relative paths of its files resolved against the directory in which pytest was started.

    It does not look at the disk, because a test may have replaced the file system.
    """
    files = tuple((name, str(PurePath(config.invocation_params.dir, path))) for name, path in workload.files)
    return dataclasses.replace(workload, files=files)


def hooks_of(config: pytest.Config) -> list[Hook]:
    """Every implementation of this package's hooks that this process has loaded."""
    return [
        Hook(name, inspect.getsourcefile(implementation.function) or implementation.plugin_name)
        for name in vars(hookspecs)
        if name.startswith("pytest_vastgpu_")
        for implementation in getattr(config.hook, name).get_hookimpls()
    ]


def will_skip(item: pytest.Item) -> bool | None:
    """Whether a test's marks skip it; None if only the run can tell.

    pytest's evaluation of a condition given as text is not public, so such a condition is left to the run.
    """
    if next(item.iter_markers("skip"), None) is not None:
        return True
    verdicts = [_holds(mark) for mark in item.iter_markers("skipif")]
    if not item.config.getoption("runxfail", False):
        verdicts += [_holds(mark) for mark in item.iter_markers("xfail") if not mark.kwargs.get("run", True)]
    return True if True in verdicts else None if None in verdicts else False


def _holds(mark: pytest.Mark) -> bool | None:
    """Whether one of a mark's conditions is true; a mark without conditions always holds."""
    conditions: Sequence[object] = [mark.kwargs["condition"]] if "condition" in mark.kwargs else mark.args
    verdicts = [_truth(condition) for condition in conditions]
    if not verdicts or True in verdicts:
        return True
    return None if None in verdicts else False


def _truth(condition: object) -> bool | None:
    if isinstance(condition, str):
        return None
    try:
        return bool(condition)
    except Exception:  # noqa: BLE001 - any error of other code: the test's own run will show it
        return None


class _Defaults:
    """The values of the fixture ``vast_workload``, where this class can get them without running a test."""

    def __init__(self) -> None:
        self._asked: dict[tuple[Any, int], tuple[Workload | None, _Parameter]] = {}

    def of(self, item: pytest.Item) -> Workload | None:
        """The value that ``vast_workload`` will have for a test; None if only the run can tell."""
        function = _override(item)
        if function is None:
            return None
        parameter = _Parameter(item)
        key = (function, id(getattr(parameter, "param", None)))
        if key not in self._asked:
            # With the parameter, which stays alive in there: otherwise another one could get its id.
            self._asked[key] = (_ask(function, parameter), parameter)
        return self._asked[key][0]


class _Parameter:
    """What a fixture knows of its test before the test runs: in place of ``request``, with ``param`` if it has one."""

    def __init__(self, item: pytest.Item) -> None:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "vast_workload" in callspec.params:
            self.param = callspec.params["vast_workload"]


def _override(item: pytest.Item) -> Any:
    """The function behind ``vast_workload`` if it takes nothing but ``request``.

    A parameter of ``pytest.mark.parametrize`` without ``indirect`` has such a function, too: pytest's own.

    pytest has no public way to tell which fixture a test will get. If this private one is missing or has changed, the
    plugin rents nothing in advance.
    """
    try:
        definition = item._fixtureinfo.name2fixturedefs["vast_workload"][-1]  # type: ignore[attr-defined] # see above
        function = definition.func
        plain = set(inspect.signature(function).parameters) <= {"request"} and not _special(function)
    except (AttributeError, TypeError, ValueError, LookupError):
        return None
    ours = getattr(function, "__module__", "") == f"{__package__}.hooks"  # it names no workload, and the marker may
    return function if plain and not ours else None


def _special(function: Any) -> bool:
    """Whether calling the function gives something other than the fixture's value."""
    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_kind(function) for is_kind in kinds)


def _ask(function: Any, parameter: _Parameter) -> Workload | None:
    arguments = [parameter] if inspect.signature(function).parameters else []
    try:
        workload = function(*arguments)
    except WorkloadInvalid:
        raise  # the test's own run would be interrupted in the same way
    except (Exception, pytest.fail.Exception, pytest.skip.Exception):  # noqa: BLE001 - the test that needs it shows it
        return None
    return require_workload(workload, "what the fixture vast_workload returns")
