"""Starting a supervisor where that cannot work; all else is tested with whole runs."""

from __future__ import annotations

import subprocess
import tempfile
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu.client.callbacks import HookCalls
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.client.process import SupervisorProcess
from pytest_vastgpu.errors import ConfigurationError
from tests.client.conftest import call


def test_no_place_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    listener = Listener()
    with pytest.raises(ConfigurationError, match=r"cannot be started .*No usable temporary directory"):
        SupervisorProcess(cast(Opening, None), listener, None, cast(HookCalls, None), {}, lambda _: None, lambda: None)
    with pytest.raises(OSError, match="refused"):
        call(listener.address)


def test_how_a_supervisor_ends_is_told_also_where_its_connections_have_ended_long_before() -> None:
    started = SupervisorProcess.__new__(SupervisorProcess)
    started.line = cast(Any, SimpleNamespace(supervisor=None))
    with tempfile.TemporaryFile() as started._complaints, subprocess.Popen(["sh", "-c", "sleep 1.2; exit 3"]) as ending:
        started._process = ending
        assert started._end() == " (exit code 3)"
