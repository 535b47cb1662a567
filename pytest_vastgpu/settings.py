"""The settings of a run: every option ``--vast-*``, declared once, and its value.

Every run loads this module, whether it rents or not. So it does not import pytest, and its classes are plain ones,
because Python compiles code to create named tuples and dataclasses.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_vastgpu import option_values
from pytest_vastgpu.option_values import Keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Container
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import Any
    from typing import NoReturn

DEFAULT_URL = "https://console.vast.ai"
"""Base URL of Vast.ai's API, unless ``VAST_URL`` (the vendor's own variable) has another one."""


class Strictness(StrEnum):
    """The policy: which offers are admitted and how they are ranked."""

    STRICT = "strict"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


class Option:
    """One option; its name is that of the attribute of :class:`Settings` that declares it.

    :param parse: Converts a text to a value, or raises ValueError with the expected form.
    :param default: The value of an option that is not given.
    :param unit: The unit of a number.
    :param alone: Its value where it stands on the command line without one; empty: it needs one.
    :param at_a_desk: Whether it counts only on the command line where ``CI`` is set.
    :param many: Whether it may be given several times on the command line, and has a line for each in an ini file.
    """

    def __init__(
        self,
        parse: Callable[[str], Any],
        default: Any,
        metavar: str,
        help: str,  # noqa: A002 - argparse's name
        unit: str = "",
        *,
        alone: str = "",
        at_a_desk: bool = False,
        many: bool = False,
    ) -> None:
        self.alone = alone
        self.many = many
        self.at_a_desk = at_a_desk
        self.parse = parse
        self.default = default
        self.metavar = metavar
        self.help = help
        self.unit = unit

    def __set_name__(self, _owner: type, field: str) -> None:
        self.field = field
        """The attribute of :class:`Settings`."""
        self.name = field.replace("_", "-")
        """As in ``--vast-<name>``."""
        self.flag = "--vast-" + self.name
        """The command line option."""
        self.ini = "vast_" + field
        """The ini key."""
        self.variable = self.ini.upper()
        """The environment variable."""

    def show(self, value: Any) -> str:
        """A value as users write it."""
        if value is None:
            return "none"
        if self.name == "reuse":
            from pytest_vastgpu.core.text.durations import shown

            return shown(value) if value else "no"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value:g} {self.unit}".rstrip()
        if isinstance(value, (frozenset, tuple)):
            return ",".join(sorted(value)) or "none"
        if self.name == "setup" and value:
            return "…"  # the command may hold a secret
        return str(value) or ("in the user's cache" if self.name == "host-cache" else "none")


def _option(
    parse: Callable[[str], Any],
    default: Any,
    metavar: str,
    help: str,  # noqa: A002 - argparse's name
    unit: str = "",
    *,
    alone: str = "",
    at_a_desk: bool = False,
    many: bool = False,
) -> Any:
    """An :class:`Option`; type checkers see a value of the attribute's type."""
    return Option(parse, default, metavar, help, unit, alone=alone, at_a_desk=at_a_desk, many=many)


class Settings:
    """The settings of a run. Made once, before anything is rented; the same in every worker."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings never change: {name}")

    def but(self, **changes: Any) -> Settings:
        """The same settings with other values."""
        return Settings(**{**vars(self), **changes})

    strictness: str = _option(
        option_values.one_of(*Strictness),
        Strictness.BALANCED.value,
        "LEVEL",
        f"Which offers are admitted and how they are ranked: {', '.join(Strictness)}",
    )
    backend: str = _option(
        option_values.one_of("auto", "vast", "local"),
        "auto",
        "NAME",
        "Where instances come from: vast (Vast.ai), local (this machine) or auto (vast where VAST_API_KEY is set)",
    )
    """``vast`` or ``local``: ``auto`` is already replaced."""
    max_price: float = _option(
        option_values.number("USD/h", least=0, inclusive=False),
        1.0,
        "USD",
        "Most an instance may cost an hour, with its disk and the transfer of image and model",
        "USD/h",
    )
    budget: float = _option(
        option_values.number("USD", least=0, inclusive=False),
        5.0,
        "USD",
        "Most the whole run may cost at worst; renting stops before it could be passed",
        "USD",
    )
    attempts: int = _option(option_values.count, 5, "N", "How many offers a workload is tried on")
    boot_timeout: float = _option(
        option_values.number("seconds", least=0, inclusive=False),
        900.0,
        "SECONDS",
        "Infrastructure budget: time from create until the host is checked; the warm-up has its own",
        "s",
    )
    max_lifetime: float = _option(
        option_values.number("seconds", least=0, inclusive=False),
        7200.0,
        "SECONDS",
        "Hard end of life of an instance",
        "s",
    )
    lease: float = _option(
        option_values.number("seconds", least=5),
        300.0,
        "SECONDS",
        "How long an instance outlives its owner, at most: it destroys itself when it has not heard from it that long",
        "s",
    )
    keep: Keep = _option(
        option_values.keep,
        Keep("no"),
        "WHICH",
        "Leave instances for a look inside: no, failed or always, with a duration such as failed:2h (default: no; 30m)"
        "; an interrupted run keeps none",
    )
    reuse: float = _option(
        option_values.reuse,
        0.0,
        "DURATION",
        f"Keep instances warm for the next run, until none has used them for that long: no, or a duration such as 20m "
        f"(alone: {option_values.REUSE}; default: no); where CI is set only on the command line",
        "s",
        alone=option_values.REUSE,
        at_a_desk=True,
    )
    max_instances: int | None = _option(
        option_values.count_or_none,
        None,
        "N",
        "How many instances may be alive at once; busy workloads share what is spare (default: one for each workload)",
    )
    on_infra_failure: str = _option(
        option_values.one_of("error", "skip"),
        "error",
        "WHAT",
        "What becomes of a test whose machines all failed by their own fault: error or skip",
    )
    host_cache: str = _option(
        str, "", "PATH", "File that remembers how each machine did (default: in the user's cache)"
    )
    exclude_countries: frozenset[str] = _option(
        option_values.countries,
        frozenset(("CN", "IR", "KP", "RU", "SY")),
        "CODES",
        "Countries whose hosts are not rented, two-letter codes with commas between, or none",
    )
    expose: bool = _option(
        option_values.switch, False, "", "Use the instance's public port instead of a tunnel through SSH"
    )
    baseline: tuple[str, ...] = _option(
        option_values.baseline,
        (),
        "WHAT",
        "Keep what vast_benchmark measures, or compare it with what was kept: save or compare, with a name such as "
        "save:main; both: compare:main,save:main",
    )
    benchmark_strict: bool = _option(
        option_values.switch,
        False,
        "",
        "Fail a test whose comparison does not say whether there is a regression, instead of warning",
    )
    report: str = _option(
        option_values.path_or_none,
        "",
        "FILE",
        "Write a page on the run into this file, HTML: what failed, whose fault, what it cost",
    )

    backend_reason: str
    """What is rented from whom, and why there, in words."""
    url: str
    """Base URL of the market; empty for the embedded local market."""
    sources: Mapping[str, str]
    """The source of each value, by attribute."""

    @property
    def longest_life(self) -> float:
        """Seconds after which no instance is left, not even a kept one."""
        return self.max_lifetime + (0.0 if self.keep.when == "no" else self.keep.seconds)

    def header(self) -> str:
        """One line for a run that rents: what, from whom, for how much, and what differs from the defaults; no secret.

        Every value that is not the default has its source behind it.
        """
        first = (
            f"{self.backend_reason}, at most {self.budget:g} USD{self._source('budget')}, "
            f"{self.strictness}{self._source('strictness')}"
        )
        rest = [
            f"{option.name} {option.show(getattr(self, option.field))}{self._source(option.field)}"
            for option in OPTIONS
            if option.field not in _HEADLINE and self.sources[option.field] != "default"
        ]
        return "; ".join([first, *filter(None, [", ".join(rest)])])

    def every_value(self) -> list[str]:
        """Every value with its source, in a line for each source; no secret."""
        return _by_source(self, OPTIONS)

    def _source(self, field: str) -> str:
        """The source of a value, in brackets; nothing for a default."""
        return "" if self.sources[field] == "default" else f" ({self.sources[field]})"


def _by_source(settings: Settings | HostSettings, options: Sequence[Option]) -> list[str]:
    """Every value, in a line for each source."""
    found: dict[str, list[str]] = {}
    for option in options:
        text = f"{option.name} {option.show(getattr(settings, option.field))}"
        found.setdefault(settings.sources[option.field], []).append(text)
    return [f"{', '.join(given)} ({source})" for source, given in found.items()]


_HEADLINE = frozenset({"backend", "budget", "strictness"})
"""The values that the header always names."""
OPTIONS = tuple(option for option in vars(Settings).values() if isinstance(option, Option))
"""Every option, in the order of the table in docs/options.md."""


class HostSettings:
    """What tests that run on rented hosts need (``--vast-hosts``), and how they get there. Never changes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    hosts: int = _option(
        option_values.whole,
        0,
        "N",
        "Run the selected tests on this many rented hosts, in xdist's workers there (default: 0, here)",
    )
    workers_per_host: int | None = _option(
        option_values.count_or_none, None, "N", "Workers on each host (default: one for each GPU)"
    )
    gpu_name: str = _option(
        str, "", "NAME", "GPU kind of the hosts, such as 'RTX 4090' (default: any, all of one kind)"
    )
    gpus: int | None = _option(
        option_values.whole_or_none,
        None,
        "N",
        "GPUs of each host (default: 1; 0 if this machine is the host, has none, and none is asked for)",
    )
    gpu_ram: float = _option(
        option_values.number("GB", least=0), 0.0, "GB", "VRAM needed for each GPU (default: any)", "GB"
    )
    compute_cap: float = _option(
        option_values.version("a compute capability such as 8.9"),
        0.0,
        "X.Y",
        "Least CUDA compute capability (default: any)",
    )
    cuda: float = _option(
        option_values.version("a CUDA version such as 12.8"),
        0.0,
        "X.Y",
        "CUDA version that the hosts' drivers must support (default: any)",
    )
    disk: float = _option(option_values.number("GB", least=1), 40.0, "GB", "Disk to rent on each host", "GB")
    image: str = _option(str, "", "NAME", "Docker image of the hosts (default: PyTorch's)")
    setup: str = _option(
        str, "", "COMMAND", "Shell command that makes the tests' environment (default: found in the project's files)"
    )
    sync: tuple[str, ...] = _option(
        option_values.several, (), "PATTERN", "Files to bring although git ignores them (default: none)", many=True
    )
    pass_env: tuple[str, ...] = _option(
        option_values.several, (), "NAME", "Environment variables to hand to the tests (default: none)", many=True
    )
    fetch: tuple[str, ...] = _option(
        option_values.below_root,
        (),
        "PATTERN",
        "Files that the tests have written, to be brought home into vast-fetched/ (default: none)",
        many=True,
    )
    fetch_tmp: bool = _option(option_values.switch, False, "", "Bring home the tmp_path of each test that failed, too")

    sources: Mapping[str, str]
    """The source of each value, by attribute."""

    def given(self) -> list[str]:
        """What is not the default, with its source. The number of hosts and of workers is told elsewhere."""
        return [
            f"{option.name} {option.show(getattr(self, option.field))} ({self.sources[option.field]})"
            for option in HOST_OPTIONS
            if option.field not in _HOSTS_HEADLINE and self.sources[option.field] != "default"
        ]

    def unsaid(self, said: Container[str]) -> list[str]:
        """What nobody has said, in one line, for those who want to see every value. The GPUs are told elsewhere, too.

        :param said: The fields of the workload of which marks say something.
        """
        told = _HOSTS_HEADLINE | {"gpus"}
        options = [each for each in HOST_OPTIONS if each.field not in told and self.sources[each.field] == "default"]
        return _by_source(self, [each for each in options if HOST_FIELDS.get(each.field, "") not in said])

    def source(self, field: str) -> str:
        """The source of a value, in brackets after a blank; nothing for a default."""
        return "" if self.sources[field] == "default" else f" ({self.sources[field]})"


_HOSTS_HEADLINE = frozenset({"hosts", "workers_per_host"})
HOST_OPTIONS = tuple(option for option in vars(HostSettings).values() if isinstance(option, Option))
"""The options of tests on hosts."""
HOST_FIELDS = {
    "gpu_name": "gpu_name",
    "gpus": "gpus",
    "gpu_ram": "gpu_ram_gb",
    "compute_cap": "compute_cap",
    "cuda": "cuda",
    "disk": "disk_gb",
    "image": "image",
    "setup": "setup",
}
"""Those of them that say what is rented, and the fields of the workload and of the mark ``vast`` that say the same."""
