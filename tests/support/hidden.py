"""Runs on hosts that see nothing of this machine that they should not: no test passes because both are one machine.

Hidden from every process of a host are the project, this checkout, the virtual environment that pytest runs in, and
the directory for temporary files, with the homes of all tests. What a host has is its own home, an empty ``/tmp``, the
system, and the Python that the virtual environment was made with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.container import isolation
from pytest_vastgpu.local.embed import LocalMarket
from tests.support.looks import alive
from tests.support.looks import until
from tests.support.runs import end_guards
from tests.support.runs import until_over

CHECKOUT = Path(__file__).parents[2]
MACHINES: tuple[Mapping[str, Any], ...] = ({"count": 8},)
"""Eight good machines, each with a simulated GPU, and without a way out to the network."""


def hides() -> list[str]:
    """The directories that no host sees."""
    return [str(CHECKOUT), sys.prefix, tempfile.gettempdir(), "/tmp"]


def why_not() -> str:
    """Why nothing can be hidden here; empty if it can."""
    if sys.prefix == sys.base_prefix:
        return "pytest runs in no virtual environment, so its packages are those of every Python here"
    return isolation.probe().reason


@dataclass(frozen=True)
class Ran:
    """A run that is over."""

    code: int
    output: str
    """Its standard output and standard error."""

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


class HiddenHosts:
    """A project, and a market whose hosts see nothing of it but what is brought there."""

    def __init__(self, project: Path) -> None:
        self.project = project
        """The root of the project, a git repository."""
        self._market: LocalMarket | None = None
        project.mkdir()
        subprocess.run(["git", "init", "-q", str(project)], check=True)

    def rent_out(self, *machines: Mapping[str, Any], **fleet: Any) -> LocalMarket:
        """Start the market, unless it runs; without a call the first run does.

        :param machines: As in a fleet file; those of ``MACHINES`` where none is given.
        :param fleet: Other keys of a fleet file.
        """
        if self._market is None:
            rules = {"market": {"rate_limits": False}, "machines": machines or MACHINES}
            self._market = LocalMarket({**rules, **fleet, "hides": [str(self.project), *hides()]})
            self._market.start()
        return self._market

    def write(self, files: Mapping[str, str]) -> None:
        """Write files of the project, by their paths in it; git tracks them."""
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        subprocess.run(["git", "add", "--all"], cwd=self.project, check=True)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a run in the project."""
        return [sys.executable, "-m", "pytest", "-p", "no:randomly", *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of a run."""
        market = self.rent_out()
        return {**os.environ, "VAST_URL": market.url, "VAST_API_KEY": market.api_key, **variables}

    def run(self, *arguments: str, hosts: int = 1, **variables: str) -> Ran:
        """Run pytest in the project, on so many hosts, to its end; without GPUs unless the arguments ask for some.

        :param variables: Further environment variables.
        """
        done = subprocess.run(
            self.command(f"--vast-hosts={hosts}", "--vast-gpus=0", *arguments),
            cwd=self.project,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        sys.stdout.write(output)  # where the test fails, pytest shows it
        return Ran(done.returncode, output)

    def close(self) -> None:
        """See that nothing is left running, and end the market."""
        if self._market is not None:
            market = self._market
            try:
                until(lambda: alive(market), lambda left: not left)
                until_over()
            finally:
                market.stop()
                end_guards()


@pytest.fixture
def hidden_hosts(tmp_path: Path) -> Iterator[HiddenHosts]:
    """A project, and hosts that see nothing of this machine but what is brought there."""
    if reason := why_not():
        pytest.skip(reason)
    hosts = HiddenHosts(tmp_path / "project")
    yield hosts
    hosts.close()
