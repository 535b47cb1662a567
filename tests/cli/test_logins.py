"""``vastgpu ssh`` and ``vastgpu logs`` on a real SSH server, that of an instance of the local market."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.cli.server_log import news
from pytest_vastgpu.cli.server_log import show_log
from pytest_vastgpu.core.text.shell import exports
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.base import ConnectFailed
from pytest_vastgpu.ssh.connection import SshConnection
from pytest_vastgpu.ssh.connector import SshConnector
from pytest_vastgpu.ssh.keys import KeyPair
from pytest_vastgpu.ssh.keys import load_key
from pytest_vastgpu.supervisor.rental.keep import KEY_FILE
from tests.cli.conftest import FakeRun
from tests.cli.conftest import MakeRun
from tests.support.limits import UNSPACED
from tests.support.looks import until


@dataclass
class Reachable:
    """An instance of a living run, which has logged in to it."""

    run: FakeRun
    key: KeyPair
    connection: SshConnection

    @property
    def id(self) -> str:
        return str(self.run.instance)

    def has(self, **logs: str) -> None:
        """Write its logs."""
        for name, text in logs.items():
            self.write(f"{name}.log", text)

    def write(self, name: str, text: str) -> None:
        """Write one of our files."""
        command = f"mkdir -p .vastgpu/beside && cat > .vastgpu/{name}"
        assert self.connection.run(command, timeout_s=20, stdin=text.encode()).ok


@pytest.fixture
def reachable(client: Provider, make_run: MakeRun) -> Iterator[Reachable]:
    run = make_run("abcd1234", alive=True)
    key = load_key({}, Path("/nonexistent"))
    key.save(run.directory / KEY_FILE)
    client.attach_key(run.instance, key.public_line)
    status = until(lambda: client.show(run.instance), lambda seen: seen is not None and bool(seen.ssh))
    assert status is not None
    dial = SshConnector(key, 20, hosts=run.directory / known_hosts.FILE).dialler()

    def login(status: InstanceStatus) -> SshConnection | None:
        try:
            return dial(status.ssh)
        except ConnectFailed:
            return None

    connection = until(lambda: login(status), lambda found: found is not None)
    assert connection is not None
    with closing(connection):
        yield Reachable(run, key, connection)


def vastgpu(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_vastgpu", *words]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)


def test_ssh_runs_a_command_with_the_key_of_the_run_and_ends_as_it_ends(reachable: Reachable) -> None:
    done = vastgpu("ssh", reachable.id, "echo", "$HOME; cat; exit 7", stdin="typed")
    assert (done.returncode, done.stderr) == (7, "")
    home, typed = done.stdout.splitlines()
    assert typed == "typed"
    assert home == reachable.connection.run("echo $HOME", timeout_s=20).stdout.strip()
    assert vastgpu("ssh", reachable.id[:3], "--", "ls", "-d", "/").stdout == "/\n", "the start of its id, and options"
    assert vastgpu("ssh", "abcd", "false").returncode == 1, "its run"
    assert vastgpu("ssh", "--", "ls", "-d", "/").stdout == "/\n", "the only one; a command"
    assert vastgpu("ssh", stdin="exit 3\n").returncode == 3, "the only one; a shell"


@pytest.mark.slow
def test_ssh_goes_to_none_but_the_machine_that_the_run_has_seen(reachable: Reachable, tmp_path: Path) -> None:
    hosts = reachable.run.directory / known_hosts.FILE
    seen = hosts.read_text()
    assert seen.count("\n") >= 1
    assert hosts.stat().st_mode & 0o777 == 0o600
    other = load_key({}, Path("/nonexistent")).pkey.get_base64()
    hosts.write_text("".join(f"{line.split()[0]} ssh-ed25519 {other}\n" for line in seen.splitlines()))
    done = vastgpu("ssh", reachable.id, "true")
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr.upper()
    assert "no SSH login" in vastgpu("logs", reachable.id).stderr


@pytest.mark.slow
def test_ssh_without_the_program_is_one_line(
    reachable: Reachable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["ssh", reachable.id], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        "vastgpu: no program ssh is found in PATH: install it, for example with apt-get install openssh-client\n"
    )


@pytest.mark.slow
def test_logs_show_no_secret_of_the_servers_environment(reachable: Reachable) -> None:
    env = {"HF_TOKEN": "v3ry 's3cr3t'", "MODEL": "/models/x", "HUGGING_FACE_HUB_TOKEN": "hf_abcdefghij"}
    env["VASTGPU_HOST"] = "127.0.0.1"  # which is long enough for a secret, and none
    reachable.has(
        server=f"127.0.0.1: my token is {env['HF_TOKEN']}\nof /models/x, and {env['HUGGING_FACE_HUB_TOKEN']}\n"
    )
    reachable.write("env.sh", exports(env))
    shown = "127.0.0.1: my token is <HF_TOKEN>\nof /models/x, and <HUGGING_FACE_HUB_TOKEN>\n"
    assert vastgpu("logs", reachable.id).stdout == shown


@pytest.mark.slow
@pytest.mark.parametrize("cut_short", ["", "export LAST='and"])
def test_logs_hide_the_secrets_of_both_servers_each_has_values_of_its_own(reachable: Reachable, cut_short: str) -> None:
    one, other = "the one's s3cr3t", "the other's v3ry own"
    reachable.has(server=f"{one}, {other}\n")
    reachable.write("env.sh", exports({"HF_TOKEN": one}))
    reachable.write("beside/env.sh", exports({"HF_TOKEN": other}) + cut_short)
    shown = vastgpu("logs", reachable.id).stdout
    assert shown == (f"<HF_TOKEN>, {other}\n" if cut_short else "<HF_TOKEN>, <HF_TOKEN>\n")


@pytest.mark.slow
def test_without_its_key_it_is_said_how_to_get_in_the_next_time(
    reachable: Reachable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = reachable.run.directory / KEY_FILE
    saved.rename(saved.with_name("elsewhere"))
    assert main(["ssh", reachable.id], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        f"vastgpu: there is no key to instance {reachable.id}: run abcd1234 has made one for itself; point "
        "VAST_SSH_KEY_PATH at a key that was there when the run started (default: ~/.ssh/id_rsa_vastai)\n"
    )
    monkeypatch.setenv("VAST_SSH_KEY_PATH", str(saved.with_name("elsewhere")))
    assert vastgpu("ssh", reachable.id, "exit 5").returncode == 5


@pytest.mark.slow
def test_an_instance_that_has_no_address_yet_is_told(
    client: Provider, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ssh"], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == "vastgpu: no instance of pytest-vastgpu is alive\n"
    assert main(["ssh", "17"], UNSPACED) == ExitCode.FAILED
    assert "no run here has ever rented it" in capsys.readouterr().err


def test_which_of_several_must_be_said(client: Provider, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make_run("abcd1234", alive=True), make_run("abcd5678", alive=True)
    for words in (["logs"], ["ssh", "abcd"]):
        assert main(words, UNSPACED) == ExitCode.FAILED
        err = capsys.readouterr().err
        assert err.startswith("vastgpu: 2 instances are meant: name one of ")
        assert f"{one.instance} (run abcd1234)" in err
        assert f"{two.instance} (run abcd5678)" in err


def test_logs_are_those_of_the_setup_command_and_the_server_without_what_controls_a_terminal(
    reachable: Reachable, capsys: pytest.CaptureFixture[str]
) -> None:
    reachable.has(setup="installed\n", server="\x1b[1;36mone\x1b[0m\ntwo\x07\x1b]0;title\n::error::three\nlast")
    assert main(["logs", reachable.id], UNSPACED) == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == "installed\none\ntwo\\u0007\\u001b]0;title\n: :error::three\nlast\n"
    assert main(["logs", "-n", "2"], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == ": :error::three\nlast\n"


HEADERS = "==> .vastgpu/server.log <==\n", "==> .vastgpu/beside/server.log <==\n"


@pytest.mark.slow
def test_where_two_servers_run_each_has_its_name_above_its_lines(reachable: Reachable) -> None:
    reachable.has(**{"server": "one\ntwo\n", "beside/server": "three\n\nfour\n"})
    one, other = HEADERS
    assert vastgpu("logs", reachable.id).stdout == f"{one}one\ntwo\n\n{other}three\n\nfour\n"
    assert vastgpu("logs", "-n", "1", reachable.id).stdout == f"{one}two\n\n{other}four\n"


@pytest.mark.slow
def test_where_two_servers_run_what_is_followed_has_their_names_too(
    reachable: Reachable, follow: Callable[..., Following]
) -> None:
    reachable.has(**{"server": "one\n", "beside/server": "two\n"})
    following = follow(reachable.id)
    one, other = HEADERS
    assert [following.line() for _ in range(5)] == [one, "one\n", "\n", other, "two\n"]
    reachable.connection.run("echo three >> .vastgpu/server.log", timeout_s=20)
    assert [following.line() for _ in range(3)] == ["\n", one, "three\n"]


@pytest.mark.slow
def test_without_a_login_the_containers_log_is_shown(reachable: Reachable, capsys: pytest.CaptureFixture[str]) -> None:
    (reachable.run.directory / KEY_FILE).unlink()
    assert main(["logs", reachable.id], UNSPACED) == ExitCode.OK
    printed = capsys.readouterr()
    assert f"instance {reachable.id}: there is no key to instance" in printed.err
    assert printed.err.endswith("; this is the container's log\n")


class Following:
    """``vastgpu logs -f`` in a process of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "pytest_vastgpu", "logs", "-f", *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture
def follow() -> Iterator[Callable[..., Following]]:
    """Begins to follow, until the test is over."""
    begun: list[Following] = []

    def begin(*words: str) -> Following:
        begun.append(Following(*words))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()


@pytest.fixture
def following(reachable: Reachable, follow: Callable[..., Following]) -> Following:
    reachable.has(server="one\n")
    begun = follow(reachable.id)
    assert begun.line() == "one\n"
    reachable.connection.run("echo two >> .vastgpu/server.log", timeout_s=20)
    assert begun.line() == "two\n"
    return begun


def test_logs_are_followed_until_the_instance_is_gone(
    following: Following, reachable: Reachable, client: Provider
) -> None:
    client.destroy(reachable.run.instance)
    code, out, err = following.end()
    assert (code, out) == (ExitCode.OK, "")
    assert err == f"vastgpu: instance {reachable.id} is gone\n"


@pytest.mark.slow
def test_logs_are_followed_until_the_user_ends_it(following: Following) -> None:
    os.kill(following.process.pid, signal.SIGINT)
    assert following.end() == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.slow
def test_a_reader_that_leaves_is_not_complained_about(reachable: Reachable) -> None:
    reachable.has(server="line\n" * 200_000)
    command = [sys.executable, "-m", "pytest_vastgpu", "logs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == ExitCode.CLOSED


@pytest.mark.slow
def test_of_one_that_is_gone_what_was_kept_of_its_failed_start_is_shown(
    make_run: MakeRun, client: Provider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=False, started_in=str(tmp_path))
    run.write("gone")
    kept = tmp_path / "vast-artifacts" / "abcd1234" / "1" / "server.log"
    assert main(["logs", str(run.instance)], UNSPACED) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        f"vastgpu: instance {run.instance} of run abcd1234 is not there any more; logs are kept where a start or "
        f"a test fails, and {kept} is not there\n"
    )
    kept.parent.mkdir(parents=True)
    kept.write_text("one\n\x1b[31mtwo\n")
    assert main(["logs", str(run.instance), "-n", "1"], UNSPACED) == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out == "two\n"
    assert printed.err.endswith(f"is not there any more; this is from {kept}\n")


@pytest.mark.slow
def test_a_containers_log_is_followed_until_the_instance_is_gone(
    make_run: MakeRun, client: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=True)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            client.destroy(run.instance)

    assert show_log(None, UNSPACED, follow=True, lines=None, wait=wait) == ExitCode.OK
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("; this is the container's log, until that changes")
    assert told[1:] == [f"vastgpu: instance {run.instance} is gone"]
    assert len(waits) >= 2


@pytest.mark.slow
def test_an_instance_of_another_machines_run_has_its_host_key_noted_by_its_label(
    reachable: Reachable, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    elsewhere = home / "elsewhere"
    reachable.run.directory.rename(elsewhere)
    monkeypatch.setenv("VAST_SSH_KEY_PATH", str(elsewhere / KEY_FILE))
    assert vastgpu("ssh", reachable.id, "exit 6").returncode == 6
    noted = home / ".local/state/pytest-vastgpu/known_hosts"
    assert noted.read_text().startswith(f"{reachable.run.label} ssh-")
    assert vastgpu("ssh", reachable.id, "exit 6").returncode == 6
    assert noted.read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "one\n", "one\n"),
        ("one\n", "one\ntwo\n", "two\n"),
        ("one\ntwo\n", "one\ntwo\n", ""),
        ("zero\n" + "x" * 400 + "\n", "x" * 400 + "\nnext\n", "next\n"),
        ("one\n", "another start\n", "another start\n"),
    ],
)
def test_of_a_log_that_is_read_again_only_the_new_part_is_printed(before: str, now: str, new: str) -> None:
    assert news(before, now) == new


@pytest.mark.slow
@pytest.mark.parametrize("another", [False, True], ids=["no run lives", "another run lives"])
@pytest.mark.parametrize("command", ["ssh", "logs", "destroy"])
def test_of_one_that_a_run_here_had_it_is_said_that_it_is_gone_also_without_a_key(
    command: str, another: bool, market: LocalMarket, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=False, embedded=True)
    if another:
        make_run("0ddba110", alive=True, embedded=True)
        run.write("gone")
        with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
            client.destroy(run.instance)
    code = main([command, str(run.instance)], UNSPACED)
    printed = capsys.readouterr()
    assert "VAST_API_KEY" not in printed.err
    if command == "destroy":
        assert (code, printed.out) == (ExitCode.OK, f"instance {run.instance} of run abcd1234 was gone already\n")
    else:
        assert code == ExitCode.FAILED
        assert printed.err.startswith(f"vastgpu: instance {run.instance} of run abcd1234 is not there any more")
