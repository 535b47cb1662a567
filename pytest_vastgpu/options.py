"""Options: command line over environment over ini over default, and which of them won.

Every option ``--vast-x-y`` is also the ini key ``vast_x_y`` and the environment variable ``VAST_X_Y``. Secrets
(``VAST_API_KEY``, ``VAST_SSH_KEY_PATH``) come from the environment only.

Every run pays for what is in here, whether it rents or not: plain classes, since named tuples and dataclasses are made
by compiling code, and nothing imported but the parsers.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

from pytest_vastgpu.values import Keep
from pytest_vastgpu.values import count
from pytest_vastgpu.values import count_or_none
from pytest_vastgpu.values import countries
from pytest_vastgpu.values import keep
from pytest_vastgpu.values import number
from pytest_vastgpu.values import one_of
from pytest_vastgpu.values import switch

if TYPE_CHECKING:
    import pytest

DEFAULT_URL = "https://console.vast.ai"
"""Where Vast.ai's API lives, unless ``VAST_URL`` (the vendor's own variable) says otherwise."""


class Option:
    """One row of the options table.

    :param name: As in ``--vast-<name>``.
    :param default: What an absent option means, as it would be typed.
    :param parse: Turns the typed text into a value; raises ValueError with what was expected.
    """

    def __init__(self, name: str, default: str, metavar: str, help: str, parse: Callable[[str], Any]) -> None:  # noqa: A002 - argparse's word
        self.name = name
        self.default = default
        self.metavar = metavar
        self.help = help
        self.parse = parse
        self.flag = f"--vast-{name}"
        """The command line option."""
        self.ini = f"vast_{name}".replace("-", "_")
        """The ini key."""
        self.variable = self.ini.upper()
        """The environment variable."""


class Settings:
    """What a run was told to do. Made once, before anything is rented, never changed; the same in every worker."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    strictness: str
    """``strict``, ``balanced`` or ``aggressive``."""
    backend: str
    """``vast`` or ``local``; ``auto`` has been decided."""
    backend_reason: str
    """Why this backend, in words."""
    max_price: float
    """USD/h, with the disk and the transfer."""
    budget: float
    """USD that the whole run may cost at worst."""
    attempts: int
    """How many offers a workload is tried on."""
    boot_timeout: float
    """Infrastructure budget in seconds: from create to checked."""
    max_lifetime: float
    """Seconds after which an instance is destroyed whatever happens."""
    lease: float
    """Seconds that an instance outlives its owner, at most."""
    keep: Keep
    """Which instances stay for a look inside."""
    max_instances: int | None
    """How many instances may be alive at once; None: one for each distinct workload."""
    on_infra_failure: str
    """``error`` or ``skip``: what becomes of a test whose machines all failed by their own fault."""
    host_cache: str
    """Path of the host cache; empty: the user's cache directory."""
    exclude_countries: frozenset[str]
    """Two-letter codes of countries whose hosts are not rented."""
    expose: bool
    """Publish the server's port to the world instead of tunnelling to it."""
    url: str
    """Base URL of the market; empty for the embedded local market."""
    sources: Mapping[str, str]
    """Where each value came from, by option name."""

    @property
    def longest_life(self) -> float:
        """Seconds after which no instance is left, not even one that was kept."""
        return self.max_lifetime + (0.0 if self.keep.when == "no" else self.keep.seconds)

    def header(self) -> list[str]:
        """The lines for pytest's header: every value with its source, no secret."""
        shown = {
            "strictness": self.strictness,
            "max-price": f"{self.max_price:g} USD/h",
            "budget": f"{self.budget:g} USD",
            "attempts": str(self.attempts),
            "boot-timeout": f"{self.boot_timeout:g} s",
            "max-lifetime": f"{self.max_lifetime:g} s",
            "lease": f"{self.lease:g} s",
            "keep": str(self.keep),
            "max-instances": str(self.max_instances or "none"),
            "on-infra-failure": self.on_infra_failure,
            "exclude-countries": ",".join(sorted(self.exclude_countries)) or "none",
            "expose": "yes" if self.expose else "no",
            "host-cache": self.host_cache or "user's cache directory",
        }
        by_source: dict[str, list[str]] = {}
        for name, text in shown.items():
            by_source.setdefault(self.sources[name], []).append(f"{name} {text}")
        return [
            f"vastgpu: {self.backend_reason} (backend: {self.sources['backend']})",
            *(f"vastgpu: {', '.join(given)} ({source})" for source, given in by_source.items()),
        ]


OPTIONS = (
    Option(
        "strictness",
        "balanced",
        "LEVEL",
        "Which offers are admitted and how they are ranked: strict, balanced or aggressive",
        one_of("strict", "balanced", "aggressive"),
    ),
    Option(
        "backend",
        "auto",
        "NAME",
        "Where instances come from: vast (Vast.ai), local (this machine) or auto (vast where VAST_API_KEY is set)",
        one_of("auto", "vast", "local"),
    ),
    Option(
        "max-price",
        "1.00",
        "USD",
        "Most an instance may cost an hour, with its disk and the transfer of image and model",
        number("USD/h", least=0, inclusive=False),
    ),
    Option(
        "budget",
        "5",
        "USD",
        "Most the whole run may cost at worst; renting stops before it could be passed",
        number("USD", least=0, inclusive=False),
    ),
    Option("attempts", "5", "N", "How many offers a workload is tried on", count),
    Option(
        "boot-timeout",
        "900",
        "SECONDS",
        "Infrastructure budget: time from create until the host is checked; the warm-up has its own",
        number("seconds", least=0, inclusive=False),
    ),
    Option(
        "max-lifetime",
        "7200",
        "SECONDS",
        "Hard end of life of an instance",
        number("seconds", least=0, inclusive=False),
    ),
    Option(
        "lease",
        "300",
        "SECONDS",
        "How long an instance outlives its owner, at most: it destroys itself when it has not heard from it that long",
        number("seconds", least=5),
    ),
    Option(
        "keep",
        "no",
        "WHICH",
        "Leave instances for a look inside: no, failed or always, with a duration such as failed:2h (default: no; 30m)"
        "; an interrupted run keeps none",
        keep,
    ),
    Option(
        "max-instances",
        "none",
        "N",
        "How many instances may be alive at once; busy workloads share what is spare (default: one for each workload)",
        count_or_none,
    ),
    Option(
        "on-infra-failure",
        "error",
        "WHAT",
        "What becomes of a test whose machines all failed by their own fault: error or skip",
        one_of("error", "skip"),
    ),
    Option("host-cache", "", "PATH", "File that remembers how each machine did (default: in the user's cache)", str),
    Option(
        "exclude-countries",
        "CN,IR,KP,RU,SY",
        "CODES",
        "Countries whose hosts are not rented, two-letter codes with commas between, or none",
        countries,
    ),
    Option("expose", "no", "", "Use the instance's public port instead of a tunnel through SSH", switch),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini key. Defaults stay None, so that "not given" can be told."""
    group = parser.getgroup("vastgpu", "GPU workloads on rented Vast.ai hosts")
    for option in OPTIONS:
        text = option.help if "default" in option.help else f"{option.help} (default: {option.default})"
        if option.metavar:
            group.addoption(option.flag, dest=option.ini, metavar=option.metavar, default=None, help=text)
        else:
            group.addoption(option.flag, dest=option.ini, action="store_const", const="yes", default=None, help=text)
        parser.addini(option.ini, text, default=None)


def resolve(
    given: Callable[[str], str | None], ini: Callable[[str], str | None], environ: Mapping[str, str]
) -> Settings:
    """Decide every value once.

    :param given: What the command line says for an ini-style name, or None.
    :param ini: What the ini file says for it, or None.
    :param environ: The environment; an empty variable counts as not set.
    :raises pytest_vastgpu.errors.ConfigurationError: one line that names the source, the value and what is expected.
    """
    values = {}
    sources = {}
    for option in OPTIONS:
        values[option.name], sources[option.name] = _value(option, given, ini, environ)
    backend, reason, url = _backend(values["backend"], sources["backend"], environ)
    return Settings(
        strictness=values["strictness"],
        backend=backend,
        backend_reason=reason,
        max_price=values["max-price"],
        budget=values["budget"],
        attempts=values["attempts"],
        boot_timeout=values["boot-timeout"],
        max_lifetime=values["max-lifetime"],
        lease=values["lease"],
        keep=values["keep"],
        max_instances=values["max-instances"],
        on_infra_failure=values["on-infra-failure"],
        host_cache=values["host-cache"],
        exclude_countries=values["exclude-countries"],
        expose=values["expose"],
        url=url,
        sources=sources,
    )


def _value(
    option: Option, given: Callable[[str], str | None], ini: Callable[[str], str | None], environ: Mapping[str, str]
) -> tuple[Any, str]:
    """The value, and where it came from: ``command line``, ``VAST_…``, ``ini`` or ``default``."""
    if (text := given(option.ini)) is not None:
        source, name = "command line", option.flag
    elif text := environ.get(option.variable):
        source = name = option.variable
    elif (text := ini(option.ini)) is not None:
        source, name = "ini", option.ini
    else:
        text, source, name = option.default, "default", option.flag
    try:
        return option.parse(str(text).strip()), source
    except ValueError as wrong:
        from pytest_vastgpu.errors import ConfigurationError

        raise ConfigurationError(f"{name}: {text!r} is not {wrong}") from None


def _backend(asked: str, source: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """(backend, why in words, base URL)."""
    key = bool(environ.get("VAST_API_KEY"))
    url = (environ.get("VAST_URL") or DEFAULT_URL).rstrip("/")
    place = "Vast.ai" if url == DEFAULT_URL else f"the market at {url} (VAST_URL)"
    if asked == "vast" and not key:
        from pytest_vastgpu.errors import ConfigurationError

        raise ConfigurationError(
            f"{source} asks for backend vast, but VAST_API_KEY is not set: set it to your Vast.ai API key, "
            "or use --vast-backend=local to rent this machine from the local market"
        )
    if asked == "vast" or (asked == "auto" and key):
        return "vast", f"renting from {place}" + ("" if asked == "vast" else ", since VAST_API_KEY is set"), url
    why = "" if asked == "local" else ", since VAST_API_KEY is not set"
    return "local", f"renting this machine from the local market (play money){why}", ""
