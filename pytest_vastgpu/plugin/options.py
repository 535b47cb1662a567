"""Options: command line over environment over ini over default, and which of them won.

Every option ``--vast-x-y`` is also the ini key ``vast_x_y`` and the environment variable ``VAST_X_Y``. Secrets
(``VAST_API_KEY``, ``VAST_SSH_KEY_PATH``) come from the environment only.

Every run pays for what is in here, whether it rents or not: defaults are values, so that the parsers are loaded only
where something is given, and the classes are plain ones, since named tuples and dataclasses are made by compiling code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from typing import Any
    from typing import NoReturn

    import pytest

DEFAULT_URL = "https://console.vast.ai"
"""Where Vast.ai's API lives, unless ``VAST_URL`` (the vendor's own variable) says otherwise."""
KEEP_S = 1800.0
"""How long an instance is kept where nothing else is said."""


class Option:
    """One row of the options table.

    :param name: As in ``--vast-<name>``.
    :param default: What an absent option means.
    :param unit: Of a number.
    """

    def __init__(self, name: str, default: Any, metavar: str, help: str, unit: str = "") -> None:  # noqa: A002 - argparse's word
        self.name = name
        self.default = default
        self.metavar = metavar
        self.help = help
        self.unit = unit
        self.flag = "--vast-" + name
        """The command line option."""
        self.field = name.replace("-", "_")
        """The attribute of :class:`Settings`."""
        self.ini = "vast_" + self.field
        """The ini key."""
        self.variable = self.ini.upper()
        """The environment variable."""

    def show(self, value: Any) -> str:
        """A value as people write it."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value:g} {self.unit}"
        if isinstance(value, frozenset):
            return ",".join(sorted(value)) or "none"
        return str(value) or "in the user's cache"  # only the path of the host cache may be empty


class Keep:
    """Which instances stay for a look inside when nobody needs them any more, and for how long.

    :param when: ``no``, ``failed`` (its bring-up or a test that used it failed) or ``always``.
    :param seconds: How long one stays.
    """

    when: str
    seconds: float

    def __init__(self, when: str, seconds: float = KEEP_S) -> None:
        self.when = when
        self.seconds = seconds

    def __str__(self) -> str:
        return self.when if self.when == "no" else f"{self.when}:{self.seconds:g}s"


class Settings:
    """What a run was told to do. Made once, before anything is rented; the same in every worker."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings never change: {name}")

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
    """Where each value came from, by attribute."""

    @property
    def longest_life(self) -> float:
        """Seconds after which no instance is left, not even one that was kept."""
        return self.max_lifetime + (0.0 if self.keep.when == "no" else self.keep.seconds)

    def header(self) -> list[str]:
        """The lines for pytest's header: every value with its source, no secret."""
        lines = [f"vastgpu: {self.backend_reason} (backend: {self.sources['backend']})"]
        by_source: dict[str, list[str]] = {}
        for option in OPTIONS:
            if option.name != "backend":
                text = option.show(getattr(self, option.field))
                by_source.setdefault(self.sources[option.field], []).append(f"{option.name} {text}")
        for source, given in by_source.items():
            lines.append(f"vastgpu: {', '.join(given)} ({source})")
        return lines


OPTIONS = (
    Option(
        "strictness",
        "balanced",
        "LEVEL",
        "Which offers are admitted and how they are ranked: strict, balanced or aggressive",
    ),
    Option(
        "backend",
        "auto",
        "NAME",
        "Where instances come from: vast (Vast.ai), local (this machine) or auto (vast where VAST_API_KEY is set)",
    ),
    Option(
        "max-price",
        1.0,
        "USD",
        "Most an instance may cost an hour, with its disk and the transfer of image and model",
        "USD/h",
    ),
    Option(
        "budget", 5.0, "USD", "Most the whole run may cost at worst; renting stops before it could be passed", "USD"
    ),
    Option("attempts", 5, "N", "How many offers a workload is tried on"),
    Option(
        "boot-timeout",
        900.0,
        "SECONDS",
        "Infrastructure budget: time from create until the host is checked; the warm-up has its own",
        "s",
    ),
    Option("max-lifetime", 7200.0, "SECONDS", "Hard end of life of an instance", "s"),
    Option(
        "lease",
        300.0,
        "SECONDS",
        "How long an instance outlives its owner, at most: it destroys itself when it has not heard from it that long",
        "s",
    ),
    Option(
        "keep",
        Keep("no"),
        "WHICH",
        "Leave instances for a look inside: no, failed or always, with a duration such as failed:2h (default: no; 30m)"
        "; an interrupted run keeps none",
    ),
    Option(
        "max-instances",
        None,
        "N",
        "How many instances may be alive at once; busy workloads share what is spare (default: one for each workload)",
    ),
    Option(
        "on-infra-failure",
        "error",
        "WHAT",
        "What becomes of a test whose machines all failed by their own fault: error or skip",
    ),
    Option("host-cache", "", "PATH", "File that remembers how each machine did (default: in the user's cache)"),
    Option(
        "exclude-countries",
        frozenset(("CN", "IR", "KP", "RU", "SY")),
        "CODES",
        "Countries whose hosts are not rented, two-letter codes with commas between, or none",
    ),
    Option("expose", False, "", "Use the instance's public port instead of a tunnel through SSH"),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini key. Defaults stay None, so that "not given" can be told."""
    group = parser.getgroup("vastgpu", "GPU workloads on rented Vast.ai hosts")
    for option in OPTIONS:
        text = option.help if "default" in option.help else f"{option.help} (default: {option.show(option.default)})"
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
    :raises pytest.UsageError: one line that names the source, the value and what is expected.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        if (text := given(option.ini)) is not None:
            source, name = "command line", option.flag
        elif text := environ.get(option.variable):
            source = name = option.variable
        elif (text := ini(option.ini)) is not None:
            source, name = "ini", option.ini
        else:
            values[option.field], sources[option.field] = option.default, "default"
            continue
        from pytest_vastgpu.plugin.option_values import parse

        values[option.field], sources[option.field] = parse(option.name, text, name), source
    reason, url = _market(values, sources, environ)
    return Settings(**values, backend_reason=reason, url=url, sources=sources)


def _market(values: dict[str, Any], sources: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Decide the backend; why, in words, and the market's base URL."""
    asked = values["backend"]
    key = environ.get("VAST_API_KEY")
    if asked == "local" or (asked == "auto" and not key):
        values["backend"] = "local"
        why = "" if asked == "local" else ", since VAST_API_KEY is not set"
        return f"renting this machine from the local market (play money){why}", ""
    if not key:
        import pytest

        raise pytest.UsageError(
            f"{sources['backend']} asks for backend vast, but VAST_API_KEY is not set: set it to your Vast.ai API key, "
            "or use --vast-backend=local to rent this machine from the local market"
        )
    values["backend"] = "vast"
    url = (environ.get("VAST_URL") or DEFAULT_URL).rstrip("/")
    place = "Vast.ai" if url == DEFAULT_URL else f"the market at {url} (VAST_URL)"
    return f"renting from {place}" + ("" if asked == "vast" else ", since VAST_API_KEY is set"), url
