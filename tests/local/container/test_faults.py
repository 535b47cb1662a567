from __future__ import annotations

import contextlib
import math
import shutil
import socket
import sys
from pathlib import Path

import paramiko
import pytest

from pytest_vastgpu.local.container.container import ContainerFaults
from pytest_vastgpu.local.gpu import SimulatedGpu
from tests.support.local.containers import LIMIT_S
from tests.support.local.containers import SERVE
from tests.support.local.containers import ContainerRunner
from tests.support.local.containers import execute

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "ssh-keygen"))), reason="OpenSSH's client tools are not installed"
)
GPU = SimulatedGpu("RTX 4090", 24564, "570.86.15", 12.8, 8.9)


def test_refused_for_ever(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(direct=True, faults=ContainerFaults(ssh_refused_s=math.inf))
        for port in (container.ssh_port, container.direct_ports["22/tcp"]):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), LIMIT_S)


def test_refused_for_a_while(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(faults=ContainerFaults(ssh_refused_s=0.2))
        done = runner.ssh(container, "true", flags=["-o", "ConnectionAttempts=20"])
        assert done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_black_hole(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(faults=ContainerFaults(ssh_black_hole=True))
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", container.ssh_port), 0.3)


def test_reset_before_the_banner(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(faults=ContainerFaults(ssh_reset_first_n=2))
        for _ in range(2):
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection(("127.0.0.1", container.ssh_port), LIMIT_S) as connection,
            ):
                connection.recv(1)
        assert runner.ssh(container, "true").returncode == 0


def test_key_refused_for_ever_and_for_a_while(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        never = runner.start_one(1, faults=ContainerFaults(key_refused_s=math.inf))
        with pytest.raises(paramiko.AuthenticationException):
            runner.connect(never)
        later = runner.start_one(2, faults=ContainerFaults(key_refused_s=0.3))
        for _ in range(500):
            try:
                runner.connect(later).close()
                break
            except paramiko.AuthenticationException:
                continue
        else:
            pytest.fail("the key was never accepted")


def test_host_key_changes(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one()
        assert runner.ssh(container, "true").returncode == 0
        runner.run(container.stop())
        changed = runner.start_one(faults=ContainerFaults(host_key_changes_after_s=0))
        known = tmp_path / "known_hosts"
        known.write_text(known.read_text().replace(f"]:{container.ssh_port} ", f"]:{changed.ssh_port} "))
        assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in runner.ssh(changed, "true").stderr


def test_tunnels_die(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(onstart=SERVE, faults=ContainerFaults(tunnels_die_after_s=0.1))
        for _ in range(2):  # a new connection works again, for the same time
            client = runner.connect(container)
            transport = client.get_transport()
            assert transport is not None
            wait = "for i in $(seq 500); do (exec 3<>/dev/tcp/127.0.0.1/8000) 2> errors && exit; sleep 0.02; done"
            assert execute(client, wait)[0] == 0
            with contextlib.suppress(EOFError, OSError, paramiko.SSHException):  # it may die before we see it open
                channel = transport.open_channel("direct-tcpip", ("127.0.0.1", 8000), ("127.0.0.1", 0))
                channel.settimeout(LIMIT_S)
                assert channel.recv(1) == b""
            transport.join(LIMIT_S)
            assert not transport.is_active()
            client.close()


def test_nvidia_smi_fails(tmp_path: Path) -> None:
    text = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(gpus=(GPU,), faults=ContainerFaults(nvidia_smi_fails=text))
        done = runner.ssh(container, "nvidia-smi --query-gpu=name --format=csv")
        assert (done.returncode, done.stdout.decode()) == (9, f"{text}\n")


@pytest.mark.parametrize("missing", [False, True])
def test_libcuda(tmp_path: Path, missing: bool) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(gpus=(GPU,), faults=ContainerFaults(libcuda_missing=missing))
        listed = runner.ssh(container, "ldconfig -p | grep -c libcuda.so.1; ldconfig -p | grep -c libc.so.6").stdout
        assert listed == (b"0\n1\n" if missing else b"1\n1\n")


def test_disk_full(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        probe = runner.start_one(1)
        if not probe.isolation.isolated:
            pytest.skip(probe.isolation.reason)
        container = runner.start_one(2, onstart="date > ~/date", faults=ContainerFaults(disk_full=True))
        assert b"No space left on device" in runner.ssh(container, "head -c 100000 /dev/zero > model").stderr
        assert runner.ssh(container, "df --output=avail . | tail -n 1").stdout.strip() == b"0"
        assert runner.ssh(container, "cat onstart.sh").stdout == b"date > ~/date"
        container.remove_key(runner.public_key)
        assert runner.ssh(container, "true").returncode == 255


def test_start_script_never_runs(tmp_path: Path) -> None:
    with ContainerRunner(tmp_path) as runner:
        container = runner.start_one(onstart="echo ran", faults=ContainerFaults(onstart_never_runs=True))
        assert runner.ssh(container, "cat onstart.sh; grep -c onstart /proc/1/cmdline").stdout == b"echo ran0\n"
        assert container.log() == ""
