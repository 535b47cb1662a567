"""``--vast-plan``: says what the selected tests would rent, and runs none of them. Loaded only if it is asked for."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.client import warm
from pytest_vastgpu.client.callbacks import PytestHooks
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.environment import IMAGE_LOGIN
from pytest_vastgpu.core.environment import image_login
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.planning.client import Question
from pytest_vastgpu.planning.client import ask
from pytest_vastgpu.planning.document import as_json
from pytest_vastgpu.planning.plan import Found
from pytest_vastgpu.planning.plan import Plan
from pytest_vastgpu.planning.plan import make_plan
from pytest_vastgpu.planning.report import lines
from pytest_vastgpu.plugin.adapters import adapters_of
from pytest_vastgpu.plugin.collection import collect
from pytest_vastgpu.plugin.options import HOSTS
from pytest_vastgpu.plugin.options import OWNING
from pytest_vastgpu.plugin.options import SETTINGS
from pytest_vastgpu.plugin.options import TIMEOUTS
from pytest_vastgpu.plugin.running import lead_to_own
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.selection.search import Survey
from pytest_vastgpu.settings import Settings


class PlanOnly:
    """Plugin object of a run that only plans: in place of the tests, the plan.

    Without workers, since one process is enough to collect; it plans for as many as ``-n`` asks for.
    """

    def __init__(self, config: pytest.Config) -> None:
        distributed = config.getoption("dist", "no")
        self._workers = 1 if distributed == "no" else max(1, len(config.getoption("tx")))
        self._in_each = distributed == "each"
        if distributed != "no":  # xdist looks at it later
            config.option.dist = "no"
        self._plan: Plan | None = None
        self._hosts: Mapping[str, Workload] | None = None
        """The hosts on which the tests run; None if they run here."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Have tests that run on hosts collected as for such a run."""
        hosts = session.config.pluginmanager.get_plugin(HOSTS)
        self._hosts = hosts.workloads(session.config) if hosts is not None else None
        if self._hosts is None:
            return None
        session.testscollected = len(self._hosts)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Show the plan, and run nothing. Errors of collection end the run as they would without a plan."""
        if session.testsfailed and not session.config.getoption("continue_on_collection_errors", False):
            return None
        self._plan = self._make(session)
        _show(self._plan, session.config)
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run that cannot rent what it needs is told by the exit code."""
        if self._plan is not None and self._plan.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _tests(self, session: pytest.Session) -> dict[str, Expected]:
        """What each test needs; in place of tests that run on hosts, what each of their hosts is.

        :raises pytest.UsageError: one line: a wrong marker.
        """
        if self._hosts is not None:
            return {name: Expected(workload) for name, workload in self._hosts.items()}
        for item in session.items:
            lead_to_own(item)
        collected = collect(session.items)
        if collected.problems:
            raise pytest.UsageError(*collected.problems)
        runs = self._workers if self._in_each else 1
        return {test: replace(expected, runs=expected.runs * runs) for test, expected in collected.tests.items()}

    def _make(self, session: pytest.Session) -> Plan:
        """The plan for the selected tests.

        :raises pytest.UsageError: one line: a wrong marker, a market that does not answer.
        """
        config, settings = session.config, session.config.stash[SETTINGS]
        KNOWN.add_variable(API_KEY)
        KNOWN.add_login(IMAGE_LOGIN, image_login(os.environ))
        tests = self._tests(session)
        workloads = _workloads(tests.values())
        for workload in workloads:
            KNOWN.add_workload(workload)
        own = (
            0
            if self._hosts is not None
            else sum(not OWNING.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
        )
        if not workloads:
            return make_plan(tests, {}, settings, own=own)
        try:
            adapters = adapters_of(config)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from None
        question = Question(
            settings,
            workloads,
            tuple(adapter.name for adapter in adapters),
            str(config.invocation_params.dir),
            config.stash.get(TIMEOUTS, DEFAULTS),
        )
        if config.get_verbosity() >= 0 and settings.backend == "vast":
            what = count(len(workloads), "workload")
            _write(config, f"vastgpu: looking for {what} on the market, which takes some seconds for each")
        try:
            answer = ask(question)
        except VastGpuError as error:
            raise pytest.UsageError(f"vastgpu: {error}") from None
        for note in answer.notes:
            _write(config, f"vastgpu: warning: {sanitize.line(note)}")
        found = {
            workload: _hooked(survey, workload, config)
            for workload, survey in zip(workloads, answer.surveys, strict=True)
        }
        return make_plan(
            tests,
            found,
            settings,
            credit_usd=answer.credit_usd,
            workers=self._workers,
            own=own,
            warm=_left_warm(settings, str(config.rootpath)),
        )


def _left_warm(settings: Settings, project: str) -> Sequence[Warm]:
    """What an earlier run has left for one with these settings; to know it, its supervisor is asked."""
    if not settings.reuse:
        return ()
    known = warm.find(project, settings.url)
    return (warm.instances(known) or ()) if known is not None else ()


def _workloads(tests: Iterable[Expected]) -> tuple[Workload, ...]:
    return tuple(dict.fromkeys(each.workload for each in tests if each.workload is not None))


def _hooked(survey: Survey, workload: Workload, config: pytest.Config) -> Found:
    """What the hooks of conftest files and plugins leave of the offers.

    :raises pytest.UsageError: if a hook raises an exception.
    """
    if not survey.ranked or not config.hook.pytest_vastgpu_modify_offers.get_hookimpls():
        return Found(survey, survey.ranked)
    ranked_of = {ranked.offer.id: ranked for ranked in survey.ranked}
    try:
        ids = PytestHooks(config.hook).modify_offers([ranked.offer for ranked in survey.ranked], workload)
    except Exception as error:
        text = sanitize.line(f"{type(error).__name__}: {error}")
        raise pytest.UsageError(f"vastgpu: the hook pytest_vastgpu_modify_offers raised {text}") from error
    ranked = tuple(ranked_of[each] for each in ids if each in ranked_of)
    return Found(survey, ranked, by_hook=ranked != survey.ranked)


def _show(plan: Plan, config: pytest.Config) -> None:
    """Write the plan where it is asked for.

    :raises pytest.UsageError: if the file cannot be written.
    """
    if config.getoption("vast_plan"):
        _write(config, *_titled(plan, shutil.get_terminal_size().columns))
    if name := config.getoption("vast_plan_json"):
        path = Path(config.invocation_params.dir, name)
        try:
            path.write_text(json.dumps(as_json(plan), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(
                f"--vast-plan-json: {str(path)!r} cannot be written ({error.strerror or error})"
            ) from None


def _titled(plan: Plan, width: int) -> Sequence[str]:
    if not (plan.workloads or plan.unknown or plan.own):
        return ["vastgpu plan: no selected test needs an instance, so nothing would be rented"]
    return ["", "vastgpu plan (nothing is rented)", "", *lines(plan, width)]


def _write(config: pytest.Config, *texts: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for text in texts:
        if reporter is None:
            sys.stdout.write(f"{text}\n")
        else:
            reporter.write_line(text)
