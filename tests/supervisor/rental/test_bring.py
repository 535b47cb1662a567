"""Files are brought with progress, in their own time, once; what goes wrong has its own verdict."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.reporting.sentences import verdict_line
from pytest_vastgpu.servers import archive
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import entries
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.supervisor.rental.bringup import restart
from pytest_vastgpu.supervisor.rental.bringup.bring import bring
from pytest_vastgpu.supervisor.rental.bringup.bring import progress
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext
from pytest_vastgpu.supervisor.rental.server import job
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from tests.support.lives import WORKLOAD
from tests.support.lives import Life
from tests.support.lives import ScriptedAdapter
from tests.support.lives import any_key
from tests.support.lives import assert_nothing_is_left
from tests.support.lives import reasons
from tests.support.memory import Instance
from tests.support.memory import MemoryConnection
from tests.support.memory import Script

KEY = any_key()
LONG_AGO = 1_600_000_000


def write(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def life(tmp_path: Path, sizes: dict[str, int], *scripts: Script) -> Life:
    made = Life(tmp_path, scripts or (Script(), Script()), KEY)
    made.workload = replace(WORKLOAD, files=tuple((name, str(write(tmp_path / name, sizes[name]))) for name in sizes))
    return made


def context(lived: Life) -> BringUpContext:
    return BringUpContext(lived.services, lived.rentals[0], ScriptedAdapter(), lived.cancel)


def there(lived: Life) -> Instance:
    (instance,) = lived.provider.instances.values()
    return instance


def told(lived: Life) -> list[str]:
    texts = [event.text.partition(": ")[2] for event in lived.events.events]
    return [text for text in texts if text.startswith(("bringing", "brought"))]


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_progress_is_shown_while_files_are_brought_however_long_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = life(tmp_path, {"model.gguf": 30_000_000, "config.json": 2})
    lived.provider.uplink_bytes_s = 100_000.0  # five minutes: there is no limit on the whole
    shown: list[str] = []
    connection = MemoryConnection.send

    def send(self: MemoryConnection, *args: object, watch: object, **more: object) -> ProbeResult:
        def seen() -> None:
            watch()  # type: ignore[operator] # it is a function
            shown.append(lived.rentals[0].shown.text)

        return connection(self, *args, watch=seen, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(MemoryConnection, "send", send)
    assert lived.live() is None
    assert told(lived) == ["bringing 2 files, 30.0 MB", "brought 30.0 MB of files in 300 s (0.1 MB/s)"]
    assert "bringing files: 15.2 of 30.0 MB, 0.1 MB/s" in shown
    assert_nothing_is_left(lived)


def test_the_line_of_progress() -> None:
    assert progress(1_200_000_000, 4_700_000_000, 31.6) == "bringing files: 1.2 of 4.7 GB, 38 MB/s"
    assert progress(0, 4_700_000_000, 0.1) == "bringing files: 0.0 of 4.7 GB"


def test_little_is_brought_without_a_word(tmp_path: Path) -> None:
    lived = life(tmp_path, {"server.py": 100})
    assert lived.live() is None
    assert told(lived) == []


def test_what_has_arrived_whole_before_the_connection_breaks_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH_BYTES", 1000)
    lived = life(tmp_path, {"a": 900, "b": 900, "c": 900})
    sent: list[list[str]] = []
    run = MemoryConnection.run

    def breaks_at_the_second(self: MemoryConnection, command: str, **more: object) -> ProbeResult:
        if command == job.UNPACK:
            sent.append(names(more["stdin"]))  # type: ignore[arg-type] # it is bytes
            if len(sent) == 2:
                self.close()
        return run(self, command, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(MemoryConnection, "run", breaks_at_the_second)
    assert lived.live() is None
    assert sent == [["a"], ["b"], ["b"], ["c"]]


def test_a_line_that_breaks_often_is_not_held_against_the_machine_while_files_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH_BYTES", 1000)
    lived = life(tmp_path, dict.fromkeys("abcdef", 900))
    tries = 0
    run = MemoryConnection.run

    def breaks_at_every_second(self: MemoryConnection, command: str, **more: object) -> ProbeResult:
        nonlocal tries
        if command == job.UNPACK:
            tries += 1
            if tries % 2:
                self.close()
        return run(self, command, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(MemoryConnection, "run", breaks_at_every_second)
    assert lived.live() is None
    assert tries == 12
    assert reasons(lived) == ["ready"]


def test_another_start_of_the_server_gets_only_what_has_changed_here_or_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = life(tmp_path, {"model": 1000, "server.py": 100})
    lived.bring_up()
    assert names(there(lived).inputs[job.UNPACK]) == ["model", "server.py"]
    restart(context(lived))
    assert there(lived).commands.count(job.UNPACK) == 1
    write(tmp_path / "server.py", 101)
    restart(context(lived))
    assert names(there(lived).inputs[job.UNPACK]) == ["server.py"]
    carry_out = MemoryConnection._carry_out

    def written_to(self: MemoryConnection, instance: Instance, command: str) -> tuple[int, str]:
        return (0, "other\nsame\n") if command == job.UNTOUCHED else carry_out(self, instance, command)

    monkeypatch.setattr(MemoryConnection, "_carry_out", written_to)
    restart(context(lived))
    assert names(there(lived).inputs[job.UNPACK]) == ["model"]


def test_what_was_written_to_there_is_sent_again_also_after_a_connection_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH_BYTES", 1000)
    lived = life(tmp_path, {"a": 900, "b": 900})
    lived.bring_up()
    carry_out = MemoryConnection._carry_out
    says = "other\nother\n"

    def written_to(self: MemoryConnection, instance: Instance, command: str) -> tuple[int, str]:
        return (0, says) if command == job.UNTOUCHED else carry_out(self, instance, command)

    sent: list[list[str]] = []
    run = MemoryConnection.run

    def breaks_at_the_second(self: MemoryConnection, command: str, **more: object) -> ProbeResult:
        nonlocal says
        if command == job.UNPACK:
            sent.append(names(more["stdin"]))  # type: ignore[arg-type] # it is bytes
            says = "same\nsame\n"  # the first group has come after all that was written there
            if len(sent) == 2:
                self.close()
        return run(self, command, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(MemoryConnection, "_carry_out", written_to)
    monkeypatch.setattr(MemoryConnection, "run", breaks_at_the_second)
    with pytest.raises(ConnectFailed):
        bring(context(lived))
    bring(context(lived))
    assert sent == [["a"], ["b"], ["b"]]


def test_a_file_takes_the_place_of_a_directory_and_the_other_way_round(tmp_path: Path) -> None:
    """What the server has put there would make tar fail, which was held against the machine."""
    lived = life(tmp_path, {"file": 10})
    (tmp_path / "directory").mkdir()
    write(tmp_path / "directory" / "inside", 10)
    lived.workload = replace(lived.workload, files=(("a", str(tmp_path / "directory")),))
    lived.bring_up()
    subprocess.run(["sh", "-c", job.MAKE_FOLDERS], cwd=tmp_path, check=True)
    place = tmp_path / job.WORK / "a"
    for source in ("directory", "file", "directory"):
        lived.rentals[0].workload = replace(lived.workload, files=(("a", str(tmp_path / source)),))
        restart(context(lived))
        for command in (job.REMOVE, job.UNPACK):
            data = there(lived).inputs.get(command, b"")
            subprocess.run(["sh", "-c", command], cwd=tmp_path, input=data, check=command == job.UNPACK)
        assert place.is_file() == (source == "file")
        if place.is_dir():
            (place / "left by the server").write_text("x")


def test_a_directory_that_is_gone_here_goes_there(tmp_path: Path) -> None:
    """What is left of a model would be one that Triton cannot load."""
    lived = life(tmp_path, {"file": 10})
    for name in ("old/1", "new/1"):
        (tmp_path / "models" / name).mkdir(parents=True)
        write(tmp_path / "models" / name / "model.py", 10)
    lived.workload = replace(lived.workload, files=(("models", str(tmp_path / "models")),))
    lived.bring_up()
    shutil.rmtree(tmp_path / "models" / "old")
    restart(context(lived))
    removed = there(lived).inputs[job.REMOVE].split(b"\0")
    assert removed == [b"models/old", b"models/old/1", b"models/old/1/model.py", b""]
    assert there(lived).commands.count(job.UNPACK) == 1, "the other model is there"


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_the_instance_says_what_was_written_to_since_files_were_brought(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} on this machine")

    path = os.environ["PATH"]
    if shell.startswith("busybox"):  # nothing but its own programs
        (tmp_path / "bin").mkdir()
        for program in ("busybox", "tar", "mkdir"):
            (tmp_path / "bin" / program).symlink_to(str(shutil.which("busybox")))
        path = str(tmp_path / "bin")

    def run(command: str, data: bytes = b"") -> str:
        words = [str(shutil.which(shell.split()[0])), *shell.split()[1:], "-c", command]
        done = subprocess.run(words, cwd=tmp_path, input=data, check=True, capture_output=True, env={"PATH": path})
        return done.stdout.decode()

    run(job.MAKE_FOLDERS)
    files = {name: write(tmp_path / name, 10) for name in ("a", "two words", "$x 'y'", "-n")}
    asked = b"".join(os.fsencode(name) + b"\n\n" for name in [*files, "never brought"])
    found = entries((name, str(path)) for name, path in files.items())
    run(job.UNPACK, b"".join(compressed(archive.packed(found))))
    work = tmp_path / job.WORK
    assert {name: (work / name).read_bytes() for name in files} == {n: each.read_bytes() for n, each in files.items()}
    assert run(job.UNTOUCHED, asked).split() == ["same", "same", "same", "same", "other"]
    (work / "a").write_bytes(b"by the server")
    (work / "-n").unlink()
    assert run(job.UNTOUCHED, asked).split() == ["other", "same", "same", "other", "other"]
    (tmp_path / job.HOME / "brought").unlink()
    assert set(run(job.UNTOUCHED, asked).split()) == {"other"}


def test_the_end_of_the_run_ends_it(tmp_path: Path) -> None:
    lived = life(tmp_path, {"model": 3_000_000})
    lived.provider.uplink_bytes_s = 10_000.0
    lived.clock.at(60, lived.cancel.cancel)
    with pytest.raises(Cancelled):
        lived.bring_up()
    assert lived.clock.now < 100


def test_the_end_of_its_life_ends_it(tmp_path: Path) -> None:
    lived = Life(tmp_path, [Script()], KEY, {"vast_max_lifetime": "120"})
    lived.workload = replace(WORKLOAD, files=(("model", str(write(tmp_path / "model", 3_000_000))),))
    lived.provider.uplink_bytes_s = 10_000.0
    assert isinstance(lived.live(), ProvisioningFailed)
    assert lived.records[0].verdict is not None
    assert lived.records[0].verdict.reason == "lifetime_over"


def test_files_that_are_gone_when_they_are_sent_stop_the_run(tmp_path: Path) -> None:
    lived = life(tmp_path, {})
    lived.workload = replace(WORKLOAD, files=(("a", str(tmp_path / "gone")),))
    assert isinstance(lived.live(), ProvisioningFailed)
    (attempt,) = lived.records
    assert attempt.verdict is not None
    assert (attempt.verdict.failure_class, attempt.verdict.reason) == (
        FailureClass.WORKLOAD_FATAL,
        "files_unreadable",
    )


@pytest.mark.parametrize(
    ("failure", "exit_code", "stderr", "reason"),
    [
        (ProbeFailure.TIMEOUT, None, "", "unknown: files_too_slow"),
        (ProbeFailure.NOT_RUN, None, "", "unknown: commands_not_run"),
        (ProbeFailure.COMMAND, 2, "", "infra_fatal: cannot_write_files"),
        (ProbeFailure.NONE, 0, "", "infra_fatal: cannot_write_files"),  # as it says, but it has read nothing
        (ProbeFailure.COMMAND, 2, "tar: m: Cannot write: No space left on device", "unknown: disk_full"),
        (ProbeFailure.COMMAND, 127, "", "workload_fatal: tar_missing"),
        (ProbeFailure.TRANSPORT, None, "", ""),
    ],
)
def test_only_what_the_host_did_to_files_is_held_against_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: ProbeFailure,
    exit_code: int | None,
    stderr: str,
    reason: str,
) -> None:
    lived = life(tmp_path, {"a": 1})
    lived.bring_up()
    write(tmp_path / "a", 2)
    result = ProbeResult("", failure, exit_code, "", stderr, 0.0)
    monkeypatch.setattr(MemoryConnection, "send", lambda *_, **__: result)
    with pytest.raises((AttemptFailed, ConnectFailed)) as raised:
        bring(context(lived))
    verdict = getattr(raised.value, "verdict", None)
    assert (verdict_line(verdict) if verdict else "").startswith(reason)
    if verdict is not None:
        assert "\n" not in verdict.evidence
