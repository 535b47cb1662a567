"""Values that no traceback, log or list of local variables shows."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping


class Secret:
    """A text that prints as ``<secret>``.

    It is deliberately no ``str``: code that formats, joins or shows it by accident gets the placeholder.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, value: str | Secret) -> Secret:
        """The value as a secret, from a text or a secret."""
        return value if isinstance(value, Secret) else cls(value)

    def reveal(self) -> str:
        """The text itself. Do not store the result in a local variable: pass it on within the expression."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self._value)


class Environment(Mapping[str, str]):
    """Environment variables whose ``repr`` hides them all, because keys and tokens are among them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"<environment of {len(self)} variables>"
