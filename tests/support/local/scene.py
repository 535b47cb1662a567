"""The machine of a fault, and the helpers of checks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.local.api import Api
from tests.support.looks import PATIENCE_S

Check = Callable[["Scene"], None]
CHECKS: dict[str, Check] = {}
PARAMETERS: dict[str, dict[str, object]] = {}
"""The parameters of each fault in the test's fleet, chosen for quick and unambiguous checks."""


class Scene:
    """The machine of a fault, with calls that rent it."""

    def __init__(self, api: Api, machine_id: int, key: Path) -> None:
        self.api = api
        self.machine_id = machine_id
        self.key = key

    def instance(self, **body: object) -> int:
        """Create an instance that is not started."""
        return self.api.rent(self.machine_id, target_state="stopped", **body)

    def booting(self, **body: object) -> int:
        return self.api.rent(self.machine_id, runtype="ssh_direct", **body)

    def running(self, **body: object) -> dict[str, Any]:
        instance_id = self.booting(**body)
        public = self.key.with_suffix(".pub").read_text()
        self.api.http.post(f"/api/v0/instances/{instance_id}/ssh/", json={"ssh_key": public})
        return self.api.becomes(instance_id, actual_status="running")

    def states(self, instance_id: int) -> list[str]:
        """Return all states of an instance so far, also those between two calls."""
        status = self.api.http.get("/_market/status").json()
        [states] = [each["states"] for each in (*status["alive"], *status["ended"]) if each["id"] == instance_id]
        return [each["state"] for each in states]

    def ssh(self, row: dict[str, Any], command: str, *options: str) -> subprocess.CompletedProcess[str]:
        # The first value of an option counts.
        flags = [*options, f"ConnectTimeout={PATIENCE_S:.0f}", "StrictHostKeyChecking=no"]
        flags += ["UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes"]
        line = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(row["ssh_port"])]
        line += [word for flag in flags for word in ("-o", flag)]
        line += [f"root@{row['ssh_host']}", command]
        return subprocess.run(line, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)

    def inside(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.ssh(self.running(), command)


def check(name: str, **parameters: object) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        PARAMETERS[name] = parameters
        return function

    return add
