"""The project's files, as tests find them on a host that sees nothing of this machine."""

from __future__ import annotations

import os
import subprocess
import threading
from functools import partial
from typing import TextIO

import pytest

from pytest_vastgpu.client import warm
from tests.support.hidden import HiddenHosts
from tests.support.looks import is_running
from tests.support.looks import until

LOOKS = """
import os, pathlib, subprocess
ROOT = pathlib.Path(__file__).parent

def test_it_finds_its_files():
    names = {os.fsencode(path.relative_to(ROOT)) for path in ROOT.rglob("*") if not path.is_dir()}
    names = {name for name in names if b"__pycache__" not in name and not name.startswith(b".pytest_cache")}
    assert names == {
        b".gitignore", b"test_it.py", b"tool.sh", b"data/link", b"data/it's \\xff\\nodd", b"build/kept.so", b"own.log",
        b"conftest.py",
    }
    assert os.access(ROOT / "tool.sh", os.X_OK) and not os.access(ROOT / "test_it.py", os.X_OK) or os.geteuid() == 0
    assert (ROOT / "test_it.py").stat().st_mode & 0o111 == 0
    assert subprocess.check_output([ROOT / "tool.sh"]) == b"ran\\n"
    assert os.readlink(ROOT / "data" / "link") == "../tool.sh"
    assert int((ROOT / "tool.sh").stat().st_mtime) == 1_600_000_000

def test_a_log_that_is_written_meanwhile_is_a_start_of_it():
    lines = (ROOT / "own.log").read_text().split("\\n")
    assert lines[:-1] == [str(number) for number in range(len(lines) - 1)]
"""


@pytest.mark.slow
def test_the_project_is_on_the_host_as_it_is_here(hidden_hosts: HiddenHosts) -> None:
    root = hidden_hosts.project
    hidden_hosts.write(
        {
            "test_it.py": LOOKS,
            "conftest.py": "",
            "tool.sh": "#!/bin/sh\necho ran\n",
            os.fsdecode(b"data/it's \xff\nodd"): "x",
            "gone.py": "x",
            ".gitignore": "build\n",
            "build/kept.so": "x",
            "build/left.txt": "x",
        }
    )
    (root / "gone.py").unlink()
    (root / "tool.sh").chmod(0o755)
    os.utime(root / "tool.sh", (1_600_000_000, 1_600_000_000))
    (root / "data" / "link").symlink_to("../tool.sh")
    (root / "data" / "out").symlink_to("../../elsewhere")
    (root.parent / "elsewhere").mkdir()
    over = threading.Event()

    def writes(log: TextIO) -> None:
        number = 0
        while not over.wait(0.001):
            log.write(f"{number}\n")
            log.flush()
            number += 1

    with (root / "own.log").open("w") as log:
        writer = threading.Thread(target=writes, args=(log,))
        writer.start()
        try:
            ran = hidden_hosts.run("--vast-sync=build/*.so")
        finally:
            over.set()
            writer.join()
    assert ran.code == 0
    (told,) = (line for line in ran.lines if line.startswith("vastgpu: bringing"))
    assert told.startswith("vastgpu: bringing 8 files, ")
    assert told.endswith(": no commit yet")
    out = "a link that leads out of the project, data/out -> ../../elsewhere; --vast-sync=data/out brings what"
    assert any(line.startswith(f"vastgpu: left out: {out}") for line in ran.lines)


def test_what_cannot_be_brought_is_a_usage_error_before_anything_is_rented(hidden_hosts: HiddenHosts) -> None:
    hidden_hosts.write({"test_it.py": "def test_it(): pass", "data/large.bin": ""})
    os.truncate(hidden_hosts.project / "data" / "large.bin", 300_000_000)
    ran = subprocess.run(
        hidden_hosts.command("--vast-hosts=1", "--vast-backend=local"),
        cwd=hidden_hosts.project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "attempt" not in ran.stdout + ran.stderr
    (line,) = filter(None, ran.stderr.splitlines())
    assert line == (
        "ERROR: vastgpu: the project has 300.0 MB to bring, more than 200.0 MB, most of it in data/large.bin (300.0 "
        "MB): put that into .gitignore; download it there in --vast-setup; or say "
        "--vast-sync=data/large.bin to bring it all the same"
    )


WARM = """
import pathlib
ROOT = pathlib.Path(__file__).parent

def test_it():
    assert (ROOT / "new.py").exists() == {second}
    assert (ROOT / "old.py").exists() != {second}
    assert (ROOT / "data" / "result.txt").exists() == {second}
    (ROOT / "data" / "result.txt").write_text("of a test")
"""


@pytest.mark.slow
def test_a_warm_host_gets_what_has_changed_and_keeps_what_tests_wrote(hidden_hosts: HiddenHosts) -> None:
    root = hidden_hosts.project
    hidden_hosts.write({"test_it.py": WARM.format(second=False), "old.py": "", "data/x": "x", "large.bin": ""})
    (root / "large.bin").write_bytes(os.urandom(12_000_000))
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    try:
        first = hidden_hosts.run("--vast-reuse=5m")
        assert first.code == 0
        assert any("bringing" in line and "instance" in line for line in first.lines)
        hidden_hosts.write({"test_it.py": WARM.format(second=True), "new.py": ""})
        (root / "old.py").unlink()
        second = hidden_hosts.run("--vast-reuse=5m")
        assert second.code == 0
        assert not any("bringing" in line and "instance" in line for line in second.lines), "little was brought again"
    finally:
        for known in warm.all_warm():
            until(partial(_stopped, known), bool)


def _stopped(known: warm.WarmSupervisor) -> bool:
    try:
        warm.stop(known)
    except warm.NotJoined:
        return not is_running(known.pid)
    return True
