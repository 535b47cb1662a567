"""Clients that nobody here wrote, Vast.ai's own first, unmodified and in an environment of their own.

``VASTGPU_CONTRACT_CLIENT`` names the directory of that environment; it is made there if there is none. Without it
these tests are skipped: they need a package index and half a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pytest_vastgpu.local.embed import LocalMarket

CLIENTS = {"vastai": "vastai==1.9.1", "gpuhunt": "gpuhunt==0.1.34"}
"""By the name that each is imported by."""
FLEET = {
    # The client does not space its calls. How limits are answered has tests of its own.
    "market": {"rate_limits": False, "log_delay_s": 0.1},
    "machines": [
        {"machine_id": 100, "gpu_name": "RTX 4090", "slots": 40, "geolocation": "Sweden, SE", "datacenter": True},
        {
            "machine_id": 200,
            "gpu_name": "H100 SXM",
            "gpu_ram_mb": 81559,
            "price_usd_h": 2,
            "verification": "unverified",
        },
    ],
}


@pytest.fixture(scope="session")
def client() -> Path:
    """The ``bin`` directory of the environment that has the clients."""
    named = os.environ.get("VASTGPU_CONTRACT_CLIENT")
    if not named:
        pytest.skip("set VASTGPU_CONTRACT_CLIENT to a directory for an environment with other people's clients")
    home = Path(named)
    python = home / "bin" / "python"
    with FileLock(f"{home}.lock"):  # workers share it
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        if subprocess.run([python, "-c", f"import {', '.join(CLIENTS)}"], capture_output=True, check=False).returncode:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *CLIENTS.values()], check=True)
    return home / "bin"


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    with LocalMarket(FLEET) as market:
        yield market


@dataclass(frozen=True)
class Vastai:
    """The client with a home, a market and a key."""

    bin: Path
    environment: dict[str, str]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "vastai"), *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def says(self, *words: str) -> str:
        """What a command prints that works."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Failed with error" not in done.stdout + done.stderr
        return done.stdout

    def raw(self, *words: str) -> Any:
        """The JSON of a command."""
        return json.loads(self.says(*words, "--raw"))

    def script(self, script: str) -> Any:
        """What a script with a client's Python interface prints as JSON in its last line."""
        done = subprocess.run(
            [str(self.bin / "python"), "-c", textwrap.dedent(script)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def vastai(client: Path, market: LocalMarket, tmp_path: Path) -> Iterator[Vastai]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "VAST_URL": market.url,
        "VAST_API_KEY": market.api_key,
        "VASTAI_NO_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }
    vastai = Vastai(client, environment)
    yield vastai
    left = vastai.says("show", "instances", "-q").split()
    if left:
        vastai.says("destroy", "instances", *left, "-y")
    assert market.status()["alive"] == []
