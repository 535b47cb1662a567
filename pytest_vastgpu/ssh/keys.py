"""Loads the SSH key pair for logins: the user's own, or a new one made for the run."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from pytest_vastgpu.core.environment import SSH_KEY_PATH
from pytest_vastgpu.core.environment import ssh_key_path
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.errors import SshKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    _PrivateKey = RSAPrivateKey | Ed25519PrivateKey | EllipticCurvePrivateKey

DEFAULT_KEY = ".ssh/id_rsa_vastai"
"""Relative to the home directory."""
_COMMENT = "pytest-vastgpu"
LONGEST_LINE = 1500
"""Characters of a public key that an instance's start script has room for: those of RSA with 8192 bits."""
_REMEDY = f"point {SSH_KEY_PATH} at a private key without a passphrase, or unset it to get a key made for the run"


@dataclass(frozen=True)
class KeyPair:
    """A usable private key, and its source."""

    pkey: paramiko.PKey = field(repr=False)
    source: str
    """For the header: ``VAST_SSH_KEY_PATH``, ``~/.ssh/id_rsa_vastai`` or ``made for this run``."""
    private_text: bytes = field(repr=False)
    """The private key in OpenSSH's format, without a passphrase."""
    path: Path | None = None
    """The file of the key; None where it was made for the run."""

    @property
    def public_line(self) -> str:
        """The public key in the format of ``authorized_keys`` and of the market's API: type, base64, comment."""
        return f"{self.pkey.get_name()} {self.pkey.get_base64()} {_COMMENT}"

    def save(self, path: Path) -> None:
        """Write the private key to a new file with mode 0600, for ``ssh -i``.

        :raises FileExistsError: the file exists; a key is never overwritten.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.private_text)


def load_key(environ: Mapping[str, str], home: Path, directory: Path = Path()) -> KeyPair:
    """The key named by ``VAST_SSH_KEY_PATH``, else ``~/.ssh/id_rsa_vastai``, else a fresh ed25519 pair.

    RSA, ed25519 and ECDSA, in OpenSSH's or PEM format. The file's permissions are not checked.

    :param directory: Base of a relative path.
    :raises SshKeyError: if the named file, or an existing default file, cannot be used.
    """
    named = ssh_key_path(environ)
    if named:
        path = home / named[2:] if named.startswith("~/") else directory / named
        return _from_file(path, SSH_KEY_PATH)
    default = home / DEFAULT_KEY
    if os.path.lexists(default):
        return _from_file(default, f"~/{DEFAULT_KEY}")
    return _key_pair(Ed25519PrivateKey.generate(), "made for this run")


def _from_file(path: Path, source: str) -> KeyPair:
    where = f"SSH key {path}" + (f" (from {source})" if source == SSH_KEY_PATH else "")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SshKeyError(f"{where} cannot be read: {error.strerror}; {_REMEDY}") from error
    try:
        private = _parse(data)
    except _Unusable as error:
        raise SshKeyError(f"{where} {error}; {_REMEDY}") from error
    pair = _key_pair(private, source, path.absolute())
    if (length := len(pair.public_line)) > LONGEST_LINE:
        raise SshKeyError(f"{where} is too large: its public key has {length} characters, of {LONGEST_LINE}; {_REMEDY}")
    return pair


class _Unusable(Exception):
    """The content of a file cannot be used as a key; the message says why."""


def _parse(data: bytes) -> _PrivateKey:
    if data.startswith((b"ssh-", b"ecdsa-", b"sk-", b"---- BEGIN SSH2 PUBLIC", b"-----BEGIN PUBLIC")):
        raise _Unusable("is a public key, the private one is needed")
    if data.startswith(b"PuTTY-User-Key-File"):
        raise _Unusable("is in PuTTY's format; export it with `puttygen KEY -O private-openssh -o NEW`")
    openssh = b"-----BEGIN OPENSSH" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(data, None)
    except TypeError as error:  # cryptography raises it where a passphrase is missing
        raise _Unusable("is protected by a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _Unusable("is not a private key that can be used") from error
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise _Unusable("is neither RSA, ed25519 nor ECDSA")
    return key


def _key_pair(private: _PrivateKey, source: str, path: Path | None = None) -> KeyPair:
    # One format for all kinds of keys: both paramiko and the user's ssh read OpenSSH's.
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    KNOWN.add("SSH private key", text.decode())
    kind: type[paramiko.PKey]
    if isinstance(private, RSAPrivateKey):
        kind = paramiko.RSAKey
    elif isinstance(private, Ed25519PrivateKey):
        kind = paramiko.Ed25519Key
    else:
        kind = paramiko.ECDSAKey
    return KeyPair(kind.from_private_key(io.StringIO(text.decode())), source, text, path)
