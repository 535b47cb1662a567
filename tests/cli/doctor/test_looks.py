"""What is really wrong here is seen: files, packages, the kernel, and whatever does not answer."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from threading import Thread
from threading import current_thread

import filelock
import pytest

from pytest_vastgpu.cli.doctor import files
from pytest_vastgpu.cli.doctor import key
from pytest_vastgpu.cli.doctor import machine
from pytest_vastgpu.cli.doctor import packages
from pytest_vastgpu.cli.doctor import ssh
from pytest_vastgpu.cli.doctor import surroundings
from pytest_vastgpu.cli.doctor.command import CHECKS
from pytest_vastgpu.cli.doctor.command import diagnose
from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.limits import Limits
from pytest_vastgpu.cli.doctor.market import Greeting
from pytest_vastgpu.cli.doctor.market import Market
from pytest_vastgpu.cli.doctor.pending import Pending
from pytest_vastgpu.cli.doctor.situation import Check
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.core import directories
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.hostcheck import facts
from pytest_vastgpu.providers.base import Account
from pytest_vastgpu.reputation import locked_files
from pytest_vastgpu.ssh.connector import answers
from tests.support.looks import PATIENCE_S
from tests.support.looks import refusing
from tests.support.vast import make_status

NOWHERE = "/proc/nowhere"
"""Nobody can make files there, not even root."""


def only(findings: Sequence[Finding]) -> Finding:
    (finding,) = findings
    return finding


def with_(here: Situation, **environ: str) -> Situation:
    return replace(here, environ={**here.environ, **environ})


# --- the host cache ---------------------------------------------------------------------------------------------------


def test_a_host_cache_that_cannot_be_written(here: Situation) -> None:
    finding = only(files.check_cache(with_(here, VAST_HOST_CACHE=f"{NOWHERE}/hosts.yaml")))
    assert finding.level == "problem"
    assert finding.text.startswith(f"cannot write the host cache {NOWHERE}/hosts.yaml (")
    assert finding.command.startswith("export VAST_HOST_CACHE=")


@pytest.mark.parametrize(
    ("content", "level", "word"),
    [
        ("pytest-vastgpu-hosts: [\n  1", "warning", "is damaged: line"),
        ("other: file\n...\n", "warning", "another program's file"),
        ("pytest-vastgpu-hosts: 99\n...\n", "problem", "was written by a newer pytest-vastgpu"),
        ("pytest-vastgpu-hosts: 1\n...\n", "ok", "of the first format"),
        ("pytest-vastgpu-hosts: 2\n...\n{cut off", "warning", "has 1 entries that cannot be read"),
        ("pytest-vastgpu-hosts: 2\n...\n", "ok", "hosts.yaml"),
    ],
)
def test_a_host_cache_is_looked_at_and_left_as_it_is(
    here: Situation, tmp_path: Path, content: str, level: str, word: str
) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(content)
    finding = only(files.check_cache(with_(here, VAST_HOST_CACHE=str(path))))
    assert (finding.level, word in finding.text) == (level, True), finding.text
    assert path.read_text() == content
    assert {each.name for each in tmp_path.iterdir()} <= {"hosts.yaml", "hosts.yaml.lock"}


def test_a_lock_that_is_held_is_no_answer(here: Situation, tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    short = replace(with_(here, VAST_HOST_CACHE=str(path)), limits=Limits(0.01, 0.01, 0.1))
    cache = next(check for check in CHECKS if check.name == "host cache")
    with filelock.FileLock(locked_files.lock_path(path)):
        finding = only(diagnose(short, [cache]))
    assert finding.level == "problem"
    assert "no answer" in finding.text
    assert "fuser" in finding.remedy


# --- the records of runs ----------------------------------------------------------------------------------------------


def test_a_state_directory_that_cannot_be_made(here: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", NOWHERE)
    finding = only(files.check_state(here))
    assert finding.level == "problem"
    assert "/proc cannot be written or locked" in finding.text


def test_a_state_directory_that_everybody_may_write_to(
    here: Situation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directories.state_directory().mkdir()
    directories.state_directory().chmod(0o777)
    finding = only(files.check_state(here))
    assert finding.level == "problem"
    assert finding.command == f"chmod 700 {directories.state_directory()}"


def test_looking_makes_no_state_directory(here: Situation, home: Path) -> None:
    finding = only(files.check_state(here))
    assert finding.level in {"ok", "warning"}
    assert not (home / ".local").exists()


def test_a_file_in_the_place_of_the_records(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert files.look_at(tmp_path / "state" / "runs", tmp_path / "state").foreign == str(tmp_path / "state")


def test_what_shares_the_parent_of_a_private_directory_is_private_too(tmp_path: Path) -> None:
    directories.private_directory(tmp_path / "state" / "throttle")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_no_place_for_a_socket(here: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Path:
        raise OSError(36, "no short directory for a socket can be made in any of /a, /b")

    assert only(files.check_sockets(here)).level == "ok"
    monkeypatch.setattr(directories, "socket_directory", fails)
    finding = only(files.check_sockets(here))
    assert (finding.level, finding.command) == ("problem", "export TMPDIR=/tmp")
    assert "/a, /b" in finding.text


# --- what is installed ------------------------------------------------------------------------------------------------


def test_an_old_package_first_on_the_path(here: Situation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert only([each for each in packages.check_versions(here) if each.name == "versions"]).level == "ok"
    old = tmp_path / "paramiko-3.5.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: paramiko\nVersion: 3.5.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    finding = packages.check_versions(here)[0]
    assert finding.level == "problem"
    assert "paramiko 3.5.0 is older than 4.0" in finding.text
    assert finding.command == f"{sys.executable} -m pip install 'paramiko>=4.0'"


def test_everything_that_this_package_declares_is_understood() -> None:
    import importlib.metadata

    declared = packages.requirements(importlib.metadata.requires(packages.PACKAGE) or ())
    extras = importlib.metadata.metadata(packages.PACKAGE).get_all("Provides-Extra")
    assert {each.extra for each in declared} == {"", *(extras or ())}
    assert "pyyaml" in {each.name.lower() for each in declared if not each.extra}


# --- SSH --------------------------------------------------------------------------------------------------------------


def make_key(path: Path, passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs OpenSSH")
def test_the_users_key(here: Situation, tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key(path)
    named = with_(here, VAST_SSH_KEY_PATH=str(path))
    finding = only(ssh.check_key(named))
    assert (finding.level, finding.text) == ("ok", f"{path} (ssh-ed25519)")
    path.chmod(0o644)
    assert only(ssh.check_key(named)).command == f"chmod 600 {path}"


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs OpenSSH")
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: make_key(path, "secret phrase"), "is protected by a passphrase"),
        (lambda path: path.write_text("ssh-ed25519 AAAA me"), "is a public key"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_key_that_cannot_be_used(here: Situation, tmp_path: Path, spoil: Callable[[Path], object], word: str) -> None:
    spoil(tmp_path / "key")
    finding = only(ssh.check_key(with_(here, VAST_SSH_KEY_PATH=str(tmp_path / "key"))))
    assert (finding.level, word in finding.text) == ("problem", True)
    assert finding.command.startswith("ssh-keygen -q -t ed25519")


def test_without_a_key_a_run_makes_one(here: Situation) -> None:
    assert only(ssh.check_key(here)).text.startswith("each run makes its own")


def test_no_ssh_program_on_the_path(here: Situation, tmp_path: Path) -> None:
    assert only(ssh.check_program(with_(here, PATH=str(tmp_path)))).level == "warning"


@pytest.fixture
def swallowing() -> Iterator[tuple[str, int]]:
    """An address that gives no answer, not even a refusal: its queue is full, so that the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        assert select.select([full], [], [], PATIENCE_S)[0], "one connection fills the queue"
        yield full.getsockname()


def test_an_address_that_swallows_everything_does_not_answer(swallowing: tuple[str, int]) -> None:
    host, port = swallowing
    assert not answers(host, port, 0.1)
    with refusing() as port:
        assert answers(host, port, PATIENCE_S), "a refusal is an answer"


def test_a_network_that_keeps_ssh_in(here: Situation, swallowing: tuple[str, int]) -> None:
    host, port = swallowing
    status = make_status(ssh_host=host, ssh_port=port)
    market = Market(
        "http://127.0.0.1:1",
        Secret("k"),
        Pending(lambda: Greeting(0.1, 0.0), PATIENCE_S),
        Pending(lambda: Account(1, "", 5.0), PATIENCE_S),
        Pending(list, PATIENCE_S),
        Pending(lambda: [status], PATIENCE_S),
        Pending(list, PATIENCE_S),
    )
    there = with_(here, VAST_URL=market.url)
    finding = only(ssh.check_way_out(replace(there, market=market, limits=Limits(answer_s=0.1))))
    assert finding.level == "warning"
    assert f"no answer from {host}:{port}" in finding.text
    assert finding.command == f"nc -vz {host} {port}"


def test_the_login_of_a_proxy_is_hidden_in_what_libraries_say(here: Situation) -> None:
    surroundings.check_proxies(with_(here, HTTPS_PROXY="http://me:5ecret@proxy.example:3128"))
    assert KNOWN("407 for me with 5ecret") == "407 for me with <proxy login>"


# --- the key of the vendor's command line -----------------------------------------------------------------------------


def test_the_vendors_key_is_pointed_to_and_not_read(here: Situation, home: Path) -> None:
    file = home / key.VENDORS_KEY_FILES[0]
    file.parent.mkdir(parents=True)
    file.write_text("0123456789abcdef")
    finding = only(key.check_key(here))
    assert finding.command == 'export VAST_API_KEY="$(cat ~/.config/vastai/vast_api_key)"'
    assert "0123" not in repr(finding)


# --- this machine -----------------------------------------------------------------------------------------------------


def test_namespaces_that_the_kernel_does_not_allow() -> None:
    code = "from pytest_vastgpu.cli.doctor import machine as m; m.main()"
    closed = f"echo 0 > /proc/sys/user/max_net_namespaces && exec {sys.executable} -c '{code}'"
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare, and user namespaces to close others in")
    done = subprocess.run([*unshare, closed], capture_output=True, text=True, check=True)
    assert '"how": "none"' in done.stdout
    assert "No space left on device" in done.stdout


def test_namespaces_and_gpus_of_this_machine(here: Situation) -> None:
    real = with_(here, PATH=os.environ["PATH"])
    assert only(machine.check_namespaces(real)).name == "namespaces"
    assert "not known" not in only(machine.check_namespaces(real)).text
    assert only(machine.check_gpus(real)).name == "gpu"


def test_looking_for_gpus_asks_nobody() -> None:
    assert "way_out &" in facts.SCRIPT
    assert "way_out &" not in facts.OFFLINE_SCRIPT
    assert facts.OFFLINE_SCRIPT.count("\n") == facts.SCRIPT.count("\n") - 1


def test_an_nvidia_smi_that_fails(here: Situation, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho Failed to initialize NVML: Driver/library version mismatch\nexit 18\n")
    smi.chmod(0o755)
    finding = only(machine.check_gpus(with_(here, PATH=f"{tmp_path}:{os.environ['PATH']}")))
    assert finding.level == "warning"
    assert "nvidia-smi fails (Failed to initialize NVML: Driver/library version mismatch)" in finding.text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_has_a_row_for_every_check() -> None:
    page = (Path(__file__).parents[3] / "docs/doctor.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = set(re.findall(r"`([^`]+)`", " ".join(rows))) - {"ok", "warning", "problem"}
    assert told == {check.name for check in CHECKS} | {"extras", "plugins", "clock"}


# --- whatever does not answer -----------------------------------------------------------------------------------------


def test_a_check_without_an_answer_is_a_problem_with_its_own_remedy(here: Situation) -> None:
    never, looked = Event(), Event()
    quick_ones: list[Thread] = []

    def look(_: Situation) -> Sequence[Finding]:
        quick_ones.append(current_thread())
        looked.set()
        return [ok("quick", "there")]

    def checks() -> Iterator[Check]:
        yield Check("slow", lambda _: [ok("slow", str(never.wait()))], "mend the slow")
        yield Check("quick", look, "")
        looked.wait()
        quick_ones[0].join()  # however late it was, it is there when the answers are asked for

    slow, quick = diagnose(replace(here, limits=Limits(0.01, 0.01, 0.05)), checks())
    never.set()
    assert (slow.level, slow.remedy) == ("problem", "mend the slow")
    assert "no answer within" in slow.text
    assert quick == ok("quick", "there")


@pytest.mark.parametrize(
    ("error", "word", "remedy"),
    [(ModuleNotFoundError("No module named 'yaml'"), "'yaml'", "see versions"), (KeyError("x"), "KeyError", "report")],
)
def test_a_check_that_fails_keeps_no_other_from_being_told(
    here: Situation, error: Exception, word: str, remedy: str
) -> None:
    def fails(_: Situation) -> Sequence[Finding]:
        raise error

    bad, good = diagnose(here, [Check("bad", fails, ""), Check("good", lambda _: [ok("good", "there")], "")])
    assert (bad.name, bad.level) == ("bad", "problem")
    assert word in bad.text
    assert remedy in bad.remedy
    assert good.level == "ok"
