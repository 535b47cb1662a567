"""How fast a model file is brought, beside ``scp`` of the same file to the same SSH server.

``python -m tests.benchmarks.bringing`` sends a file of random bytes over this machine's loopback, in turn with each. On
a line to another machine the line is the limit; this shows what this package costs.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental.server import job
from tests.benchmarks import report
from tests.ssh.conftest import SSHD
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_sshd

ROUNDS = 5
STILL_S = 60.0
GOAL_RATIO = 2.0
"""Most times as long as ``scp``, whose encryption is compiled."""


def rows(quick: bool) -> list[report.Row]:
    """:raises report.Skipped: no SSH server or ``scp`` is installed."""
    if SSHD is None:
        raise report.Skipped("no sshd (apt-get install openssh-server)")
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs, size = measure(Path(directory), 1 if quick else ROUNDS, 20 if quick else 300)
    mb_s = {"ours_mb_s": size / statistics.median(ours), "scp_mb_s": size / statistics.median(theirs)}
    row = report.Row(
        f"a file of {size} MB is brought",
        statistics.median(ours),
        others=statistics.median(theirs),
        beside="scp",
        most_ratio=GOAL_RATIO,
        facts=mb_s,
    )
    return [row]


def measure(folder: Path, rounds: int, size_mb: int) -> tuple[list[float], list[float], int]:
    """Seconds of each round: ours, and ``scp``'s; and the megabytes."""
    model, key = folder / "model.gguf", load_key({}, folder / "nobody")
    with model.open("wb") as file:
        for _ in range(size_mb):
            file.write(os.urandom(10**6))
    key.save(folder / "id")
    server = start_sshd(folder, key)
    ours, theirs = [], []
    scp = ["scp", "-O", "-q", "-F", "none", "-i", str(folder / "id"), "-P", str(server.address.port)]
    scp += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/hosts"]
    try:
        with contextlib.closing(log_in(server, key)) as connection:
            connection.run(f"cd {folder} && {job.MAKE_FOLDERS}", timeout_s=STILL_S)
            found = entries([("model.gguf", str(model))])
            for _ in range(rounds):
                began = time.perf_counter()
                sent = connection.send(
                    f"cd {folder} && {{ {job.UNPACK}; }}", lambda: compressed(packed(found)), still_s=STILL_S
                )
                ours.append(time.perf_counter() - began)
                if not sent.ok:
                    raise report.Failed(f"it was not brought: {sent.stderr}")
                began = time.perf_counter()
                target = f"{server.user}@{server.address.host}:{folder}/copy.gguf"
                subprocess.run([*scp, str(model), target], check=True)
                theirs.append(time.perf_counter() - began)
    finally:
        server.stop()
    return ours, theirs, size_mb


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
