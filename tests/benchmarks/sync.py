"""How fast a project is brought to a host over a line of 100 Mbit/s, beside ``scp`` of the same files.

``python -m tests.benchmarks.sync``, where ``scp`` and ``sshd`` of OpenSSH are installed. Both go through the same paced
relay to the same SSH server, in turn. The project is made: 1,000 source files of 8 kB (this package's own text), 25 MB
that cannot be compressed, and 25 MB of numbers as text. ``scp -C`` compresses, too, and is told beside it. The goal is
the rate: at least 0.8 of that of ``scp``, so at most 1.25 times as long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import Entry
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental.server import job
from tests.benchmarks import report
from tests.benchmarks.paced import relay
from tests.ssh.conftest import SSHD
from tests.ssh.conftest import log_in
from tests.ssh.conftest import start_sshd

ROUNDS = 3
LINE_MBIT_S = 100.0
STILL_S = 60.0
MOST_RATIO = 1.25
SOURCES = Path(job.__file__).parents[3]


def rows(quick: bool) -> list[report.Row]:
    """:raises report.Skipped: no SSH server or ``scp`` is installed."""
    if SSHD is None or shutil.which("scp") is None:
        raise report.Skipped("no sshd and scp (apt-get install openssh-server openssh-client)")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        project = folder / "project"
        size = make(project, *((20, 10**6) if quick else (1000, 25 * 10**6)))
        ours, plain, small = measure(folder, project, 1 if quick else ROUNDS)
    what = f"a project of {size / 1e6:.0f} MB over 100 Mbit/s"
    middle = statistics.median(ours)
    facts = {"ours": ours, "scp": plain, "scp_C": small, "mbit_s": size * 8 / 1e6 / middle}
    return [
        report.Row(what, middle, others=statistics.median(plain), beside="scp -r", most_ratio=MOST_RATIO, facts=facts),
        report.Row(what, middle, others=statistics.median(small), beside="scp -r -C"),
    ]


def make(project: Path, count: int, large: int) -> int:
    """Write the project; its bytes."""
    text = b"".join(path.read_bytes() for path in sorted(SOURCES.rglob("*.py")))
    for number in range(count):
        path = project / f"package{number % 20}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        at = number * 8000 % (len(text) - 8000)
        path.write_bytes(text[at : at + 8000])
    (project / "weights.bin").write_bytes(os.urandom(large))
    numbers = b"".join(b"%d,%d\n" % (number, number * number % 9973) for number in range(large // 10))
    (project / "table.csv").write_bytes(numbers[:large])
    return sum(path.stat().st_size for path in project.rglob("*") if path.is_file())


def measure(folder: Path, project: Path, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each round: ours, ``scp``'s, and ``scp -C``'s."""
    key = load_key({}, folder / "nobody")
    key.save(folder / "id")
    server = start_sshd(folder, key, "Subsystem sftp internal-sftp")
    found = entries([("project", str(project))])
    ours: list[float] = []
    plain: list[float] = []
    small: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        port = stack.enter_context(relay(server.address.port, LINE_MBIT_S))
        paced = dataclasses.replace(server, address=dataclasses.replace(server.address, port=port))
        for number in range(rounds):
            target = folder / f"home{number}"
            target.mkdir()
            began = time.perf_counter()
            with contextlib.closing(log_in(paced, key)) as connection:
                _bring(connection, target, found)
            ours.append(time.perf_counter() - began)
            for seconds, more in ((plain, []), (small, ["-C"])):
                began = time.perf_counter()
                _scp(folder, f"{server.user}@127.0.0.1:{target}/copy{len(more)}", port, project, more)
                seconds.append(time.perf_counter() - began)
            shutil.rmtree(target)
    return ours, plain, small


def _bring(connection: SshConnection, target: Path, found: list[Entry]) -> None:
    connection.run(f"cd {target} && {job.MAKE_FOLDERS}", timeout_s=STILL_S)
    command = f"cd {target} && {{ {job.UNPACK}; }}"
    sent = connection.send(command, lambda: compressed(packed(found)), still_s=STILL_S)
    if not sent.ok:
        raise report.Failed(f"it was not brought: {sent.stderr}")


def _scp(folder: Path, target: str, port: int, project: Path, more: list[str]) -> None:
    trust = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/hosts"]
    scp = ["scp", "-r", "-q", "-F", "none", "-i", str(folder / "id"), "-P", str(port), *trust, *more]
    subprocess.run([*scp, str(project), target], check=True)


if __name__ == "__main__":
    sys.exit(report.main(__doc__, rows))
