from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.fleet.fleet import Duration
from pytest_vastgpu.local.fleet.fleet import Fleet
from pytest_vastgpu.local.fleet.fleet import parse_fleet
from pytest_vastgpu.local.fleet.fleet import read_fleet
from pytest_vastgpu.local.fleet.generator import generate

GOOD = """\
market: {rate_limits: false, credit_usd: 5, seed: 3}
images: {"me/*": python -m server}
faults: [{name: slow_answer, delay_s: 0.5, endpoint: show}]
generate: 5
machines:
  - gpu_name: H100 SXM
    machine_id: 200
    count: 2
    price_usd_h: 2
    stages: {loading_s: {uniform: [1, 2]}, created_s: 3}
    faults: [oci_runtime_failed, {name: ssh_refused, for_s: .inf}]
  - network: true
"""


BOMB = "[&a0 [x, x], " + ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)) + "]"
"""Written out, this value would fit into no memory."""


def test_a_fleet_file() -> None:
    fleet = parse_fleet(GOOD)
    assert (fleet.rules.rate_limits, fleet.rules.credit_usd, fleet.rules.offers_per_search) == (False, 5.0, 64)
    assert fleet.images == {"me/*": "python -m server"}
    assert not fleet.this_machine
    assert [host.machine.machine_id for host in fleet.hosts] == [200, 201, 100, 202, 203, 204, 205, 206]
    first, second = fleet.hosts[:2]
    assert first.machine.gpu_name == "H100 SXM"
    assert first.stages.loading_s == Duration("uniform", (1.0, 2.0))
    assert [fault.kind.name for fault in first.faults] == ["oci_runtime_failed", "ssh_refused"]
    assert first.faults[0] is not second.faults[0]
    assert fleet.hosts[2].machine.network
    assert all(host.machine.simulated for host in fleet.hosts)


def test_an_empty_file_is_this_machine() -> None:
    assert parse_fleet("# nothing\n") == Fleet()
    assert parse_fleet("").this_machine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machines: 3", "fleet:1: machines must be a list"),
        ("a\n", "fleet:1: the file must be a mapping"),
        ("machines:\n  - gpu_nam: x\n", "fleet:2: machines[0].gpu_nam is unknown; there are: gpu_name, "),
        ("machines:\n  - gpu_name: x\n    num_gpus: two\n", "fleet:3: machines[0].num_gpus must be a whole number"),
        ("machines:\n  - price_usd_h: -1\n", "fleet:2: machines[0].price_usd_h must not be negative"),
        ("machines:\n  - price_usd_h: .nan\n", "fleet:2: machines[0].price_usd_h must not be negative"),
        ("machines:\n  - verification: maybe\n", "fleet:2: machines[0].verification must be verified"),
        ("machines:\n  - faults: [no_such]\n", "fleet:2: machines[0].faults[0] is wrong: unknown fault 'no_such'"),
        ("machines:\n  - faults:\n    - {name: ssh_refused, s: 3}\n", "fleet:3: machines[0].faults[0] is wrong: fault"),
        ("machines:\n  - faults: [{name: ssh_refused, for_s: x}]\n", "must be a number that is not negative"),
        ("faults: [{endpoint: show}]", "fleet:1: faults[0] needs a name"),
        ("machines:\n  - stages: {loading_s: {uniform: [1]}}\n", "uniform must have two numbers"),
        ("machines:\n  - stages: {loading_s: {normal: [1]}}\n", "normal is unknown"),
        ("machines:\n  - stages: {loading_s: -1}\n", "loading_s must not be negative"),
        ("machines: [{machine_id: 7}, {machine_id: 7}]", "machine_id 7 twice"),
        ("market:\n  rate_limit_form: xml\n", "fleet:2: market.rate_limit_form must be json, detail or text"),
        ("market:\n  credit_usd: yes\n", "fleet:2: market.credit_usd must be a number, not True"),
        ("market: {seed: 1}\nmarket: {seed: 2}\n", "fleet:2: market is given twice"),
        ("hides: /tmp", "fleet:1: hides must be a list"),
        ("hides: [tmp]", "fleet:1: hides[0] must be the whole path of a directory other than /, not 'tmp'"),
        ("hides:\n  - /..", "fleet:2: hides[0] must be the whole path of a directory other than /, not '/..'"),
        ("generate: 10000000", "fleet:1: generate must be between 0 and"),
        ("machines: [{machine_id: 0}]", "fleet:1: machines[0].machine_id must be between 1 and"),
        ("machines: [{host_id: 0}]", "fleet:1: machines[0].host_id must be between 1 and"),
        (f"machines: [{{machine_id: 1{'0' * 300}}}]", "machine_id must be between 1 and"),
        (f"machines: [{{machine_id: 1{'0' * 5000}}}]", "machine_id cannot be read"),
        ("machines: [{count: 1000000000000}]", "count must be between 0 and 1000000, not 1000000000000"),
        ("machines: [{count: -1}]", "count must be between 0 and"),
        ("machines: [{}, {count: 1000000}]", "machines[1] makes it more than 1000000 machines"),
        ("machines: [{num_gpus: 1000000000000}]", "num_gpus must be between 0 and 1000"),
        ("machines: [{price_usd_h: .inf}]", "price_usd_h must be at most 1e+15, not inf"),
        ("? [a]\n: b\n", "fleet:1: the file has a key that is no text"),
        ("machines: " + "[" * 100_000, "fleet:1: this is not YAML: "),
        ("machines:\n" + "- " * 100_000, "fleet:2: this is not YAML: "),
        ("machines: [{}]\ngenerate: 1000000", "generate makes it more than 1000000 machines"),
        (f"faults: [{{name: slow_answer, delay_s: {BOMB}}}]", "must be a number that is not negative, not [["),
        (f"machines: [{{gpu_name: {BOMB}}}]", "machines[0].gpu_name must be a text, not [["),
        ("machines: [{gpu_name: &a [*a]}]", "gpu_name cannot be read: found unconstructable recursive node"),
        ('machines: [{gpu_name: "\\ud800"}]', "fleet:1: this is not YAML: found invalid Unicode"),
        ("machines: [{gpu_name: '\ud800'}]", "fleet: this is not YAML: 'utf-8' codec"),
        ("market: \0", "fleet: this is not YAML: unacceptable character"),
        ("market: {\n", "this is not YAML"),
        ("market: *nothing\n", "this is not YAML"),
        ("market: {seed: !!python/object:os.system {}}\n", "fleet:1: market.seed cannot be read"),
    ],
)
def test_a_broken_file_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(LocalMarketError) as told:
        parse_fleet(text)
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 2000


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LocalMarketError, match=r"missing\.yaml cannot be read"):
        read_fleet(tmp_path / "missing.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "large").write_bytes(b"machines:\n" + b"- {}\n" * 1_000_000)
    for name, why in {
        "binary": "cannot be read",
        "pipe": "named pipe, not a regular file",
        ".": "a directory, not a regular file",
        "/dev/zero": "a device, not a regular file",
        "circle": "symbolic links",
        "large": "larger than 2 MiB; count and generate",
        "\0": "null byte",
    }.items():
        with pytest.raises(LocalMarketError, match=why):
            read_fleet(tmp_path / name)


def test_drawn_durations_are_seeded() -> None:
    for duration in (Duration("uniform", (1, 2)), Duration("lognormal", (60, 1)), Duration("fixed", (3,))):
        assert duration.draw(random.Random(1)) == duration.draw(random.Random(1))
    assert 1 <= Duration("uniform", (1, 2)).draw(random.Random(2)) <= 2


def test_a_generated_market_has_a_seed_and_a_tail() -> None:
    machines = generate(10_000, 7, 1)
    assert len({each.machine_id for each in machines}) == 10_000
    assert generate(50, 7, 1) == generate(50, 7, 1) != generate(50, 8, 1)
    good = sum(each.reliability > 0.99 for each in machines)
    assert 0.5 < good / len(machines) < 0.99
    assert min(each.reliability for each in machines) < 0.9
    assert {each.verification for each in machines} == {"verified", "unverified", "deverified"}
