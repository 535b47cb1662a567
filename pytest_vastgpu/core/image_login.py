"""The login at a container registry, which a market needs to pull a private image. Pure.

The password is a secret: no error has the text that was given, and no ``repr`` shows it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pytest_vastgpu.core.secret import Secret

FORM = "-u USER -p PASSWORD REGISTRY"
"""The form in which it is given; without a registry it is that of Docker Hub."""
REMEDY = f"give a login at its registry: image_login of the workload, or VAST_IMAGE_LOGIN, in the form '{FORM}'"
_HUB = "docker.io"
_NAMES_OF_HUB = frozenset({_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_OPTIONS = {"-u": "user", "--username": "user", "-p": "password", "--password": "password"}


@dataclass(frozen=True)
class ImageLogin:
    """A login at a registry."""

    user: str
    password: Secret
    registry: str
    """Its host, such as ``ghcr.io``."""

    @classmethod
    def parse(cls, text: str) -> ImageLogin:
        """Read a login in the form :data:`FORM`.

        :raises ValueError: with what is wrong, but not with the text.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"a quote in it is not closed ({error})") from None
        found: dict[str, str] = {}
        rest = []
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            if name not in _OPTIONS:
                rest.append(word)
                continue
            if not equals and not words:
                raise ValueError(f"it has nothing after {name}")
            if _OPTIONS[name] in found:
                raise ValueError(f"it has a second {_OPTIONS[name]}")
            found[_OPTIONS[name]] = value if equals else words.pop(0)
        for needed in ("user", "password"):
            if not found.get(needed):
                raise ValueError(f"it has no {needed}")
        if len(rest) > 1 or any(word.startswith("-") for word in rest):
            raise ValueError("it has more words than user, password and registry")
        return cls(found["user"], Secret(found["password"]), _host(rest[0]) if rest else _HUB)

    def is_for(self, image: str) -> bool:
        """Whether an image is in this login's registry."""
        first, slash, _ = image.partition("/")
        # As Docker reads names: the first part is a registry if it could be a host.
        named = slash and ("." in first or ":" in first or first == "localhost")
        return _host(first if named else _HUB) == self.registry

    def text(self) -> Secret:
        """The login in the form :data:`FORM`, as the market takes it."""
        return Secret(f"-u {_word(self.user)} -p {_word(self.password.reveal())} {self.registry}")


def wrong_login(text: str) -> str:
    """What is wrong with the text of a login, for people; empty where nothing is. It never shows the text."""
    try:
        ImageLogin.parse(text)
    except ValueError as wrong:
        return f"{wrong}; write it as '{FORM}' (its value is not shown)"
    return ""


def _word(text: str) -> str:
    """As one word. Not quoted without need: the market's examples are not, and it may not read quotes as a shell."""
    return shlex.quote(text) if re.search(r"[\s'\"\\]", text) else text


def _host(registry: str) -> str:
    host = registry.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return _HUB if host in _NAMES_OF_HUB else host
