"""The fleet file: the machines of the local market, the durations of their stages, and their faults.

::

    market:                       # all optional, with these defaults
      rate_limits: true           # the minimum intervals between calls
      rate_limit_form: json       # how 429 is answered: json (with Retry-After), detail or text
      credit_usd: 100             # what the account may spend
      search_rows_per_day: 20000
      offers_per_search: 64       # the largest number of offers in one answer
      list_v0: false              # true: the withdrawn list of instances answers, as for old accounts
      log_delay_s: 0.2            # the time until a requested log can be fetched
      image_gb: 0                 # the transfer that the pull of an image is billed for
      seed: 0                     # for random durations and generated machines
    this_machine: true            # rent out the machine that the market runs on; default: only if there is no other
    images:                       # entrypoints for the args run type, by pattern
      "ghcr.io/me/server*": python -m server
    hides: [~/work, /tmp]         # what no instance sees: it has empty directories of its own there
    faults: [slow_answer]         # of the API as a whole; see below
    generate: 10000               # adds this number of random machines
    machines:
      - gpu_name: RTX 4090        # any field of Machine: gpu_ram_mb, num_gpus, price_usd_h, reliability, geolocation …
        machine_id: 101           # optional, like host_id; the default is a free number from 100 on
        count: 3                  # the number of such machines, with consecutive ids
        stages:                   # seconds: a number, or {uniform: [1, 2]}, or {lognormal: [median, sigma]}
          provisioning_s: 0       # actual_status is null
          created_s: 0
          loading_s: {uniform: [1, 2]}
        faults:
          - oci_runtime_failed
          - {name: ssh_refused, for_s: 5}
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_vastgpu.local.faults.base import Fault
from pytest_vastgpu.local.faults.catalogue import make_fault
from pytest_vastgpu.local.fleet.generator import generate
from pytest_vastgpu.local.fleet.machine import Machine
from pytest_vastgpu.local.fleet.yaml_file import Value
from pytest_vastgpu.local.fleet.yaml_file import load
from pytest_vastgpu.local.fleet.yaml_file import read
from pytest_vastgpu.local.fleet.yaml_file import typed_fields
from pytest_vastgpu.local.short_repr import short_repr

BUILT_IN_IMAGES: Mapping[str, str] = {"vllm/vllm-openai*": "vllm serve"}
_FIRST_ID = 100
_MOST_MACHINES = 1_000_000
_LARGEST = 1e15
"""The largest number of a machine: JSON parsers round larger ones."""
_LIMITS: Mapping[str, tuple[int, int]] = {
    "machine_id": (1, 10**15),
    "host_id": (1, 10**15),
    "num_gpus": (0, 1000),
    "slots": (0, 1_000_000),
    "share": (0, 1),
}


@dataclass(frozen=True)
class Duration:
    """A duration in seconds, fixed or random."""

    kind: str = "fixed"
    """``fixed``, ``uniform`` (from, to) or ``lognormal`` (median, sigma)."""
    numbers: tuple[float, ...] = (0.0,)

    def draw(self, rng: random.Random) -> float:
        if self.kind == "uniform":
            return rng.uniform(*self.numbers)
        if self.kind == "lognormal":
            return rng.lognormvariate(math.log(self.numbers[0]), self.numbers[1])
        return self.numbers[0]


@dataclass(frozen=True)
class Stages:
    """The duration of each state before an instance runs."""

    provisioning_s: Duration = Duration()
    created_s: Duration = Duration()
    loading_s: Duration = Duration()


@dataclass(frozen=True)
class Host:
    """A machine, the durations of its stages, and its faults."""

    machine: Machine
    stages: Stages = Stages()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class MarketRules:
    """The settings of the market as a whole."""

    rate_limits: bool = True
    rate_limit_form: str = "json"
    credit_usd: float = 100.0
    search_rows_per_day: int = 20_000
    offers_per_search: int = 64
    list_v0: bool = False
    log_delay_s: float = 0.2
    image_gb: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Fleet:
    """The content of a fleet file."""

    rules: MarketRules = MarketRules()
    this_machine: bool = True
    images: Mapping[str, str] = field(default_factory=dict)
    hides: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    hosts: tuple[Host, ...] = ()


_KEYS = dict.fromkeys(("market", "this_machine", "images", "hides", "faults", "generate", "machines"))
_STAGES = {stage.name: None for stage in dataclasses.fields(Stages)}
_MACHINE_KEYS = {
    **{each.name: None for each in dataclasses.fields(Machine) if each.name != "simulated"},
    **dict.fromkeys(("count", "stages", "faults")),
}


def read_fleet(file: Path) -> Fleet:
    """Read a fleet file.

    :raises LocalMarketError: with file and line, if it is not valid.
    """
    return parse_fleet(read(file), file)


def parse_fleet(text: str, file: str | Path = "fleet") -> Fleet:
    """Parse the text of a fleet file. Pure.

    :param file: The name for error messages.
    :raises LocalMarketError: with file and line, if it is not valid.
    """
    document = load(text, file)
    if document is None:
        return Fleet()
    keys = document.fields(_KEYS)
    rules = _rules(keys["market"]) if "market" in keys else MarketRules()
    hosts: list[Host] = []
    for entry in keys["machines"].items() if "machines" in keys else ():
        hosts += _hosts(entry, _MOST_MACHINES - len(hosts))
    _number_the_rest(hosts)
    if "generate" in keys:
        wanted = _number_of_machines(keys["generate"])
        if len(hosts) + wanted > _MOST_MACHINES:
            raise keys["generate"].bad(f"makes it more than {_MOST_MACHINES} machines")
        first = max((host.machine.machine_id for host in hosts), default=_FIRST_ID - 1) + 1
        hosts += [Host(machine) for machine in generate(wanted, rules.seed, first)]
    seen: set[int] = set()
    for host in hosts:
        if host.machine.machine_id in seen:
            raise keys["machines"].bad(f"has machine_id {host.machine.machine_id} twice")
        seen.add(host.machine.machine_id)
    return Fleet(
        rules=rules,
        this_machine=keys["this_machine"].of_type(bool) if "this_machine" in keys else not hosts,
        images={name: each.of_type(str) for name, each in keys["images"].fields().items()} if "images" in keys else {},
        hides=tuple(_directory(entry) for entry in keys["hides"].items()) if "hides" in keys else (),
        faults=tuple(_fault(entry) for entry in keys["faults"].items()) if "faults" in keys else (),
        hosts=tuple(hosts),
    )


def _rules(value: Value) -> MarketRules:
    fields = value.fields({each.name: None for each in dataclasses.fields(MarketRules)})
    rules = MarketRules(**typed_fields(fields, MarketRules))
    if rules.rate_limit_form not in {"json", "detail", "text"}:
        raise fields["rate_limit_form"].bad(f"must be json, detail or text, not {rules.rate_limit_form!r}")
    for name, each in fields.items():
        number = getattr(rules, name)
        if not isinstance(number, str) and not number >= 0:
            raise each.bad(f"must not be negative, and is {number!r}")
    return rules


def _number_of_machines(value: Value) -> int:
    wanted = value.of_type(int)
    if not 0 <= wanted <= _MOST_MACHINES:
        raise value.bad(f"must be between 0 and {_MOST_MACHINES}, not {short_repr(wanted)}")
    return wanted


def _hosts(entry: Value, room: int) -> list[Host]:
    fields = entry.fields(_MACHINE_KEYS)
    given = {"machine_id": 0, "host_id": 0, **typed_fields(fields, Machine)}
    for name, each in fields.items():
        number = given.get(name)
        if isinstance(number, (int, float)) and not number >= 0:
            raise each.bad(f"must not be negative, and is {number!r}")
        if name in _LIMITS and not _LIMITS[name][0] <= given[name] <= _LIMITS[name][1]:
            raise each.bad(f"must be between {_LIMITS[name][0]} and {_LIMITS[name][1]}, not {short_repr(given[name])}")
        if isinstance(number, (int, float)) and not number <= _LARGEST:
            raise each.bad(f"must be at most {_LARGEST:.0e}, not {short_repr(number)}")
    machine = Machine(**given)
    if machine.verification not in {"verified", "unverified", "deverified"}:
        raise fields["verification"].bad(f"must be verified, unverified or deverified, not {machine.verification!r}")
    count = _number_of_machines(fields["count"]) if "count" in fields else 1
    if count > room:
        raise entry.bad(f"makes it more than {_MOST_MACHINES} machines")
    stages = _stages(fields["stages"]) if "stages" in fields else Stages()
    return [
        Host(
            replace(machine, machine_id=machine.machine_id + number if machine.machine_id else 0),
            stages,
            # Not shared: a fault counts the calls to its own machine.
            tuple(_fault(each) for each in fields["faults"].items()) if "faults" in fields else (),
        )
        for number in range(count)
    ]


def _number_the_rest(hosts: list[Host]) -> None:
    """Give ids to the machines and hosts that have none."""
    taken = {host.machine.machine_id for host in hosts}
    free = (number for number in range(_FIRST_ID, _FIRST_ID + 2 * len(hosts) + 1) if number not in taken)
    for index, host in enumerate(hosts):
        machine_id = host.machine.machine_id or next(free)
        machine = replace(host.machine, machine_id=machine_id, host_id=host.machine.host_id or machine_id)
        hosts[index] = replace(host, machine=machine)


def _stages(value: Value) -> Stages:
    return Stages(**{name: _duration(each) for name, each in value.fields(_STAGES).items()})


def _duration(value: Value) -> Duration:
    if not value.is_mapping():
        duration = Duration("fixed", (value.of_type(float),))
    else:
        fields = value.fields({"uniform": None, "lognormal": None})
        if len(fields) != 1:
            raise value.bad("must be a number, {uniform: [from, to]} or {lognormal: [median, sigma]}")
        kind, numbers = next(iter(fields.items()))
        duration = Duration(kind, tuple(number.of_type(float) for number in numbers.items()))
        if len(duration.numbers) != 2:
            raise numbers.bad("must have two numbers")
    if min(duration.numbers) < 0 or (duration.kind == "lognormal" and duration.numbers[0] == 0):
        raise value.bad("must not be negative, and the median not 0")
    return duration


def _directory(entry: Value) -> str:
    given = entry.of_type(str)
    path = Path(given).expanduser()
    if not path.is_absolute() or path.resolve() == Path("/"):
        raise entry.bad(f"must be the whole path of a directory other than /, not {short_repr(given)}")
    return str(path)


def _fault(entry: Value) -> Fault:
    if not entry.is_mapping():
        name = entry.of_type(str)
        return entry.checked(lambda: make_fault(name, {}))
    fields = entry.fields()
    if "name" not in fields:
        raise entry.bad("needs a name: {name: ssh_refused, for_s: 5}")
    given = {key: each.plain() for key, each in fields.items() if key != "name"}
    name = fields["name"].of_type(str)
    return entry.checked(lambda: make_fault(name, given))
