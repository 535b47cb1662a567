from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.supervisor import start


class Market:
    """Notes what is done with it."""

    def __init__(self, done: list[str], *, fails: bool = False) -> None:
        self.done = done
        self.fails = fails

    def begin(self) -> None:
        self.done.append("market begins")
        if self.fails:
            raise LocalMarketError("it does not")

    def stop(self) -> None:
        self.done.append("market stopped")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("backend", "begins"), [("local", ["market begins"]), ("vast", [])])
def test_the_local_market_starts_before_the_supervisor_is_loaded(
    backend: str, begins: list[str], fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    market = Market(done, fails=fails)

    class Process(ModuleType):
        def main(self, descriptor: int, given: object) -> int:
            assert (descriptor, given) == (7, market)
            done.append("supervisor")
            return 3

    import pytest_vastgpu.supervisor

    process = Process("pytest_vastgpu.supervisor.process")
    monkeypatch.setitem(sys.modules, process.__name__, process)
    monkeypatch.setattr(pytest_vastgpu.supervisor, "process", process, raising=False)
    monkeypatch.setattr(start, "LocalMarket", lambda **_: market)
    monkeypatch.setattr(sys, "argv", ["-c", "7", backend])
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    assert start.main() == 3
    assert done == [*begins, "supervisor", "market stopped"]


def loaded_by(module: str) -> set[str]:
    """All modules that are loaded in a fresh process once it has imported one."""
    show = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split())


def test_what_comes_before_the_market_is_little() -> None:
    assert not loaded_by("pytest_vastgpu.supervisor.start") & {"asyncio", "cryptography", "httpx", "paramiko", "yaml"}
    assert not loaded_by("pytest_vastgpu.local.server") & {"asyncio", "cryptography", "starlette", "uvicorn", "yaml"}


def test_what_dependencies_would_load_for_themselves_is_not_loaded() -> None:
    loaded = loaded_by("pytest_vastgpu.supervisor.process")
    assert {"httpx", "paramiko"} <= loaded
    assert not loaded & {"invoke", "httpx._main", "click", "rich", "asyncssh", "uvicorn", "starlette"}
