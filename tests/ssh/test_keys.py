from __future__ import annotations

import functools
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric import rsa

from pytest_vastgpu.errors import SshKeyError
from pytest_vastgpu.ssh import keys
from pytest_vastgpu.ssh.keys import load_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PEM = serialization.Encoding.PEM
OPENSSH = serialization.PrivateFormat.OpenSSH
PKCS8 = serialization.PrivateFormat.PKCS8
LEGACY = serialization.PrivateFormat.TraditionalOpenSSL


@functools.cache
def made(kind: str) -> PrivateKeyTypes:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ecdsa":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return dsa.generate_private_key(1024)  # noqa: S505 - it is refused, and a longer one takes seconds


def text(kind: str, form: serialization.PrivateFormat, passphrase: bytes = b"") -> bytes:
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return made(kind).private_bytes(PEM, form, lock)


def public(kind: str) -> str:
    return (
        made(kind)
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("rsa", OPENSSH),
        ("rsa", PKCS8),
        ("rsa", LEGACY),
        ("ed25519", OPENSSH),
        ("ed25519", PKCS8),
        ("ecdsa", OPENSSH),
        ("ecdsa", PKCS8),
        ("ecdsa", LEGACY),
    ],
)
def test_each_kind_of_key_in_each_format(tmp_path: Path, kind: str, form: serialization.PrivateFormat) -> None:
    path = tmp_path / "key"
    path.write_bytes(text(kind, form))
    pair = load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path)
    assert pair.source == "VAST_SSH_KEY_PATH"
    assert pair.pkey.can_sign()
    assert pair.public_line == f"{public(kind)} pytest-vastgpu"


def test_the_named_key_wins_over_the_default_one(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_rsa_vastai").write_bytes(text("rsa", OPENSSH))
    (tmp_path / "mine").write_bytes(text("ed25519", OPENSSH))
    assert load_key({}, tmp_path).source == "~/.ssh/id_rsa_vastai"
    assert load_key({"VAST_SSH_KEY_PATH": ""}, tmp_path).public_line.startswith(public("rsa"))
    assert load_key({"VAST_SSH_KEY_PATH": "~/mine"}, tmp_path).public_line.startswith(public("ed25519"))


def test_a_key_is_made_where_there_is_none(tmp_path: Path) -> None:
    pair = load_key({}, tmp_path)
    assert pair.source == "made for this run"
    assert pair.public_line.startswith("ssh-ed25519 ")
    assert load_key({}, tmp_path).public_line != pair.public_line
    assert list(tmp_path.iterdir()) == []
    assert pair.private_text.decode() not in repr(pair)


def test_a_saved_key_is_private_and_ours_and_never_replaces_another(tmp_path: Path) -> None:
    pair = load_key({}, tmp_path)
    path = tmp_path / "saved"
    before = os.umask(0)
    try:
        pair.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path).public_line == pair.public_line
    with pytest.raises(FileExistsError):
        load_key({}, tmp_path).save(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(lambda: text("rsa", OPENSSH, b"secret"), "is protected by a passphrase", id="openssh-locked"),
        pytest.param(lambda: text("ed25519", PKCS8, b"secret"), "is protected by a passphrase", id="pkcs8-locked"),
        pytest.param(lambda: text("ecdsa", LEGACY, b"secret"), "is protected by a passphrase", id="pem-locked"),
        pytest.param(lambda: public("ed25519").encode(), "is a public key", id="public-ed25519"),
        pytest.param(lambda: public("ecdsa").encode(), "is a public key", id="public-ecdsa"),
        pytest.param(lambda: b"PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen", id="putty"),
        pytest.param(lambda: b"", "is not a private key", id="empty"),
        pytest.param(lambda: b"\x00\xff\x00 nonsense", "is not a private key", id="binary"),
        pytest.param(lambda: text("rsa", OPENSSH)[:200], "is not a private key", id="truncated"),
        pytest.param(lambda: text("dsa", PKCS8), "neither RSA, ed25519 nor ECDSA", id="dsa"),
    ],
)
@pytest.mark.parametrize("where", ["named", "default"])
def test_what_cannot_be_used_gets_one_line_with_path_and_remedy(
    tmp_path: Path, where: str, content: Callable[[], bytes], words: str
) -> None:
    path = tmp_path / ("named" if where == "named" else ".ssh/id_rsa_vastai")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content())
    with pytest.raises(SshKeyError) as caught:
        load_key({"VAST_SSH_KEY_PATH": str(path)} if where == "named" else {}, tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "point VAST_SSH_KEY_PATH at" in message
    assert "\n" not in message


def test_a_key_that_no_start_script_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_bytes(text("rsa", OPENSSH))
    length = len(load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path).public_line)
    monkeypatch.setattr(keys, "LONGEST_LINE", length - 1)  # making one that is too large takes a minute
    with pytest.raises(SshKeyError, match=f"too large: its public key has {length} characters.* point VAST_SSH_KEY"):
        load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path)


@pytest.mark.parametrize(("kind", "words"), [("missing", "No such file"), ("folder", "Is a directory")])
def test_a_named_path_that_cannot_be_read(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "key"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(SshKeyError, match=words):
        load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_we_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(text("ed25519", OPENSSH))
    path.chmod(0)
    with pytest.raises(SshKeyError, match="Permission denied"):
        load_key({"VAST_SSH_KEY_PATH": str(path)}, tmp_path)


def test_a_default_that_leads_nowhere_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_rsa_vastai").symlink_to(tmp_path / "gone")
    with pytest.raises(SshKeyError, match="cannot be read"):
        load_key({}, tmp_path)


def test_openssh_agrees_on_the_public_key(tmp_path: Path) -> None:
    pair = load_key({}, tmp_path)
    pair.save(tmp_path / "key")
    try:
        derived = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen on this machine")
    assert derived.stdout.decode().split()[:2] == pair.public_line.split()[:2]
