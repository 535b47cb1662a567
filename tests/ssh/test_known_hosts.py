from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.ssh import known_hosts
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.keys import load_key

DIRECT, PROXY = SshAddress("127.0.0.1", 2222, "direct"), SshAddress("ssh5.vast.ai", 22, "proxy")


def test_ssh_itself_finds_what_was_noted(tmp_path: Path) -> None:
    path, key = tmp_path / "known_hosts", load_key({}, tmp_path).pkey
    known_hosts.note(path, [DIRECT, PROXY], key)
    for name in ("[127.0.0.1]:2222", "ssh5.vast.ai"):
        found = subprocess.run(["ssh-keygen", "-F", name, "-f", path], capture_output=True, text=True, check=True)
        assert key.get_base64() in found.stdout


def test_the_last_key_of_an_address_counts(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    assert known_hosts.noted(path, [DIRECT]) is None
    first, second = (load_key({}, tmp_path).pkey for _ in range(2))
    known_hosts.note(path, [DIRECT], first)
    known_hosts.note(path, [DIRECT], second)
    found = known_hosts.noted(path, [PROXY, DIRECT])
    assert found is not None
    assert found.asbytes() == second.asbytes()
    assert known_hosts.noted(path, [PROXY]) is None


@pytest.mark.parametrize(
    "line", ["[127.0.0.1]:2222", "[127.0.0.1]:2222 ssh-ed25519 %%%", "[127.0.0.1]:2222 no AAAA", "\xff"]
)
def test_a_line_that_is_no_key_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "known_hosts").write_text(f"{line}\n", encoding="latin-1")
    assert known_hosts.noted(tmp_path / "known_hosts", [DIRECT]) is None
