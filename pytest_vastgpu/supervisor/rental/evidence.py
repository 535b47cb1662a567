"""Collects evidence of a failed or lost instance before it is destroyed, and of one on which a test has failed.

Neither the destroy nor the test may be delayed for long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.reporting import artifacts
from pytest_vastgpu.ssh.base import Connection

PROBE_LIMIT_S = 4.0
CONTAINER_LOG_LINES = 2000

_SERVER_LOG = "server.log"
PROBES = tuple(
    Probe(name, command, PROBE_LIMIT_S)
    for name, command in (
        ("nvidia-smi.txt", "nvidia-smi -q"),
        ("dmesg-xid.txt", "dmesg | grep -E 'NVRM|Xid' | tail -n 200"),
        ("ps.txt", "ps -eo pid,ppid,stat,etime,rss,args || ps"),
        ("ss.txt", "ss -lntp || cat /proc/net/tcp /proc/net/tcp6"),
        ("df.txt", "df -Pk; df -Pi"),
        ("free.txt", "free -m || head -n 5 /proc/meminfo"),
    )
)
"""Probes for evidence. A probe's name is the file that takes its output."""


def with_log(folder: str) -> Sequence[Probe]:
    """All of them, and the log of a server.

    :param folder: The server's, see :func:`~pytest_vastgpu.supervisor.rental.server.job.start`.
    """
    return Probe(_SERVER_LOG, f"tail -c {artifacts.FILE_CHARS} {folder}/server.log", PROBE_LIMIT_S), *PROBES


Source = Callable[[], Mapping[str, str]]
"""Returns files by name. It may raise any exception, and may never return."""


@dataclass(frozen=True)
class Case:
    """What the supervisor knows of a failed attempt without asking the instance or the market."""

    attempt: Attempt
    facts: HostFacts | None
    """None where the host was not checked."""
    log: str
    """What was read of the server's log."""
    events: Path
    """The run's event log."""

    def files(self) -> dict[str, str]:
        """These facts as files, by name."""
        attempt = self.attempt
        story = {
            "verdict": dataclasses.asdict(attempt.verdict) if attempt.verdict else None,
            "failed_in": attempt.failed_in,
            "instance_id": attempt.instance_id,
            "seconds": dict(attempt.seconds),
            "cost_usd": attempt.cost_usd,
        }
        hosts = {
            "sold": dataclasses.asdict(attempt.offer),
            "found": dataclasses.asdict(self.facts) if self.facts else None,
        }
        events = self.events.read_text(encoding="utf-8", errors="replace")
        return {
            "verdict.json": _json(story),
            "sold-and-found.json": _json(hosts),
            "timeline.jsonl": artifacts.timeline(events, attempt.label),
            _SERVER_LOG: self.log,
        }


def probe_files(results: Mapping[str, ProbeResult]) -> dict[str, str]:
    """The probes' output as files, by name. The file of a failed probe says why it failed."""
    files = {}
    for name, result in results.items():
        ended = (
            "" if result.ok else f"\n[{result.failure.value}, exit code {result.exit_code}] {result.stderr.strip()}\n"
        )
        if name != _SERVER_LOG:
            files[name] = result.stdout + ended
        elif result.stdout:
            files[name] = result.stdout
    return files


def gather(sources: Mapping[str, Source], limit_s: float, ending: CancelToken) -> dict[str, str]:
    """Ask all sources at once. The file ``missing.txt`` lists those that failed or took too long.

    :param sources: By name.
    :param limit_s: How long to wait for all of them.
    :param ending: Ends the wait when it is cancelled.
    """
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    missing = dict.fromkeys(sources, f"no answer within {limit_s:g} s")
    lock = threading.Lock()

    def ask(name: str, source: Source) -> None:
        try:
            files: Mapping[str, str] = source()
            problem = ""
        except Exception as error:  # noqa: BLE001 - any failure is noted, and must not prevent the destroy
            files, problem = {}, f"{type(error).__name__}: {error}"
        with lock:
            found.update(files)
            del missing[name]
            if problem:
                problems[name] = problem
        ending.nudge()

    for name, source in sources.items():
        threading.Thread(target=ask, args=(name, source), name=f"vastgpu-evidence-{name}", daemon=True).start()
    with contextlib.suppress(Cancelled):
        ending.wait(limit_s, lambda: not missing)
    with lock:
        files, lacking = dict(found), {**missing, **problems}
    if lacking:
        files["missing.txt"] = "".join(f"{name}: {why}\n" for name, why in lacking.items())
    return files


def keep(case: Case, sources: Mapping[str, Source], directory: Path, limit_s: float, ending: CancelToken) -> None:
    """Collect all evidence and write it into a directory. See :func:`gather`.

    :raises OSError: if it cannot be written.
    """
    files = case.files()
    files.update(gather(sources, limit_s, ending))
    artifacts.write_files(directory, files)


def keep_of_test(log: str, connection: Connection | None, directory: Path, limit_s: float, ending: CancelToken) -> Path:
    """Write what a server has printed into a directory, after a test that used it has failed.

    :param connection: Is asked what the instance looks like, which is written, too; None: it is not asked.
    :returns: The file with the log.
    :raises OSError: if it cannot be written.
    """
    files = {}
    if connection is not None:
        files = gather({"SSH": lambda: probe_files(connection.probe_all(PROBES))}, limit_s, ending)
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.write_files(directory, {_SERVER_LOG: log, **files})
    return directory / _SERVER_LOG


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
