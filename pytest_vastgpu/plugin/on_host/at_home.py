"""Collects the tests once at home, before anything is rented, in a process of its own.

So test modules are imported neither in the process that rents, nor on a host whose time is paid for, before it is known
which tests are selected and what their marks ask for. What that process prints is not shown.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_vastgpu.core import child
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.collection import will_skip
from pytest_vastgpu.plugin.marks import marked
from pytest_vastgpu.plugin.on_host.about import AT_HOME
from pytest_vastgpu.plugin.on_host.runner import canonical
from pytest_vastgpu.plugin.options import ASKING
from pytest_vastgpu.reporting.sentences import workload_line

_BOOT = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    order = json.load(file)
sys.path[:] = order["path"]
sys.argv = ["pytest", *order["args"]]
import pytest
class Start:
    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config):
        from pytest_vastgpu.plugin.on_host.at_home import Collector
        self.collector = Collector()
        config.pluginmanager.register(self.collector)
start = Start()
code = pytest.main(["--collect-only", *order["args"]], plugins=[start])
start.collector.write(int(code), order["file"])
"""
"""The program of that process. pytest is the first to import this package there, as ever: it would warn otherwise."""
_REPORTING = AT_HOME - {"pytest-xdist"} | {"pytest-cov"}
"""Packages whose plugins write, show or send something when a run ends."""
SKIPPED = "Skipped"
"""The kind of a module that skips itself when it is collected."""
LONG_S = 2.0
"""After this time it is said what goes on."""


@dataclass(frozen=True)
class MarkSeen:
    """What the marks of a test ask for, and of all further tests whose marks ask for the same."""

    test: str
    """Node id of the first of these tests."""
    server: str
    """The server that the mark names, in words; empty if it names none, as a mark of a test on a host should."""
    fields: dict[str, str | int | float]


@dataclass(frozen=True)
class CollectionError:
    """What could not be collected."""

    where: str
    """Node id of the module or directory."""
    kind: str
    """The name of the exception's class, such as ``ModuleNotFoundError``; :data:`SKIPPED`: it skips itself."""
    text: str


@dataclass
class Seen:
    """What the collection has found."""

    selected: int = 0
    """How many tests are selected."""
    marks: list[MarkSeen] = field(default_factory=list)
    """Without those of tests that are skipped for certain."""
    errors: list[CollectionError] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What is wrong with marks, one line each."""
    asks: str = ""
    """The first selected test that uses an instance with a server."""
    usage: list[str] | None = None
    """pytest's own usage error, such as a path that does not exist; None: there is none."""
    exit_code: int = 0
    crashed: bool = False
    """Whether its process ended before it could say what it has seen."""
    said: str = ""
    """The last line that pytest printed."""


def collect(config: pytest.Config, tell: Callable[[str], None]) -> Seen:
    """Collect the tests of a run, with the same arguments, directory, import path and environment.

    :param tell: Called with a sentence if that takes long.
    :returns: What was seen; where its process has crashed, only the exit code and the last line that it printed.
    """
    with tempfile.TemporaryDirectory(prefix="vastgpu-") as folder:
        order, file, said = (Path(folder, name) for name in ("order.json", "seen.json", "said.txt"))
        args = [str(each) for each in config.invocation_params.args]
        order.touch(0o600)
        order.write_text(json.dumps({"path": sys.path, "args": args, "file": str(file)}), encoding="utf-8")
        with (
            said.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(order)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=config.invocation_params.dir,
            ) as process,
        ):
            try:
                code = child.await_end(process, LONG_S)
            except subprocess.TimeoutExpired:
                tell("the tests are collected here first, before anything is rented")
                code = process.wait()
            except BaseException:
                process.kill()
                raise
        last = "".join(said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:])
        try:
            seen: Seen = decode(Seen, json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return Seen(exit_code=code, crashed=True, said=last)
        return replace(seen, said=last)


class Collector:
    """Plugin object in that process: notes what is collected, and runs nothing."""

    def __init__(self) -> None:
        self.seen = Seen()

    def write(self, code: int, path: str) -> None:
        """Write what was seen.

        :param code: pytest's exit code.
        """
        self.seen.exit_code = code
        Path(path).write_text(json.dumps(encode(self.seen)), encoding="utf-8")

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Leave plans to the run itself, and reports for which a file is opened now."""
        for option in ("xmlpath", "report_log", "htmlpath", "vast_plan", "vast_plan_json"):
            if hasattr(config.option, option):
                setattr(config.option, option, None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Note an error such as that of a path that does not exist."""
        _leave_reports(session.config.pluginmanager)
        try:
            return (yield)
        except pytest.UsageError as error:
            self.seen.usage = [str(each) for each in error.args]
            raise

    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any]) -> None:
        """Note what cannot be collected."""
        if call.excinfo is None or call.excinfo.errisinstance(unittest.SkipTest):  # pytest 8 calls that an error, too
            return
        error: BaseException = call.excinfo.value
        cause = error.__cause__ or getattr(error, "cause", None)
        if isinstance(cause, BaseException):  # pytest's own error tells the same in many lines
            error = cause
        lines = str(error).strip().splitlines()
        self.seen.errors.append(CollectionError(node.nodeid, type(error).__name__, lines[0] if lines else ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that skips itself here, for lack of PyTorch or of a GPU: on a host it may not."""
        if report.skipped:
            # pytest tells the place, the line, and the reason behind the exception's name.
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            lines = re.sub(r"^(unittest\.case\.SkipTest|Skipped): ", "", reason).strip().splitlines()
            self.seen.errors.append(CollectionError(report.nodeid, SKIPPED, lines[0] if lines else ""))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is selected, and what it asks for."""
        self.seen.selected = len(session.items)
        for item in session.items:
            if not self.seen.asks and not ASKING.isdisjoint(getattr(item, "fixturenames", ())):
                self.seen.asks = item.nodeid
            if next(item.iter_markers("vast"), None) is None or will_skip(item):
                continue
            try:
                workload, fields = marked(item)
            except ConfigurationError as error:
                self.seen.problems.append(str(error))
                continue
            server = workload_line(workload) if workload is not None else ""
            if not any(each.server == server and each.fields == fields for each in self.seen.marks):
                self.seen.marks.append(MarkSeen(item.nodeid, server, fields))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Leave the cache as it is: a module that cannot be imported here has not failed."""
        for name in ("lfplugin", "nfplugin", "stepwiseplugin"):
            with suppress(ValueError):
                session.config.pluginmanager.unregister(name=name)
        return True


def _leave_reports(manager: pytest.PytestPluginManager) -> None:
    """Leave reports to the run itself: take out the plugins that write some. Their options and hooks stay known."""
    found = manager.list_plugin_distinfo()
    packages = {_package(each) for each, package in found if canonical(package.metadata["Name"]) in _REPORTING}
    for name, plugin in manager.list_name_plugin():
        if plugin is not None and name != "terminalreporter" and _package(plugin) in packages:
            manager.unregister(plugin)


def _package(plugin: object) -> str:
    """The name of the top-level package or module that a plugin object is, or comes from."""
    name = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    return name.partition(".")[0]
