"""The workers on the hosts, as xdist knows them: what each is told, and how its reports are read."""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
import os
import socket
import threading
import warnings
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import execnet
import pytest
from xdist import workermanage
from xdist.workermanage import WorkerController

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.on_host import arguments
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host import remote
from pytest_vastgpu.plugin.on_host import runner
from pytest_vastgpu.plugin.on_host import variables
from pytest_vastgpu.plugin.on_host.hosts import Host
from pytest_vastgpu.plugin.on_host.import_path import project_directories
from pytest_vastgpu.plugin.on_host.places import TMP
from pytest_vastgpu.plugin.on_host.places import Places
from pytest_vastgpu.reporting.sentences import gpus

_SELECTING = ("lf", "failedfirst", "newfirst", "stepwise")
"""The options with which pytest selects, or orders, by what it has remembered."""
_REMEMBERED: Mapping[str, Any] = {"lastfailed": {}, "nodeids": [], "stepwise": None}
"""What it remembers for that, below ``v/cache`` in its cache, and what that is as long as it remembers nothing."""

_PORTS = ("sock_port",)
"""What plugins call a port of this machine that their workers connect to: pytest-rerunfailures."""


_NOT_SHOWN = ("workerfinished", "vastgpu_call")
"""Events that hold what other plugins' workers tell them, and a line: they go on as they are."""


def shares(count: int, workers: int) -> list[list[int]]:
    """The GPUs of each worker of a host, by their places: as equal as possible, and each has one.

    :param count: How many GPUs the host has.
    """
    if workers <= count:
        return [list(range(worker, count, workers)) for worker in range(workers)]
    return [[worker % count] if count else [] for worker in range(workers)]


class WorkerInputs:
    """Plugin object: tells each worker where it is, and reads what it reports."""

    def __init__(self, config: pytest.Config, host_of: Callable[[WorkerController], Host], total: int) -> None:
        """Take part in a run.

        :param host_of: Finds the host of a worker.
        :param total: How many workers the run has, on all hosts.
        """
        self._config = config
        self._host_of = host_of
        self._total = total
        self._numbers: dict[WorkerController, int] = {}
        """Which of its host's workers each is, from 0."""
        self._at: dict[Places, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_configure_node(self, node: WorkerController) -> Generator[None, object, object]:
        """Tell a worker where it is. When this goes on, other plugins have added what they tell theirs."""
        host = self._host_of(node)
        node.workerinput["workercount"] = self._total
        node.workerinput["vastgpu_host"] = self._told(host, node)
        result = yield
        node.workerinput["vastgpu_host"]["ports"] = [key for key in _PORTS if key in node.workerinput]
        for key, value in node.workerinput.items():
            try:
                execnet.dumps(value)
            except (execnet.DumpError, UnicodeEncodeError) as error:
                raise pytest.UsageError(
                    f"vastgpu: workerinput[{key!r}] cannot be sent to a host ({sanitize.line(str(error))}): "
                    "the plugin or conftest file that sets it in pytest_configure_node has to make it a text"
                ) from None
        places = Places(self._config.rootpath, host.work / project.FOLDER)
        node.process_from_remote = partial(_process, node, places, node.process_from_remote)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_getremotemodule(self) -> Any:
        """What workers run."""
        return remote

    @pytest.hookimpl(tryfirst=True)
    def pytest_testnodeready(self, node: WorkerController) -> None:
        """Say in the first line of a failure where the test ran."""
        told = node.workerinfo
        python = "{}.{}.{}".format(*told["version_info"][:3])
        where = f"{told['sysplatform']} -- Python {python} {told['executable']}"
        # pytest's own cache of that line: without it, the line is there as ever, and does not name the host.
        node._workerinfocache = f"[{node.gateway.id}] on {_name(self._host_of(node))}, {where}"

    @pytest.hookimpl
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """A worker has ended: one that is started in its place gets its number, and so its GPUs."""
        self._numbers.pop(node, None)

    def _number(self, host: Host, node: WorkerController) -> int:
        taken = {number for other, number in self._numbers.items() if self._host_of(other) is host}
        self._numbers[node] = next(number for number in itertools.count() if number not in taken)
        return self._numbers[node]

    def _told(self, host: Host, node: WorkerController) -> dict[str, Any]:
        places = Places(self._config.rootpath, host.work / project.FOLDER)
        if places not in self._at:
            self._at[places] = self._told_at(places)
        same, path = self._at[places], host.about.path
        return {
            **same,
            "environ": {**same["environ"], **({"PATH": path} if path else {})},
            "place": host.name,
            "name": _name(host),
            "work": str(host.work),
            "runner": str(host.work / runner.FOLDER),
            "basetemp": str(host.work / TMP / node.gateway.id),
            "gpus": shares(host.lease.offer.num_gpus, host.workers)[self._number(host, node) % host.workers],
            "cache_dir": str(host.work / arguments.CACHE),
        }

    def _told_at(self, places: Places) -> dict[str, Any]:
        """What is the same for all workers of hosts on which the project lies at the same place."""
        first, last = project_directories(workermanage._sys_path, places)
        cwd = places.path_on_host(self._config.invocation_params.dir)
        return {
            "python_path": project_directories(variables.python_path(os.environ), places)[0],
            "first": first,
            "last": last,
            "directory": str(cwd or places.there),
            "arguments": arguments.of_run(self._config, places),
            "plugins": sorted({each.name for each in entry_points(group="pytest11")}),
            "environ": variables.carried(os.environ, places),
            "cache": _remembered(self._config),
        }


def _name(host: Host) -> str:
    offer = host.lease.offer
    return sanitize.line(f"{host.name} (machine {offer.machine_id}, {gpus(offer.num_gpus, offer.gpu_name)})")


def _remembered(config: pytest.Config) -> dict[str, str]:
    """The files of pytest's cache that a worker needs in order to select as it would here, below that cache."""
    if not any(config.getoption(name, False) for name in _SELECTING) or config.cache is None:
        return {}
    # All of them: a host that is used again remembers what was sent to it before.
    known = {name: config.cache.get(f"cache/{name}", default) for name, default in _REMEMBERED.items()}
    return {f"v/cache/{name}": json.dumps(value) for name, value in known.items()}


def _process(node: WorkerController, places: Places, goes_on: Callable[[object], None], event: Any) -> None:
    """Process what a worker has sent: as xdist does it, but for what is of that host, or cannot be known here."""
    if isinstance(event, tuple) and event[0] not in _NOT_SHOWN:
        event = (event[0], _harmless(event[1]))
    name, said = event if isinstance(event, tuple) else ("", {})
    if name == "warning_recorded":  # xdist would import its class
        said = dict(said)
        warning = _warning(said.pop("warning_message_data"), places)
        node.notify_inproc(name, warning_message=warning, **said)
    elif name == "vastgpu_call":
        _connect(said["line"], node.workerinput[next(key for key in _PORTS if key == said["key"])])
    elif name in {"testreport", "collectreport"}:
        report = said["data"]
        goes_on((name, {**said, "data": {**report, "longrepr": _here(report["longrepr"], places)}}))
    else:
        goes_on(event)


def _harmless(value: Any) -> Any:
    """What a worker has sent, with texts that a terminal can show."""
    if isinstance(value, str):
        return sanitize.printed(value)
    if isinstance(value, dict):
        return {key: each if key == "user_properties" else _harmless(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_harmless, value))
    return value


def _connect(line: execnet.Channel, port: int) -> None:
    """Join a worker's call to the port of this machine that it is meant for."""
    try:
        called = socket.create_connection(("127.0.0.1", port))
    except OSError:  # who listened has ended: the caller sees that
        line.close()
        return
    line.setcallback(partial(_pass_on, called), endmarker=b"")
    threading.Thread(target=_answer, args=(called, line), name="vastgpu-answer", daemon=True).start()


def _pass_on(called: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # either side may end first
        called.sendall(data) if data else called.shutdown(socket.SHUT_RDWR)


def _answer(called: socket.socket, line: execnet.Channel) -> None:
    with called, contextlib.suppress(OSError):
        while data := called.recv(1 << 16):
            line.send(data)
        line.close()


def _here(longrepr: Any, places: Places) -> Any:
    """What a report says of a failure, with this machine's paths where it names a place in the project's files.

    xdist shows a failed collection once only if all workers say the same, and pytest counts skips by their place. What
    a test has compared or printed stays as it is.
    """
    if isinstance(longrepr, str):  # no traceback: where a module cannot be imported, or a fixture is not known
        return places.here(longrepr)
    if isinstance(longrepr, tuple):  # a skip's file, line and reason
        return (places.here(longrepr[0]), *longrepr[1:])
    return _with_paths(longrepr, places)


def _with_paths(value: Any, places: Places) -> Any:
    """A traceback, as pytest sends it, with this machine's paths."""
    if isinstance(value, dict):
        return {key: places.here(each) if key == "path" else _with_paths(each, places) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_paths(each, places) for each in value)
    return value


def _warning(data: Mapping[str, Any], places: Places) -> warnings.WarningMessage:
    """A warning that a worker has sent. It names files of this machine, and its class is seldom to be had here."""
    message: Warning | str = data["message_str"]
    category = _warning_class(data["category_module"], data["category_class_name"])
    if data["message_module"]:
        kind = _warning_class(data["message_module"], data["message_class_name"])
        message = kind(data["message_str"])
        category = category if data["category_class_name"] != data["message_class_name"] else kind
    details = {name: data[name] for name in ("filename", "lineno", "file", "line", "source")}
    details["filename"] = places.here(str(details["filename"]))
    return warnings.WarningMessage(message=message, category=category, **details)


def _warning_class(module: str | None, name: str | None) -> type[Warning]:
    """A class of that name: Python's own, or one that stands in for it and is shown in the same way."""
    known = getattr(builtins, name or "Warning", None) if module in {None, "builtins"} else None
    if isinstance(known, type) and issubclass(known, Warning):
        return known
    return type(name or "Warning", (Warning,), {"__module__": module})
