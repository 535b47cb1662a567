"""A local market for a test or a script: started, used and ended with a ``with`` statement.

::

    with LocalMarket(fleet={"machines": [{"gpu_name": "RTX 4090"}]}) as market:
        subprocess.run(["vastai", "--url", market.url, "--api-key", market.api_key, "search", "offers"])
        assert market.status()["alive"] == []

The market is a process of its own. It ends with the ``with`` statement, with its method ``stop``, and also when
this process dies, even by SIGKILL; its instances end with it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_vastgpu.core import child
from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private
from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.client import fetch_status
from pytest_vastgpu.local.client import strike

_START_S = 60.0
"""Limit of the market's start, which takes half a second on an idle machine."""
_STOP_S = 10.0
_NEEDS = ("asyncssh", "starlette", "uvicorn")


def require_extra() -> None:
    """Check that the packages of the local market are installed.

    :raises LocalMarketError: if one is missing, with the command that installs it.
    """
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise LocalMarketError(
            f"the local market needs {', '.join(missing)}: install them with pip install 'pytest-vastgpu[local]'"
        )


class LocalMarket:
    """A local market in a process of its own.

    :param fleet: A fleet file, or its content as a mapping; see
        :mod:`pytest_vastgpu.local.fleet.fleet`. None: this machine.
    :param images: Entrypoints by image pattern, for instances of the args run type.
    :param rate_limits: Whether Vast's minimum intervals between calls are enforced; None: as in the fleet, whose
        default is yes.
    :param port: On 127.0.0.1; 0 for a free one.
    :param state_dir: The directory for the disks of instances; None for one that is removed at the end.
    """

    def __init__(
        self,
        fleet: Path | Mapping[str, Any] | None = None,
        *,
        images: Mapping[str, str] | None = None,
        rate_limits: bool | None = None,
        port: int = 0,
        state_dir: Path | None = None,
    ) -> None:
        self._fleet = fleet
        self._images = dict(images or {})
        self._rate_limits = rate_limits
        self._port = port
        self._state_dir = state_dir
        self._process: subprocess.Popen[str] | None = None
        self._starting: _Scratch | None = None
        """From its begin until it serves."""
        self._lifeline = -1
        self.url = ""
        """``http://127.0.0.1:PORT``."""
        self.api_key = ""
        """The account's key."""
        self.pid = 0

    def __enter__(self) -> LocalMarket:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the market; on return it serves.

        :raises LocalMarketError: with the market's own message, if it does not start.
        """
        if self._process is not None and self._starting is None:
            raise LocalMarketError(f"this local market is running already, at {self.url}")
        if self._starting is None:
            self.begin()
        process, starting = self._process, self._starting
        assert process is not None and process.stdout is not None and starting is not None  # noqa: S101, PT018 -- begun
        try:
            line = _first_line(process.stdout.fileno())
            ready = json.loads(line) if line.startswith("{") else None
            if ready is None:
                raise _not_started(process, line, starting)  # noqa: TRY301 - the clean-up is the same for all errors
        except BaseException:
            self.stop()
            raise
        self._forget_scratch()
        self.url, self.api_key, self.pid = ready["url"], ready["api_key"], ready["pid"]

    def begin(self) -> None:
        """Start the market's process, and do something else while it starts; :meth:`start` then waits for it.

        :raises LocalMarketError: if the process cannot be started.
        """
        require_extra()
        self._starting = _Scratch()
        theirs, ours = os.pipe()
        self._lifeline = keep_private(ours)
        try:
            self._process = subprocess.Popen(
                child.command("pytest_vastgpu.cli.main", "local", *self._arguments(self._starting.directory, theirs)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._starting.error_output,
                text=True,
                pass_fds=[theirs],
                start_new_session=True,  # Ctrl-C must not reach the market: this process ends it
            )
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(theirs)

    def stop(self) -> None:
        """End the market and its instances. Does nothing if it is not running."""
        if self._lifeline >= 0:
            close_private(self._lifeline)
            self._lifeline = -1
        self._forget_scratch()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _ended(process)
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def status(self) -> dict[str, Any]:
        """Return the instances that are alive or have ended, their costs, and the calls of the API.

        :returns: JSON values. ``alive`` and ``ended`` are lists of instances, ``spent_usd`` and ``credit_usd`` the
            account's money, ``rents_per_label`` how often each label was rented, ``calls`` the calls by endpoint and
            key. Money is in USD, times are epoch seconds.
        :raises LocalMarketError: if the market does not answer.
        """
        return fetch_status(self.url, self.api_key)

    def strike(self, instance_id: int, fault: str, **parameters: float | str) -> None:
        """Apply a fault to a running instance now; a fleet can only give the seconds after its start.

        :param fault: ``container_exits``, ``frozen``, ``host_lost``, ``instance_says``, ``instance_vanishes``,
            ``offline``, ``outbid``, ``price_raised`` or ``stops_by_itself``;
            ``vastgpu local faults`` describes them.
        :param parameters: The parameters of the fault; ``after_s`` is 0 by default.
        :raises LocalMarketError: if the market does not answer, the fault is not one of these, or the instance does
            not run.
        """
        strike(self.url, self.api_key, instance_id, fault, **parameters)

    def _forget_scratch(self) -> None:
        if self._starting is not None:
            self._starting.close()
            self._starting = None

    def _arguments(self, scratch: Path, lifeline: int) -> list[str]:
        arguments = ["--port", str(self._port), "--lifeline", str(lifeline)]
        if self._state_dir is not None:
            arguments += ["--state-dir", str(self._state_dir)]
        for pattern, command in self._images.items():
            arguments += ["--image", f"{pattern}={command}"]
        if self._rate_limits is not None:
            arguments.append("--rate-limits" if self._rate_limits else "--no-rate-limits")
        fleet = self._fleet_file(scratch)
        return [*arguments, *(["--fleet", str(fleet)] if fleet else [])]

    def _fleet_file(self, scratch: Path) -> Path | None:
        if self._fleet is None or isinstance(self._fleet, Path):
            return self._fleet
        file = scratch / "fleet.yaml"
        try:
            # JSON is YAML, except for infinity, and for escaped characters beyond the first 65,536.
            text = json.dumps(dict(self._fleet), indent=2, ensure_ascii=False).replace(": Infinity", ": .inf")
            file.write_bytes(text.encode())
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: also lone surrogates, and cycles
            raise LocalMarketError(f"the fleet cannot be written as YAML: {error}") from error
        return file


class _Scratch:
    """What a market needs while it starts: a temporary directory, and a temporary file for what it complains about.

    :raises LocalMarketError: if they cannot be made.
    """

    def __init__(self) -> None:
        with ExitStack() as stack:
            try:
                self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vastgpu-")))
                self.error_output = stack.enter_context(tempfile.TemporaryFile())
            except OSError as error:
                raise LocalMarketError(
                    f"no temporary file can be made ({error.strerror or error}): set TMPDIR to a directory of yours"
                ) from error
            self.close = stack.pop_all().close


def _not_started(process: subprocess.Popen[str], line: str, starting: _Scratch) -> LocalMarketError:
    code = _ended(process)
    starting.error_output.seek(0)
    message = starting.error_output.read().decode(errors="replace").strip() or line.strip() or "it said nothing"
    return LocalMarketError(f"the local market did not start (exit code {code}): {_last_line(message)}")


def _ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process that is about to end; it is killed where it does not."""
    try:
        return child.await_end(process, _STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(_STOP_S)


def _first_line(pipe: int) -> str:
    """The first line from a pipe; what there is of it, where it does not come in time."""
    ends, line = time.monotonic() + _START_S, b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while not line.endswith(b"\n") and poll.poll(max(0.0, ends - time.monotonic()) * 1000):
        piece = os.read(pipe, 65536)
        if not piece:
            break
        line += piece
    return line.decode(errors="replace")


def _last_line(text: str) -> str:
    """Return the last line, without its prefix: of a traceback that is the message."""
    return text.splitlines()[-1].removeprefix("vastgpu: ")
