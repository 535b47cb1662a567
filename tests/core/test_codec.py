"""What travels: every declared class comes back as it was, and nothing else gets through."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.client.callbacks import Seen
from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Kept
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Summary
from pytest_vastgpu.client.calls import Supervisor
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.codec import hints
from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.log_delta import LogDelta
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.option_values import Keep
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.reporting.costs import InstanceCost
from pytest_vastgpu.reporting.costs import Shares
from pytest_vastgpu.reporting.costs import Use
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.settings import Settings
from tests.support.factories import make_offer

DECLARED = (
    Workload,
    Offer,
    Attempt,
    Verdict,
    Probe,
    ProbeResult,
    Launch,
    Lease,
    Kept,
    Use,
    InstanceCost,
    Supervisor,
    Timeouts,
    LogDelta,
    Seen,
    Event,
    Readiness,
    Keep,
    Settings,
    Collected,
    Summary,
    Opening,
)
_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(), max_size=8),  # lone surrogates included
    int: st.integers(-(2**70), 2**70),
    float: st.floats(allow_nan=False) | st.integers(-(10**6), 10**6).map(float),
    bool: st.booleans(),
    object: st.none() | st.integers() | st.text(max_size=3),
    type(None): st.none(),
    Decimal: st.decimals(allow_nan=False),
    Path: st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8).map(Path),
}


@functools.cache
def values_of(declared: Any) -> st.SearchStrategy[Any]:
    """Any value of a declared type; of a class all fields are given."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in _SIMPLE:
        return _SIMPLE[declared]
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, arguments))
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(values_of, arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(*map(values_of, arguments), max_size=2)
    if origin is not None:
        build = origin if origin in (tuple, frozenset) else list
        return st.lists(values_of(arguments[0]), max_size=2).map(build)
    if issubclass(declared, Enum):
        return st.sampled_from(list(declared))
    return st.builds(declared, **{name: values_of(kind) for name, kind in hints(declared).items()})


def travelled(declared: Any, value: Any) -> Any:
    """A value as the other process gets it."""
    return decode(declared, json.loads(json.dumps(encode(value), ensure_ascii=False)))


def plain(value: Any) -> Any:
    """A value in which classes that know no equality are told by their variables."""
    if isinstance(value, (Settings, Keep)):
        return {name: plain(each) for name, each in vars(value).items()}
    if dataclasses.is_dataclass(value):
        return type(value), {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


@pytest.mark.parametrize("declared", DECLARED, ids=str)
def test_every_declared_class_comes_back_as_it_was(declared: Any) -> None:
    @given(values_of(declared))
    @settings(max_examples=25)
    def comes_back(value: Any) -> None:
        back = travelled(declared, value)
        assert plain(back) == plain(value)
        assert type(back) is type(value)

    comes_back()


def test_settings_that_were_resolved_arrive_as_they_are() -> None:
    told = {"vast_budget": "7", "vast_keep": "failed:90s", "vast_max_instances": "3", "vast_expose": "yes"}
    given_ = resolve(told.get, lambda _: None, {"VAST_API_KEY": "k", "VAST_STRICTNESS": "strict"})
    arrived = travelled(Settings, given_)
    assert arrived.header() == given_.header()
    assert arrived.every_value() == given_.every_value()
    assert arrived.longest_life == given_.longest_life
    with pytest.raises(AttributeError, match="never change"):
        arrived.budget = 100.0


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_arrive(value: float) -> None:
    assert travelled(float, value) == value


def test_no_number_arrives_as_none() -> None:
    assert math.isnan(travelled(float, math.nan))


def test_money_arrives_to_the_last_digit() -> None:
    shares = Shares(Decimal("0.300000001"), {"t": Decimal("0.1")})
    assert travelled(Shares, shares).overhead == Decimal("0.200000001")


def test_a_whole_number_does_where_a_fraction_may_be() -> None:
    found = travelled(Workload, Workload("a", gpu_ram_gb=20))
    assert type(found.gpu_ram_gb) is float
    assert found.gpu_ram_gb == 20


def test_equal_workloads_are_equal_on_the_other_side() -> None:
    workload = Workload("a", args=("x",), env=(("A", "b"),), files=(("f", "/f"),))
    assert len({workload, travelled(Workload, workload)}) == 1


def change(record: Any, **changes: Any) -> dict[str, Any]:
    return {**record, **changes}


def without(record: Any, name: str) -> dict[str, Any]:
    return {key: each for key, each in record.items() if key != name}


WORKLOAD = encode(Workload("command", env=(("A", "b"),)))
OFFER = encode(make_offer())
LEASE = encode(Lease("l", 5, make_offer(), "http://x", {"A": "b"}))


@pytest.mark.parametrize(
    ("declared", "data", "named"),
    [
        (Workload, change(WORKLOAD, gpus="1"), "Workload.gpus: '1' is not int"),
        (Workload, change(WORKLOAD, gpus=1.0), "Workload.gpus: 1.0 is not int"),
        (Workload, change(WORKLOAD, gpus=True), "Workload.gpus: True is not int"),
        (Workload, change(WORKLOAD, model=None), "Workload.model: None is not str"),
        (Workload, change(WORKLOAD, disk_gb="16"), "Workload.disk_gb: '16' is not float"),
        (Workload, change(WORKLOAD, disk_gb=10**400), "Workload.disk_gb: "),
        (Workload, change(WORKLOAD, args="abc"), "Workload.args: 'abc' is not list"),
        (Workload, change(WORKLOAD, args=[["deeper"]]), r"Workload.args: \['deeper'\] is not str"),
        (Workload, change(WORKLOAD, env=[["A", "b", "c"]]), "Workload.env: .* has not 2 parts"),
        (Workload, change(WORKLOAD, env=[["A", 1]]), "Workload.env: 1 is not str"),
        (Workload, without(WORKLOAD, "port"), "Workload.port is missing"),
        (Workload, [WORKLOAD], "is not Workload"),
        (Workload, OFFER, "is not Workload"),
        (Workload, None, "None is not Workload"),
        (Lease, change(LEASE, offer=change(OFFER, id="x")), "Lease.offer: Offer.id: 'x' is not int"),
        (Lease, change(LEASE, offer=without(OFFER, "id")), "Lease.offer: Offer.id is missing"),
        (Lease, change(LEASE, headers={"A": "b"}), "Lease.headers: "),
        (Lease, change(LEASE, headers=[["A"]]), "Lease.headers: "),
        (Lease, change(LEASE, headers=["AB"]), "Lease.headers: 'AB' is not list"),
        (Lease, change(LEASE, headers=[7]), "Lease.headers: "),
        (Shares, change(encode(Shares(Decimal(1))), cost="much"), "Shares.cost: 'much' is not Decimal"),
        (Event, change(encode(Event("", None, "")), state="asleep"), "Event.state: 'asleep' is not State or NoneType"),
        (Readiness, WORKLOAD, "is not Ready or Warming or Failed"),
        (
            Readiness,
            change(encode(Warming(Progress("x"))), progress={}),
            "Warming.progress: {} is not Progress",
        ),
        (State, [], r"\[\] is not State"),
        (Path, 5, "5 is not Path"),
    ],
)
def test_anything_else_is_told_by_the_field(declared: Any, data: Any, named: str) -> None:
    with pytest.raises(NotDeclared, match=named):
        decode(declared, data)


class Mine:
    """A class of a user."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("it was pickled",)


class Annotated:
    """One that says what it has, in words that cannot be looked up."""

    thing: NotThere  # type: ignore[name-defined] # noqa: F821


class Pair(NamedTuple):
    first: object
    second: object


@dataclasses.dataclass(frozen=True)
class MyWorkload(Workload):
    """A subclass of ours: the other process has no such class."""


@pytest.mark.parametrize("value", [Mine(), Annotated(), object(), b"bytes", 1j, len, [Mine()], {"a": Mine()}])
def test_a_class_that_nobody_declared_cannot_be_sent(value: object) -> None:
    with pytest.raises(NotDeclared, match="cannot be handed to another process"):
        encode(value)
    with pytest.raises(NotDeclared, match="cannot be handed to another process"):
        encode(Event("", None, "", {"fact": value}))


def test_a_subclass_arrives_nowhere() -> None:
    with pytest.raises(NotDeclared, match="is not Workload"):
        travelled(Workload, MyWorkload("command"))


@pytest.mark.parametrize("name", ["Popen", "subprocess.Popen", "Path", "object", "NotDeclared", ""])
def test_what_arrives_never_chooses_a_class(name: str) -> None:
    """Only what is declared is made, whatever the data call themselves."""
    data = {"": name, "args": "touch /tmp/x"}
    for declared in DECLARED:
        with pytest.raises(NotDeclared):
            decode(declared, data)
    assert decode(object, data) == data


def test_ready_is_told_from_the_others_by_its_class() -> None:
    assert travelled(Readiness, Ready()) == Ready()


def test_what_is_declared_is_not_executed() -> None:
    assert encode(Pair("__import__('os')", [1])) == {"": "Pair", "first": "__import__('os')", "second": [1]}
