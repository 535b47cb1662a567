"""The options in pytest: command line over environment over ini over default, with the source of each value.

:mod:`pytest_vastgpu.settings` declares the options. Every ``--vast-x-y`` is also the ini key
``vast_x_y`` and the environment variable ``VAST_X_Y``. Secrets (``VAST_API_KEY``, ``VAST_SSH_KEY_PATH``) come only from
the environment.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.environment import IMAGE_LOGIN
from pytest_vastgpu.core.environment import URL
from pytest_vastgpu.core.environment import api_key
from pytest_vastgpu.core.environment import image_login
from pytest_vastgpu.core.environment import market_url
from pytest_vastgpu.core.environment import missing_key
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from pytest_vastgpu.settings import HostSettings
from pytest_vastgpu.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import Any

    from pytest_vastgpu.core.timeouts import Timeouts
    from pytest_vastgpu.settings import Option

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
"""The session's settings."""
TIMEOUTS: pytest.StashKey[Timeouts] = pytest.StashKey()
"""The session's time limits, where they are not the defaults."""
HOSTS = "vastgpu-hosts"
"""The plugin object of a run that names hosts."""
NESTED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether this run was started by a test of another run, which has what CI shows to itself."""
TIMER: pytest.StashKey[object] = pytest.StashKey()
"""The settings of the timer that pytest-timeout has set for a test."""
OWNING = frozenset({"vast_instance_factory", "vast_compare"})
"""The fixtures that ask for instances of a test's own."""
ASKING = frozenset({"vast_instance", "vast_module_instance", "vast_session_instance", *OWNING})
"""The fixtures that ask for instances."""
MEASURES = "vast_benchmark"
"""The fixture that has the shared instance of its test alone."""


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini key. Defaults stay None, so that an option that was not given is recognised."""
    group = _add(parser, "vastgpu", "GPU workloads on rented Vast.ai hosts", OPTIONS)
    _add(parser, "vastgpu-hosts", "tests on rented Vast.ai hosts, in pytest-xdist's workers there", HOST_OPTIONS)
    group.addoption(
        "--vast-plan",
        action="store_true",
        help="Collect tests, say what would be rented for them, in which order and for how much; rent and run nothing",
    )
    group.addoption(
        "--vast-plan-json", metavar="FILE", help="The same, as a JSON document in this file; it may be /dev/stderr"
    )


def _add(parser: pytest.Parser, name: str, title: str, options: Sequence[Option]) -> pytest.OptionGroup:
    group = parser.getgroup(name, title)
    for option in options:
        text = option.help if "default" in option.help else f"{option.help} (default: {option.show(option.default)})"
        if option.alone:
            alone: dict[str, Any] = {"nargs": "?", "const": option.alone}  # with_values() keeps a path away from it
            group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=text, **alone)
        elif option.many:
            group.addoption(
                option.flag, dest=option.ini, action="append", metavar=option.metavar, default=None, help=text
            )
        elif option.metavar:
            group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=text)
        else:
            group.addoption(option.flag, dest=option.ini, action="store_const", const="yes", default=None, help=text)
        parser.addini(option.ini, text, default=None)
    return group


def with_values(args: Sequence[str]) -> list[str]:
    """The command line, where an option that may stand alone has its value by ``=``.

    Otherwise the path after it would be taken for its value.
    """
    alone = {option.flag: option for option in OPTIONS if option.alone}
    found: list[str] = []
    for arg, after in zip_longest(args, args[1:], fillvalue=""):
        if (option := alone.get(arg)) is not None:
            try:
                option.parse(after)
            except ValueError:
                arg = f"{arg}={option.alone}"
        found.append(arg)
    return found


def resolve(
    given: Callable[[str], str | None], ini: Callable[[str], str | None], environ: Mapping[str, str]
) -> Settings:
    """Decide every value once.

    :param given: The value on the command line for an ini-style name, or None.
    :param ini: The value in the ini file for that name, or None.
    :param environ: The environment; an empty variable counts as not set.
    :raises pytest.UsageError: one line that names the source, the value and what is expected.
    """
    values, sources = _decide(OPTIONS, given, ini, environ)
    if login := image_login(environ):
        from pytest_vastgpu.core.image_login import wrong_login

        if wrong_one := wrong_login(login):
            raise pytest.UsageError(f"{IMAGE_LOGIN}: {wrong_one}")
    _keep_or_reuse(values, sources)
    reason, url = _market(values, sources, environ)
    return Settings(**values, backend_reason=reason, url=url, sources=sources)


def resolve_hosts(
    given: Callable[[str], Any], ini: Callable[[str], str | None], environ: Mapping[str, str]
) -> HostSettings:
    """Decide the values of tests on hosts; as :func:`resolve`."""
    values, sources = _decide(HOST_OPTIONS, given, ini, environ)
    return HostSettings(**values, sources=sources)


def hosts_asked(given: Callable[[str], Any], ini: Callable[[str], str | None], environ: Mapping[str, str]) -> int:
    """How many hosts the tests shall run on; as :func:`resolve_hosts`, and no other option is looked at."""
    [option] = (option for option in HOST_OPTIONS if option.field == "hosts")
    values, _ = _decide([option], given, ini, environ)
    return int(values["hosts"])


def _decide(
    options: Sequence[Option], given: Callable[[str], Any], ini: Callable[[str], str | None], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The value of each option, and the source of each.

    :raises pytest.UsageError: see :func:`resolve`.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in options:
        if (text := given(option.ini)) is not None:
            source, name = "command line", option.flag
            text = "\n".join(text) if option.many else text
        elif option.at_a_desk and environ.get("CI"):
            given_elsewhere = environ.get(option.variable) or ini(option.ini) is not None
            values[option.field] = option.default
            sources[option.field] = "CI is set" if given_elsewhere else "default"
            continue
        elif text := environ.get(option.variable):
            source = name = option.variable
        elif (text := ini(option.ini)) is not None:
            source, name = "ini", option.ini
        else:
            values[option.field], sources[option.field] = option.default, "default"
            continue
        try:
            values[option.field], sources[option.field] = option.parse(str(text).strip()), source
        except ValueError as wrong:
            raise pytest.UsageError(f"{name}: {text!r} is not {wrong}") from None
    return values, sources


def _keep_or_reuse(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Decide between two options that exclude each other: the one that is nearer to the command line wins.

    :raises pytest.UsageError: if both stand at the same place.
    """
    if not values["reuse"] or values["keep"].when == "no":
        return
    order = ("command line", "VAST_", "ini")
    ranks = {
        field: next(rank for rank, source in enumerate(order) if sources[field].startswith(source))
        for field in ("reuse", "keep")
    }
    if ranks["reuse"] == ranks["keep"]:
        raise pytest.UsageError(
            f"--vast-reuse and --vast-keep ({sources['keep']}) exclude each other: leave out one of them, or say "
            "--vast-reuse=no; what is warm can be looked at with `vastgpu ssh`"
        )
    loses = max(ranks, key=lambda field: ranks[field])
    option = next(option for option in OPTIONS if option.field == loses)
    values[loses], sources[loses] = option.default, "default"


def _market(values: dict[str, Any], sources: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Decide the backend; returns it with the reason, in words, and the market's base URL."""
    asked = values["backend"]
    key = api_key(environ)
    if asked == "local" or (asked == "auto" and not key):
        values["backend"] = "local"
        why = sources["backend"] if asked == "local" else _missing_key(environ)
        return f"renting this machine from the local market, play money ({why})", ""
    if not key:
        raise pytest.UsageError(
            f"{sources['backend']} asks for backend vast, but {_missing_key(environ)}: set it to your Vast.ai API key, "
            "or use --vast-backend=local to rent this machine from the local market"
        )
    values["backend"] = "vast"
    url = (market_url(environ) or DEFAULT_URL).rstrip("/")
    why = sources["backend"] if asked == "vast" else API_KEY
    whose = f"Vast.ai ({why})" if url == DEFAULT_URL else f"the market at {url} ({URL}, {why})"
    return f"renting from {whose}", url


def _missing_key(environ: Mapping[str, str]) -> str:
    """Why there is no key, in words, with what is odd about that."""
    why = missing_key(environ)
    if API_KEY in environ:
        why += ", perhaps a secret that this job is not given"
    if url := market_url(environ):
        why += f"; VAST_URL={url} is not used without it"
    return why
