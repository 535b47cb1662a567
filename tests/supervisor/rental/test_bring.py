"""Files are brought with progress, in their own time, once; what goes wrong has its own verdict."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
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
from pytest_vastgpu.servers.listing import Listing
from pytest_vastgpu.servers.listing import brought_by
from pytest_vastgpu.servers.listing import write as listed
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


def in_shell(tmp_path: Path, shell: str) -> Callable[..., str]:
    """A function that runs a command of ours in a shell, in a home of its own."""
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} on this machine")
    path = os.environ["PATH"]
    if shell.startswith("busybox"):  # nothing but its own programs
        (tmp_path / "bin").mkdir()
        for program in ("busybox", "tar", "mkdir", "readlink"):
            (tmp_path / "bin" / program).symlink_to(str(shutil.which("busybox")))
        path = str(tmp_path / "bin")

    def run(command: str, data: bytes = b"") -> str:
        words = [str(shutil.which(shell.split()[0])), *shell.split()[1:], "-c", command]
        done = subprocess.run(words, cwd=tmp_path, input=data, check=True, capture_output=True, env={"PATH": path})
        return done.stdout.decode()

    return run


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_the_instance_says_what_was_written_to_since_files_were_brought(tmp_path: Path, shell: str) -> None:
    run = in_shell(tmp_path, shell)
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


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_links_of_a_project_are_unpacked_as_links_and_looked_at_as_links(tmp_path: Path, shell: str) -> None:
    run = in_shell(tmp_path, shell)
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    links = {"to file": "a", "deep/up": "../a", "to directory": "deep", "nowhere": "no/such", "two": "there"}
    for name in ("a", "b", "later a link"):
        write(project / name, 10)
    for name, target in links.items():
        (project / name).symlink_to(target)

    def bring() -> None:
        names = {name: "" for name in ("a", "b", "later a link") if not (project / name).is_symlink()}
        listing = Listing("project", str(project), {**names, **links})
        listed(tmp_path / "list", listing)
        found = brought_by(replace(WORKLOAD, listing=str(tmp_path / "list")))
        run(job.UNPACK, b"".join(compressed(archive.packed(found))))

    def look() -> str:
        return run(job.UNTOUCHED, b"".join(os.fsencode(f"project/{n}\n{to}\n") for n, to in asked.items()))

    run(job.MAKE_FOLDERS)
    bring()
    there = tmp_path / job.WORK / "project"
    assert {name: str((there / name).readlink()) for name in links} == links
    assert int((there / "a").stat().st_mtime) == LONG_AGO
    asked = {**links, "a": "", "later a link": ""}
    assert look().split() == ["same"] * 7
    (there / "to file").unlink()
    (there / "to file").symlink_to("b")
    (there / "deep" / "up").unlink()
    (there / "deep" / "up").write_text("a file now")
    (there / "a").unlink()
    (there / "a").symlink_to("b")
    assert look().split() == ["other", "other", "same", "same", "same", "other", "same"]
    (project / "later a link").unlink()
    (project / "later a link").symlink_to("b")
    links["later a link"] = "b"
    bring()
    assert {name: str((there / name).readlink()) for name in links} == links
    assert not (there / "a").is_symlink()
    assert (there / "b").read_bytes() == (project / "b").read_bytes(), "nothing was written through a link"


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


def listing(lived: Life, tmp_path: Path, names: dict[str, str]) -> None:
    listed(tmp_path / "list", Listing("project", str(tmp_path / "project"), names))
    lived.workload = replace(WORKLOAD, listing=str(tmp_path / "list"))


def test_of_a_project_only_what_has_changed_here_comes_again_and_what_is_gone_here_goes_there(tmp_path: Path) -> None:
    lived = life(tmp_path, {})
    (tmp_path / "project" / "old").mkdir(parents=True)
    for name in ("a", "b", "old/c"):
        write(tmp_path / "project" / name, 10)
    (tmp_path / "project" / "link").symlink_to("a")
    listing(lived, tmp_path, {"a": "", "b": "", "old/c": "", "link": "a"})
    lived.bring_up()
    assert names(there(lived).inputs[job.UNPACK]) == ["project/a", "project/b", "project/old/c", "project/link"]
    restart(context(lived))
    assert there(lived).commands.count(job.UNPACK) == 1, "nothing has changed"
    listing(lived, tmp_path, {"a": "", "b": "", "link": "b", "new": ""})
    write(tmp_path / "project" / "b", 11)
    write(tmp_path / "project" / "new", 1)
    restart(context(lived))
    assert names(there(lived).inputs[job.UNPACK]) == ["project/b", "project/link", "project/new"]
    assert there(lived).inputs[job.REMOVE].split(b"\0") == [b"project/old", b"project/old/c", b""]


def test_a_file_that_goes_while_a_project_is_brought_is_held_against_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = life(tmp_path, {})
    (tmp_path / "project").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "project" / name, 10)
    listing(lived, tmp_path, {"a": "", "b": ""})
    send = MemoryConnection.send

    def later(self: MemoryConnection, *args: object, **more: object) -> ProbeResult:
        (tmp_path / "project" / "b").unlink(missing_ok=True)
        return send(self, *args, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(MemoryConnection, "send", later)
    lived.bring_up()
    assert names(there(lived).inputs[job.UNPACK]) == ["project/a"]


def test_a_file_that_is_never_left_alone_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived = life(tmp_path, {})
    (tmp_path / "project").mkdir()
    file = write(tmp_path / "project" / "state.db", 10)
    listing(lived, tmp_path, {"state.db": ""})
    fstat = os.fstat

    def touched(number: int) -> os.stat_result:
        file.write_bytes(os.urandom(10))
        os.utime(file, ns=(0, int.from_bytes(os.urandom(6), "big")))  # whatever the clock of the file system
        return fstat(number)

    monkeypatch.setattr(os, "fstat", touched)
    lived.bring_up()
    line = "written to while it was brought, so that the copy there may be half old, half new: project/state.db"
    assert any(event.text.endswith(line) for event in lived.events.events)


def test_an_image_without_gzip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived = life(tmp_path, {"a": 1})
    said = "tar (child): gzip: Cannot exec: No such file or directory\ntar: Child returned status 2"
    result = ProbeResult("", ProbeFailure.COMMAND, 2, "", said, 0.0)
    monkeypatch.setattr(MemoryConnection, "send", lambda *_, **__: result)
    assert isinstance(lived.live(), ProvisioningFailed)
    assert lived.records[0].verdict is not None
    assert lived.records[0].verdict.reason == "gzip_missing"
