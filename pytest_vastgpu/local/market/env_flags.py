"""Parses the ``env`` of a create request: variables, ports, a host name. Pure."""

from __future__ import annotations

import re
import shlex

from pytest_vastgpu.local.container.network.ports import FIRST_IDENTITY_PORT
from pytest_vastgpu.local.container.network.ports import Port
from pytest_vastgpu.local.market.errors import invalid

Pairs = tuple[tuple[str, str], ...]
"""The entries of the ``env`` object, in its order. Some of the names are flags of Docker."""

_LAST_PORT = 65_535
_MOST_PORTS = 64
_MOST_BYTES = 32 * 1024
_PORT = re.compile(r"(?:-p|--publish)[\s=]+(?:[\d.]+:)?(?:\d+:)?(\d{1,5})(?:/(tcp|udp))?")
_FLAG = re.compile(r"-\w|--\w")
_NAME = re.compile(r"[A-Za-z_]\w*")
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


def pairs(env: object) -> Pairs:
    """Parse ``env``: the documented object, or one text with flags of Docker.

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
    """Split a command line into words.

    :raises ApiError: if a quote is not closed.
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


def variables(requested: Pairs) -> dict[str, str]:
    """Select the environment variables."""
    return {name: value for name, value in requested if _NAME.fullmatch(name)}


def ports(requested: Pairs) -> tuple[Port, ...]:
    """Select the ports to publish.

    :raises ApiError: if one is not a port, or there are too many.
    """
    found: dict[Port, None] = {}
    for name, _ in requested:
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


def host_name(requested: Pairs) -> str:
    """Select the host name; empty if the request has none.

    :raises ApiError: if it is not a valid host name.
    """
    name = next((value for flag, value in requested if flag in {"-h", "--hostname"}), "")
    if name and not _HOST_NAME.fullmatch(name):
        raise invalid(f"'env': {name!r} is not a host name")
    return name
