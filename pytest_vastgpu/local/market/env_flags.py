"""What the ``env`` of a create asks for: variables, ports, a host name. Pure."""

from __future__ import annotations

import re
import shlex

from pytest_vastgpu.local.api.errors import invalid

Pairs = tuple[tuple[str, str], ...]
"""The ``env`` object, in its order: Docker's flags are among the names."""
Port = tuple[int, str]
"""A container port and its protocol, ``tcp`` or ``udp``."""

FIRST_IDENTITY_PORT = 70_000
"""From here on, a number is no port but asks for one that is the same inside and outside."""
_LAST_PORT = 65_535
_MOST_PORTS = 64
_MOST_BYTES = 32 * 1024
_PORT = re.compile(r"(?:-p|--publish)[\s=]+(?:[\d.]+:)?(?:\d+:)?(\d{1,5})(?:/(tcp|udp))?")
_FLAG = re.compile(r"-\w|--\w")
_NAME = re.compile(r"[A-Za-z_]\w*")
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


def pairs(env: object) -> Pairs:
    """From the documented object, or from Docker's flags in one text.

    :raises ApiError: if it is neither, or too large.
    """
    if env is None:
        return ()
    if isinstance(env, str):
        return tuple(_of_flags(words("env", env)))
    if not isinstance(env, dict) or not all(isinstance(value, (str, int, float)) for value in env.values()):
        raise invalid("'env' must be an object of strings")
    found = tuple((str(name), str(value)) for name, value in env.items())
    if any("\0" in text for pair in found for text in pair):
        raise invalid("'env' must not hold a NUL")
    if sum(len(name.encode()) + len(value.encode()) for name, value in found) > _MOST_BYTES:
        raise invalid("'env' is too large")
    return found


def words(field: str, text: str) -> tuple[str, ...]:
    """The words of a command line.

    :raises ApiError: a quote is not closed.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise invalid(f"'{field}': {error}") from error


def _of_flags(flags: tuple[str, ...]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    each = iter(flags)
    for flag in each:
        value = next(each, "")
        if flag in {"-e", "--env"}:
            name, _, text = value.partition("=")
            found.append((name, text))
        elif flag in {"-p", "--publish"}:
            found.append((f"-p {value}", "1"))
        elif _FLAG.match(flag):
            found.append((flag, value))
    return found


def variables(asked: Pairs) -> dict[str, str]:
    """The environment variables."""
    return {name: value for name, value in asked if _NAME.fullmatch(name)}


def ports(asked: Pairs) -> tuple[Port, ...]:
    """The ports to publish.

    :raises ApiError: one is none, or there are too many.
    """
    found: dict[Port, None] = {}
    for name, _ in asked:
        if not name.startswith(("-p", "--publish")):
            continue
        port = _PORT.fullmatch(name.strip())
        number = int(port.group(1)) if port else 0
        if port is None or not (0 < number <= _LAST_PORT or number >= FIRST_IDENTITY_PORT):
            raise invalid(f"'env': {name!r} is not a port: -p 8000:8000")
        found[number, port.group(2) or "tcp"] = None
    if len(found) > _MOST_PORTS:
        raise invalid(f"'env': more than {_MOST_PORTS} ports")
    return tuple(found)


def host_name(asked: Pairs) -> str:
    """The host name; empty where none is asked for.

    :raises ApiError: it cannot be one.
    """
    name = next((value for flag, value in asked if flag in {"-h", "--hostname"}), "")
    if name and not _HOST_NAME.fullmatch(name):
        raise invalid(f"'env': {name!r} is not a host name")
    return name
