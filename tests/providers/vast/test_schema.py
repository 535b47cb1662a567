from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.ssh.address import SshAddress
from tests.selection.test_search import row


def only_offer(**changes: Any) -> Any:
    (found,) = schema.offers({"offers": [row(**changes)]})
    return found


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({}, "compute_cap", 8.9),
        ({"compute_cap": None}, "compute_cap", 0),
        ({}, "gpu_ram_mb", 24564),
        ({"reliability": 0.5}, "reliability", 0.999),
        ({"reliability": 0.5, "reliability2": None}, "reliability", 0.5),
        ({"reliability2": "0.99"}, "reliability", 0.99),
        ({"reliability2": float("nan"), "reliability": 0.5}, "reliability", 0.5),
        ({}, "verified", True),
        ({"verification": "unverified"}, "verified", False),
        ({"verification": None, "verified": True}, "verified", True),
        ({"verification": "deverified", "verified": False}, "verified", False),
        ({"geolocation": None}, "geolocation", ""),
        ({"geolocation": " Norway, NO\n"}, "geolocation", "Norway, NO"),
        ({"cpu_cores": None, "cpu_cores_effective": 12.8}, "cpu_cores", 12.8),
        ({"cpu_cores": 64, "cpu_cores_effective": None, "gpu_frac": 0.25}, "cpu_cores", 16.0),
        ({"gpu_frac": 0.125}, "machine_share", 0.125),
        ({"driver_version": "550.54.15"}, "driver_version", "550.54.15"),
        ({"inet_down_cost": 0.02}, "inet_down_usd_gb", 0.02),
        ({"host_id": None}, "host_id", 0),
        ({"is_bid": True}, "is_bid", True),
        ({"rentable": None}, "rentable", True),
        ({"num_gpus": 0, "gpu_name": None}, "gpu_name", ""),
    ],
)
def test_offers(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(only_offer(**changes), field) == value


@pytest.mark.parametrize("number", [0, 0.5, -3, "0"])
def test_a_machine_without_a_number_is_left_out(number: object) -> None:
    found = schema.offers({"offers": [row(id=1), row(id=2, machine_id=number)]})
    assert [offer.id for offer in found] == [1]
    with pytest.raises(MarketAnswerInvalid, match="none of 1 offers"):
        schema.offers({"offers": [row(machine_id=number)]})


@pytest.mark.parametrize("missing", ["id", "machine_id"])
def test_an_offer_that_cannot_be_named_is_left_out(missing: str) -> None:
    found = schema.offers({"offers": [row(id=1), {**row(id=2), missing: None}, None, "x"]})
    assert [offer.id for offer in found] == [1]


INSTANCE = {
    "id": 36717044,
    "label": None,
    "actual_status": None,
    "intended_status": "running",
    "status_msg": "success, running image/ssh\n",
    "public_ipaddr": "192.0.2.7\n",
    "ssh_host": "ssh7.vast.ai",
    "ssh_port": "37044",
    "ports": {
        "22/tcp": [{"HostIp": "192.0.2.7", "HostPort": "37708"}, {"HostIp": "::", "HostPort": "37708"}],
        "8000/tcp": [],
        "9000/udp": None,
        "9001/tcp": [{"HostIp": "192.0.2.7"}, {"HostPort": "40001"}],
    },
    "dph_total": 0.35185,
    "start_date": 1778668800.5,
    "disk_usage": None,
}


def test_an_instance() -> None:
    status = schema.one_instance({"instances": INSTANCE})
    assert status is not None
    assert status.published == {22: "192.0.2.7:37708", 9001: "192.0.2.7:40001"}
    assert (status.label, status.state, status.phase) == ("", "", Phase.STARTING)
    assert (status.explanation, status.message) == ("actual_status is null", "success, running image/ssh")
    direct, proxy = SshAddress("192.0.2.7", 37708, "direct"), SshAddress("ssh7.vast.ai", 37044, "proxy")
    assert status.ssh == (direct, proxy)
    assert (status.price_usd_h, status.start_date, status.disk_usage_gb) == (0.35185, 1778668800.5, -1.0)


@pytest.mark.parametrize("ports", [None, {}, [], "22", {"22/tcp": {}}, {"22/tcp": [{"HostPort": ""}]}])
def test_ports_that_are_not_there_yet(ports: object) -> None:
    status = schema.one_instance({"instances": {**INSTANCE, "ports": ports}})
    assert status is not None
    assert status.published == {}


def test_one_instance_may_come_as_a_list() -> None:
    status = schema.one_instance({"instances": [INSTANCE]})
    assert status is not None
    assert status.id == INSTANCE["id"]


FIELDS = sorted({*row(), *INSTANCE})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(sorted({*row(), *INSTANCE})), json_values),
    st.sampled_from([200, 400, 404, 429, 500]),
)
def test_whatever_comes_is_a_value_or_a_market_error(body: dict[str, Any], status: int) -> None:
    """No answer, however odd, ends in another exception."""
    for read in (
        lambda: schema.offers({"offers": [row(), body]}),
        lambda: schema.one_instance({"instances": {**body, "id": 7}}),
        lambda: schema.instances({"instances": [body], "next_token": body.get("label")}),
        lambda: schema.account(body),
        lambda: schema.parse(status, json.dumps(body), doing="x", retry_after=str(body.get("id"))),
        lambda: schema.parse(status, json.dumps({"error": body.get("id"), "msg": body.get("label")}), doing="x"),
    ):
        try:
            read()
        except MarketError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one line, whichever of them raised


@pytest.mark.parametrize("body", [{}, {"id": None}, {"id": "x"}])
def test_an_account_without_an_id_is_none(body: dict[str, Any]) -> None:
    with pytest.raises(MarketAnswerInvalid, match="user id"):
        schema.account(body)


def test_an_excerpt_is_short_and_without_secrets() -> None:
    text = '{"jupyter_token": "abc123", "instance_api_key" : "k9", "msg": "hello",\n "image_login": "-u x -p y'
    assert schema.excerpt(text) == (
        '{"jupyter_token": "***", "instance_api_key" : "***", "msg": "hello", "image_login": "***"'
    )
    assert len(schema.excerpt("x" * 10_000)) == 201
