"""What comes back from the hosts of a run: files that its tests have written there (``--vast-fetch``), and the
``tmp_path`` of those that failed (``--vast-fetch-tmp``).

:mod:`.pack` sends them, :mod:`.unpack` takes them, and this module says what is asked for, where it goes, how long that
may take, and what came of it. Nothing of it fails a run: whether the tests pass is known by then.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import socket
import threading
import time
from collections import Counter
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_vastgpu.client.calls import PipeRequest
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.plugin.on_host import pack
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.fetched import FOLDER
from pytest_vastgpu.plugin.on_host.fetched import NotOurs
from pytest_vastgpu.plugin.on_host.fetched import folder_for_a_run
from pytest_vastgpu.plugin.on_host.fetched import matches
from pytest_vastgpu.plugin.on_host.fetched import nothing_for
from pytest_vastgpu.plugin.on_host.fetched import told
from pytest_vastgpu.plugin.on_host.on_worker import TMP_PATH
from pytest_vastgpu.plugin.on_host.places import BEGAN
from pytest_vastgpu.plugin.on_host.unpack import MOST_BYTES
from pytest_vastgpu.plugin.on_host.unpack import MOST_FILES
from pytest_vastgpu.plugin.on_host.unpack import Broken
from pytest_vastgpu.plugin.on_host.unpack import unpack
from pytest_vastgpu.plugin.options import TIMEOUTS

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

    from pytest_vastgpu.plugin.on_host.hosts import Host
    from pytest_vastgpu.settings import HostSettings

_BOOT = "import sys;exec(eval(sys.stdin.readline()))"
"""Runs the source that arrives on the first line."""
_CHUNK = 1 << 16
_CRASHED = "???"
"""What xdist calls the phase of a test that has crashed its worker."""
_NAME_CHARS = 100


class Fetching:
    """Brings files home from each host before it is given back. A plugin object, registered after the controller's.

    :param connect: Opens a connection to the supervisor, in the role ``pipe``.
    :param tell: Shows a line while the run goes on.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: HostSettings,
        connect: Callable[[], socket.socket],
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._tell = tell
        self._root = config.rootpath
        self._timeouts = config.stash.get(TIMEOUTS, DEFAULTS)
        self._wanted = bool(settings.fetch or settings.fetch_tmp)
        self._run = ""
        """The id of the run, of xdist."""
        self._failed: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
        """By host and test: where the ``tmp_path`` of a test that failed is."""
        self._told: list[str] = []
        self._found: list[dict[str, tuple[int, int]]] = []
        """Of each host, what matches each pattern."""
        self._changed = threading.Condition()
        self._hosts: dict[str, Host] = {}
        """Those from which nothing was fetched yet."""
        self._busy: set[str] = set()
        self._fetched: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._stopped = ""
        """Why nothing more is fetched."""
        self._most_s = self._timeouts.fetch_most_s
        self._made: str | None = None
        """Why there is no folder for this run; empty if there is one, None if nobody has looked."""

    # ------------------------------------------------------------------ hosts

    def ready(self, host: Host) -> None:
        """Tests begin to run on a host."""
        if self._wanted:
            with self._changed:
                self._hosts[host.name] = host

    def lost(self, name: str) -> None:
        """A host is lost, and what was written there."""
        with self._changed:
            tests = self._failed.pop(name, None)
            if self._hosts.pop(name, None) and (self._settings.fetch or tests):
                self._found.append({})
                self._told.append(f"vastgpu: {name} was lost, and with it what its tests had written: nothing fetched")

    def fetch(self, name: str) -> None:
        """Bring home what is asked for from a host whose workers have ended. Waits.

        The second time it only waits for the first: whoever calls it gives the host back then.
        """
        with self._changed:
            self._changed.wait_for(lambda: name not in self._busy)  # which is bounded
            host = self._hosts.pop(name, None)
            if host is None:
                return
            self._busy.add(name)
        lines: list[str] = []
        try:
            lines = self._fetch(host)
        finally:
            with self._changed:  # at once: who waits for the end reads the lines then
                self._told += lines
                self._busy.discard(name)
                self._changed.notify_all()

    def _fetch(self, host: Host) -> list[str]:
        tmp = self._failed.pop(host.name, {})
        if not (self._settings.fetch or tmp):
            return []
        tests = f"tmp_path of {len(tmp)} failed test{'s' if len(tmp) > 1 else ''}"
        self._tell(f"{host.name}: fetching {', '.join([*self._settings.fetch, *([tests] if tmp else [])])}")
        if why := self._no_folder():
            return [f"vastgpu: {host.name}: nothing fetched: {why}"]
        folder = self._folder(host.name)
        asked = {
            "root": str(host.work / project.FOLDER),
            "patterns": self._settings.fetch,
            "since": self._since(str(host.work)),
            "tmp": list(tmp.values()),
            "most_bytes": MOST_BYTES,
            "most_files": MOST_FILES,
        }
        got = unpack(self._stream(host, asked), self._root / FOLDER / folder)
        self._found.append(matches(got, self._settings.fetch))
        return told(host.name, f"{FOLDER}/{folder}", sorted(each["as"] for each in tmp.values()), got)

    def _no_folder(self) -> str:
        with self._changed:
            if self._made is None:
                try:
                    folder_for_a_run(self._root / FOLDER)
                    self._made = ""
                except (OSError, NotOurs) as error:
                    self._made = sanitize.line(str(error), 300)
            return self._made

    def _folder(self, name: str) -> str:
        """Where the files of a host go. After a loss, another one may have its name."""
        with self._changed:
            self._fetched[name] += 1
            number = self._fetched[name]
        return f"{name.replace(' ', '-')}{f'-{number}' if number > 1 else ''}"

    def _stream(self, host: Host, asked: dict[str, Any]) -> Iterator[bytes]:
        """What a host sends.

        :raises Broken: it could not be asked, or sends nothing any more.
        """
        python = shlex.join([host.python, "-u", "-I", "-S", "-c", _BOOT])
        try:
            sock = self._connect()
        except VastGpuError as gone:
            raise Broken(str(gone)) from None
        with self._changed:
            self._open.add(sock)
        try:
            messages.send(sock, encode(PipeRequest(host.lease.label, f"exec {python}")))
            sock.sendall(f"{inspect.getsource(pack)!r}\n{json.dumps(asked)}\n".encode())
            began = time.monotonic()
            while data := self._next(sock, began):
                yield data
        except OSError as error:
            raise Broken(self._stopped or f"the connection broke: {error}") from None
        finally:
            with self._changed:
                self._open.discard(sock)
            sock.close()

    def _next(self, sock: socket.socket, began: float) -> bytes:
        still_s = self._timeouts.fetch_still_s
        left_s = began + self._most_s - time.monotonic()
        there = not self._stopped and messages.readable(sock, max(0.0, min(still_s, left_s)))
        if self._stopped:
            raise Broken(self._stopped)
        if not there:
            raise Broken(f"nothing came for {still_s:.0f} s" if left_s > still_s else f"{self._most_s:.0f} s are over")
        return sock.recv(_CHUNK)

    # ------------------------------------------------------------------ hooks

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Have a worker say since when, and which ``tmp_path`` is whose."""
        if self._wanted:
            self._run = node.workerinput["testrunuid"]
            host = node.workerinput["vastgpu_host"]
            host["fetch"] = {"since": self._since(host["work"]), "tmp_path": self._settings.fetch_tmp}

    def _since(self, work: str) -> str:
        return f"{work}/{BEGAN}{self._run}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note where the ``tmp_path`` of a test that failed is. What is tried again reports a failure of its own."""
        node = getattr(report, "node", None)
        if not (self._settings.fetch_tmp and report.failed and node):
            return
        host = node.workerinput["vastgpu_host"]
        tests = self._failed[host["place"]]
        key = f"{node.gateway.id} {report.nodeid}"
        found: dict[str, str] = {}
        if path := getattr(report, TMP_PATH, ""):
            found = {"path": path}
        elif report.when == _CRASHED:
            name = re.sub(r"\W", "_", report.nodeid.rpartition("::")[2])[:30]  # as pytest names it
            found = {"below": host["basetemp"], "begins": name}
        if found:
            tests.pop(key, None)
            tests[key] = {"as": _place(report.nodeid, {each["as"] for each in tests.values()}), **found}

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """A person waits for the end now. An end by ``-x`` comes by the same hook, as an exception of that name."""
        if type(excinfo.value).__name__ != pytest.Session.Interrupted.__name__:
            self._most_s = self._timeouts.fetch_interrupted_s

    # Innermost, of those that stand there when this one is registered: xdist has ended its workers, and the controller
    # has given nothing back yet.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Fetch from all hosts that are left, at the same time."""
        try:
            return (yield)
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            try:
                self._fetch_all()
            except KeyboardInterrupt:
                self.stop()

    def _fetch_all(self) -> None:
        with self._changed:
            names = list(self._hosts)
        for name in names:
            threading.Thread(target=self.fetch, args=(name,), name="vastgpu-fetch", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: not self._hosts and not self._busy)

    def stop(self) -> None:
        """A person wants no more of it."""
        with self._changed:
            self._stopped = "interrupted"
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._busy, self._timeouts.leave_s)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what has come, and what has not."""
        for line in [*sorted(self._told), *nothing_for(self._found, self._settings.fetch)]:
            terminalreporter.write_line(line)


def _place(test: str, taken: set[str]) -> str:
    """Where the ``tmp_path`` of a test goes, below its host's folder."""
    name = re.sub(r"[^\w.-]+", "_", test, flags=re.ASCII)[-_NAME_CHARS:].strip("_.-")
    place = one = f"tmp_path/{name}"
    number = 1
    while place in taken:
        number += 1
        place = f"{one}-{number}"
    return place
