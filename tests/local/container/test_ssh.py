from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from tests.support.local.containers import LIMIT_S
from tests.support.local.containers import SERVE
from tests.support.local.containers import ContainerRunner
from tests.support.local.containers import execute
from tests.support.local.containers import get
from tests.support.looks import free_port

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "scp", "ssh-keygen"))), reason="OpenSSH's client tools are not installed"
)


@pytest.mark.parametrize(
    ("command", "stdin", "status", "output", "errors"),
    [
        ("exit 7", b"", 7, b"", b""),
        ("echo out; echo err >&2; exit 3", b"", 3, b"out\n", b"err\n"),
        ("cat", b"half-closed", 0, b"half-closed", b""),
        ("wc -c", b"x" * 3_000_000, 0, b"3000000\n", b""),
        ("head -c 5", b"y" * 3_000_000, 0, b"yyyyy", b""),
        ("exec > >(cat); echo late", b"", 0, b"late\n", b""),
        ("no-such-program", b"", 127, b"", b"no-such-program: command not found\n"),
    ],
    ids=["code", "streams", "half-closed", "big", "not read to the end", "late", "missing"],
)
def test_ssh_command(tmp_path: Path, command: str, stdin: bytes, status: int, output: bytes, errors: bytes) -> None:
    with ContainerRunner(tmp_path) as runner:
        done = runner.ssh(runner.start_one(), command, stdin=stdin)
    assert (done.returncode, done.stdout) == (status, output)
    assert done.stderr.endswith(errors)
    assert bool(done.stderr) == bool(errors)


def test_session_is_clean_and_the_first_process_has_the_container_environment(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(
            environment={"CONTAINER_API_KEY": "restricted"}, direct=True, ports=((8000, "tcp"),)
        )
        session = runner.ssh(container, "env; pwd").stdout.decode().splitlines()
        first = runner.ssh(container, "cat /proc/1/environ").stdout.decode().split("\0")
        home = str(container.spec.directory / "home")
        assert "CONTAINER_API_KEY=restricted" not in session
        assert "CONTAINER_API_KEY=restricted" in first
        assert f"VAST_TCP_PORT_8000={container.direct_ports['8000/tcp']}" in first
        assert f"VAST_TCP_PORT_22={container.direct_ports['22/tcp']}" in first
        assert f"HOME={home}" in session
        assert session[-1] == home
        image = str(Path(sys.executable).parent)
        assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in session
        assert any(each.startswith(f"PATH={image}:") for each in first), "sessions do not have the image's PATH"


def test_start_script_can_give_sessions_the_environment(tmp_path: Path) -> None:
    """Vast's documentation advises it. The file of this machine must not change."""
    with ContainerRunner(tmp_path) as runner:
        host_file = Path("/etc/environment")
        if not host_file.is_file():
            pytest.skip("this machine has no /etc/environment")
        before = host_file.read_bytes()
        container = runner.start_one()
        if not container.isolation.isolated:
            pytest.skip(container.isolation.reason)
        runner.ssh(container, "echo 'GREETING=\"hello you\"' >> /etc/environment")
        assert runner.ssh(container, "echo $GREETING").stdout == b"hello you\n"
        assert host_file.read_bytes() == before


def test_beside_jupyter_ssh_answers_on_two_neighbouring_ports(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(jupyter=True)
        for port in (container.ssh_port, container.ssh_port + 1):
            with runner.connect(container, port) as client:
                assert execute(client, "echo $((6 * 7))")[1] == b"42\n"


def test_banner_comes_before_authentication(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(authorized_keys=())
        done = runner.ssh(container, "true", flags=["-o", "LogLevel=INFO"])
    assert b"Welcome to vast.ai. If authentication fails, try again after a few seconds" in done.stderr
    assert b"Permission denied (publickey)" in done.stderr
    assert done.returncode == 255


def test_keys_come_and_go_while_it_runs(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(authorized_keys=("# a comment", "not a key at all"))
        assert runner.ssh(container, "true").returncode == 255
        container.add_key(runner.public_key + " a comment with words")
        assert runner.ssh(container, "true").returncode == 0
        container.remove_key(runner.public_key + " a comment with words")
        assert runner.ssh(container, "true").returncode == 255


def test_host_key_stays_the_same_over_stop_and_start(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        keys = []
        for _ in range(2):
            container = runner.start_one()
            with runner.connect(container) as client:
                transport = client.get_transport()
                assert transport is not None
                keys.append(transport.get_remote_server_key())
            runner.run(container.stop())
        other = runner.start_one(2)
        with runner.connect(other) as client:
            transport = client.get_transport()
            assert transport is not None
            assert transport.get_remote_server_key() != keys[0]
    assert keys[0] == keys[1]


def test_terminal(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, runner.connect(runner.start_one()) as client:
        channel = client.invoke_shell(term="xterm-256color", width=101, height=33)
        channel.settimeout(LIMIT_S)
        channel.sendall(b"stty size; echo [$TERM]; tty; exit 4\n")
        shown = b"".join(iter(lambda: channel.recv(65536), b""))
        assert channel.recv_exit_status() == 4
        assert b"33 101" in shown
        assert b"[xterm-256color]" in shown
        assert b"/dev/pts/" in shown


def test_terminal_loses_no_output(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        done = runner.ssh(runner.start_one(), "seq 50000", flags=["-tt"])
    assert done.stdout.split() == [b"%d" % number for number in range(1, 50001)]


@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp", "scp"])
def test_scp_both_ways(tmp_path: Path, protocol: list[str]) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "data").write_bytes(bytes(range(256)) * 4000)
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        scp = ["scp", *protocol, "-q", "-r", *runner.options(container, port_flag="-P")]
        subprocess.run([*scp, str(tmp_path / "up"), "root@127.0.0.1:~/there"], check=True, timeout=LIMIT_S)
        assert runner.ssh(container, "wc -c < ~/there/data").stdout == b"1024000\n"
        subprocess.run([*scp, "root@127.0.0.1:there/data", str(tmp_path / "back")], check=True, timeout=LIMIT_S)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "up" / "data").read_bytes()


def test_sftp_starts_at_home(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        with runner.connect(container) as client, client.open_sftp() as sftp:
            assert sftp.normalize(".") == str(container.spec.directory / "home")
            with sftp.open("note", "w") as note:
                note.write("hello")
        assert (container.spec.directory / "home" / "note").read_text() == "hello"


def test_local_and_remote_forwarding(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, socket.create_server(("127.0.0.1", 0)) as outside:
        container = runner.start_one(onstart=f"cd ~ && echo inside > who\n{SERVE}")
        port = free_port()
        flags = ["-L", f"{port}:localhost:8000", "-R", f"7001:127.0.0.1:{outside.getsockname()[1]}"]
        line = ["ssh", *runner.options(container), *flags, "root@127.0.0.1"]
        command = "echo up; read go; exec 3<>/dev/tcp/127.0.0.1/7001; echo hello >&3"
        with subprocess.Popen([*line, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stdout.readline() == b"up\n"
            assert get(port).endswith(b"inside\n")
            client.stdin.write(b"go\n")
            client.stdin.flush()
            visitor, _ = outside.accept()
            with visitor:
                assert visitor.recv(100) == b"hello\n"
            client.stdin.close()
            assert client.wait(LIMIT_S) == 0


def test_background_child_does_not_hold_the_command(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, runner.connect(runner.start_one()) as client:
        status, output, _ = execute(client, "echo started; setsid nohup sleep 86000 > log & echo $!")
        assert (status, output.splitlines()[0]) == (0, b"started")
        assert execute(client, f"kill -0 {int(output.split()[1])}")[0] == 0


def test_killed_command_reports_its_signal(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        killed = runner.ssh(container, "echo before; kill -KILL $$")
        assert (killed.stdout, killed.returncode) == (b"before\n", 255)
        with runner.connect(container) as client:
            assert execute(client, "echo before; kill -KILL $$")[:2] == (-1, b"before\n")


def test_disconnecting_hangs_up_a_terminal(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        with runner.connect(container) as client:
            channel = client.invoke_shell()
            channel.sendall(b"trap 'echo bye > hung_up; exit' HUP; echo re''ady; while :; do sleep 0.02; done\n")
            shown = b""
            while b"ready" not in shown:
                shown += channel.recv(65536)
        wait = "for i in $(seq 500); do [ -s hung_up ] && break; sleep 0.02; done; cat hung_up"
        assert runner.ssh(container, wait).stdout == b"bye\n"


def test_slow_reader_gets_all(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, runner.connect(runner.start_one()) as client:
        _, output, _ = client.exec_command("seq 1000000; echo done > finished", timeout=LIMIT_S)
        # The command cannot end before the client reads: its output is larger than all buffers between them.
        assert execute(client, "cat finished")[0] == 1
        assert output.read() == b"".join(b"%d\n" % number for number in range(1, 1000001))
        assert output.channel.recv_exit_status() == 0


@pytest.mark.slow
def test_many_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner, ThreadPoolExecutor(8) as pool:
        container = runner.start_one()
        lines = [b"%d\n" % number for number in range(1, 18001)]

        def through_one_connection(first: int) -> None:
            with runner.connect(container) as client:
                for number in range(first, first + 30):
                    check(client, number)

        def through_connections_of_their_own(first: int) -> None:
            for number in range(first, first + 5):
                with runner.connect(container) as client:
                    check(client, number)

        def check(client: paramiko.SSHClient, number: int) -> None:
            length = number % 7 * 3000
            command = f"cat; echo e{number} >&2; seq {length}; exit {number % 200}"
            got = execute(client, command, b"in%d\n" % number)
            assert got == (number % 200, b"in%d\n" % number + b"".join(lines[:length]), b"e%d\n" % number)

        tasks = [pool.submit(through_one_connection, 1000 * each) for each in range(6)]
        tasks += [pool.submit(through_connections_of_their_own, 1000 * each) for each in range(6, 10)]
        for task in tasks:
            task.result(LIMIT_S)
