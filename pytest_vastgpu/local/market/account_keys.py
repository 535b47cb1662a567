"""The SSH keys of the account."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

from pytest_vastgpu.local.market.errors import invalid

_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp", "sk-ssh-ed25519", "sk-ecdsa-sha2", "ssh-dss")


@dataclass
class KeyRecord:
    """One key of the account."""

    id: int
    line: str
    created_at: float = field(default_factory=time.time)

    def row(self) -> dict[str, object]:
        """The key as the API shows it."""
        created_at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.created_at))
        return {
            "id": self.id,
            "user_id": 1,
            "public_key": self.line,
            "key": self.line,
            "created_at": created_at,
            "deleted_at": None,
        }


@dataclass
class Keyring:
    """The keys of the account, which every new instance gets."""

    records: dict[int, KeyRecord] = field(default_factory=dict)
    _last: int = 0

    def all(self) -> list[tuple[int, str]]:
        """The ids and lines of all keys."""
        return [(record.id, record.line) for record in self.records.values()]

    def add(self, text: object) -> KeyRecord:
        """Add a key.

        :param text: One line as in ``authorized_keys``.
        :raises ApiError: if it is not a key, or the account has it already.
        """
        line = checked_key(text)
        if any(same_key(record.line, line) for record in self.records.values()):
            raise invalid("SSH key already exists.")
        self._last += 1
        self.records[self._last] = KeyRecord(self._last, line)
        return self.records[self._last]

    def find_or_add(self, text: object) -> KeyRecord:
        """Return the record of a key; add the key if the account does not have it.

        :raises ApiError: if it is not a key.
        """
        line = checked_key(text)
        return next((each for each in self.records.values() if same_key(each.line, line)), None) or self.add(line)

    def find(self, key_id: int) -> KeyRecord:
        """Return the record with this id.

        :raises ApiError: if there is none.
        """
        if key_id not in self.records:
            raise invalid(f"no_ssh_key: {key_id}")
        return self.records[key_id]


def checked_key(text: object) -> str:
    """Return the line of a key, as in ``authorized_keys``, without surrounding white space.

    :raises ApiError: if the text is not such a line.
    """
    line = text.strip() if isinstance(text, str) else ""
    if "\n" in line or len(line.split()) < 2 or not line.startswith(_KINDS):
        raise invalid("Invalid SSH key: it must be one line that begins with its type, like 'ssh-ed25519 AAAA…'")
    return line


def same_key(one: str, other: str) -> bool:
    """Whether two lines hold the same key; their comments may differ."""
    return one.split()[:2] == other.split()[:2]
