from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.instance_list import EXPENDABLE
from pytest_vastgpu.cli.instance_list import HEADER
from pytest_vastgpu.cli.instance_list import document
from pytest_vastgpu.cli.instance_list import notes
from pytest_vastgpu.cli.instance_list import row
from pytest_vastgpu.cli.instances import LocalRun
from pytest_vastgpu.cli.instances import Ours
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.cli.markets import Market
from pytest_vastgpu.core.ledger_record import Label
from pytest_vastgpu.core.ledger_record import LedgerEntry
from pytest_vastgpu.core.ledger_record import Record
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.core.text.layout import fitted
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.providers.open import open_provider
from tests.cli.conftest import FLEET
from tests.cli.conftest import MakeRun
from tests.supervisor.cleanup.test_recover import rent
from tests.support.limits import UNSPACED
from tests.support.vast import make_status

NOW = 1_800_000_000.0
LABEL = make_label("82da1e4c", 1, NOW + 3600)
ONE = make_status(
    id=544700176,
    label=LABEL,
    machine_id=42,
    actual_status="running",
    gpu_name="RTX 4090",
    price_usd_h=0.36,
    start_date=NOW - 600,
)
KEPT = Record(entries={LABEL: LedgerEntry(LABEL, ONE.id, kept_until=NOW + 60)})


def ours(status: InstanceStatus = ONE, record: Record | None = None, *, alive: bool = False) -> Ours:
    label = Label.parse(status.label)
    assert label
    run = LocalRun(Path("/runs/82da1e4c"), record, alive) if record else None
    return Ours(status, label, Market(cast("Provider", None), "http://market", "account"), run)


@pytest.mark.parametrize(
    ("instance", "cells"),
    [
        (ours(), "544700176|running|42|RTX 4090|10 min|0.360|0.0600|82da1e4c (not of here)|in 60 min"),
        (ours(record=Record(), alive=True), r"544.*|82da1e4c|in 60 min"),
        (ours(record=Record()), r"544.*|82da1e4c (over)|in 60 min"),
        (ours(record=KEPT), r"544.*|82da1e4c (over)|kept until \d\d:\d\d"),
        (ours(replace(ONE, label=make_label("abcd", 1, NOW - 720))), r"544.*|abcd (not of here)|OVERDUE by 12 min"),
        (ours(replace(ONE, label=make_label("abcd", 1, NOW + 9e4))), r"544.*|in 25.0 h"),
        (ours(replace(ONE, state="", gpu_name="", start_date=0.0)), "544.*|null|42|no GPU|unknown|0.360|unknown|.*"),
        (ours(replace(ONE, incredible="it is -1")), ".*|10 min|unknown|unknown|.*"),
    ],
)
def test_the_table_says_of_each_since_when_what_it_costs_whose_it_is_and_when_it_ends(
    instance: Ours, cells: str
) -> None:
    pattern = cells.replace("|", r"\|").replace("(", r"\(").replace(")", r"\)")
    assert re.fullmatch(pattern, "|".join(row(instance, NOW)))


def test_below_the_table_stands_what_to_do_about_what_is_left_and_why_a_price_is_not_known() -> None:
    assert notes([ours(record=Record(), alive=True), ours(record=KEPT), ours()], NOW) == []
    (note,) = notes([ours(record=Record()), ours(record=Record(), alive=True)], NOW)
    assert re.fullmatch(
        "LEFT: instance 544700176 was not seen to be gone, and nobody looks after it, since run 82da1e4c is over; it "
        r"may go on costing money, at 0.360 USD/h, until \d\d:\d\d:\d\d on \d+ \w+ at the latest: "
        "run `vastgpu destroy 544700176`",
        note,
    )
    assert notes([ours(replace(ONE, incredible="it is -1"))], NOW) == ["instance 544700176: price unknown: it is -1"]


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (0, "id         state    machine  GPU       age     USD/h  USD so far  run              ends"),
        (100, "id         state    machine  GPU       age     USD/h  USD so far  run              ends"),
        (80, "id         state    GPU       age     USD so far  run              ends"),
        (65, "id         age     USD so far  run              ends"),
        (40, "id          544700176"),
    ],
)
def test_a_narrow_terminal_does_without_the_least_important_columns_and_then_without_the_table(
    width: int, head: str
) -> None:
    rows = [row(ours(record=Record()), NOW)] * 2
    lines = fitted(HEADER, rows, width, EXPENDABLE)
    assert lines[0] == head
    assert len(lines) == (3 if head.startswith("id  ") and width != 40 else 2 * len(HEADER) + 1)
    assert not width or max(map(len, lines)) <= width


def test_a_program_gets_the_same_as_numbers() -> None:
    assert document(ours(record=KEPT), NOW) == {
        "id": 544700176,
        "label": LABEL,
        "market": "http://market",
        "state": "running",
        "machine": 42,
        "gpu": "RTX 4090",
        "since": NOW - 600,
        "age_s": 600.0,
        "usd_h": 0.36,
        "usd_so_far": 0.06,
        "run": "82da1e4c",
        "run_alive": False,
        "ends_at": NOW + 60,
        "overdue": False,
        "kept_until": NOW + 60,
        "warm_until": None,
    }
    unknown = document(ours(replace(ONE, start_date=0.0, incredible="it is -1", label=make_label("a", 1, 1))), NOW)
    assert {name for name, value in unknown.items() if value is None} == {
        *("since", "age_s", "usd_h", "usd_so_far", "run_alive", "kept_until", "warm_until")
    }
    assert unknown["overdue"] is True


def test_check_fails_where_something_of_ours_is_alive(
    client: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rent(client, "somebody-elses")
    assert main(["ls", "--check"], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == "no instance of pytest-vastgpu is alive\n"
    instance = rent(client, make_label("abcd1234", 1, time.time() + 10 * DAY_S))
    assert main(["ls"], UNSPACED) == ExitCode.OK
    header, line = capsys.readouterr().out.splitlines()
    assert tuple(re.split(r"  +", header)) == HEADER
    assert re.match(rf"{instance}  .*  abcd1234 \(not of here\)  in 10\.0 d$", line)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["ls", "--check"], UNSPACED) == ExitCode.FAILED
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["ls", "--json", "--check"], UNSPACED) == ExitCode.FAILED
    printed = json.loads(capsys.readouterr().out)
    assert printed["version"] == 1
    assert printed["problems"] == []
    assert [(each["id"], each["run"], each["run_alive"]) for each in printed["instances"]] == [
        (instance, "abcd1234", None)
    ]


def test_what_a_living_run_has_on_a_market_of_its_own_is_found_without_a_key(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    run = make_run("abcd1234", alive=True, embedded=True)
    assert main(["ls", "--check"], UNSPACED) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].startswith(f"{run.instance}  ")
    assert printed.err == ""


@pytest.mark.slow
def test_a_market_that_died_with_its_run_is_not_asked(
    market: LocalMarket,
    make_run: MakeRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    run = make_run("abcd1234", alive=False, embedded=True)
    (run.directory / "market.json").write_text(json.dumps({"url": market.url, "key": market.api_key}))
    assert main(["ls", "--check"], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out == "no instance of pytest-vastgpu is alive\n"


@pytest.mark.slow
def test_without_a_key_what_is_known_is_shown_and_the_rest_said_to_be_missing(
    make_run: MakeRun, market: LocalMarket, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("abcd1234", alive=True, embedded=True)
    note = "only this machine's own markets were looked at, since VAST_API_KEY is not set: "
    assert main(["ls"], UNSPACED) == ExitCode.OK
    printed = capsys.readouterr()
    assert (printed.out.splitlines()[1].split()[0], printed.err) == (str(run.instance), "")
    assert printed.out.splitlines()[-1].startswith(note)
    assert main(["ls", "--json"], UNSPACED) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["problems"][0].startswith("VAST_API_KEY is not set: ")
    assert main(["ls", "--check"], UNSPACED) == ExitCode.FAILED
    with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
        client.destroy(run.instance)
    capsys.readouterr()
    assert main(["ls"], UNSPACED) == ExitCode.OK
    assert capsys.readouterr().out.startswith(f"no instance of pytest-vastgpu is alive\n{note}")
    assert main(["ls", "--check"], UNSPACED) == ExitCode.MARKET


def test_without_a_key_and_without_a_market_here_there_is_nothing_to_look_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ls"], UNSPACED) == ExitCode.MARKET
    assert capsys.readouterr().err.startswith("vastgpu: VAST_API_KEY is not set: ")


@pytest.mark.slow
def test_the_accounts_market_and_those_of_living_runs_are_shown_together_and_one_that_fails_hides_none(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("abcd1234", alive=True, embedded=True)
    with LocalMarket(FLEET) as other:
        monkeypatch.setenv("VAST_URL", other.url)
        monkeypatch.setenv("VAST_API_KEY", other.api_key)
        with open_provider(other.url, other.api_key, timeouts=UNSPACED) as client:
            instance = rent(client, make_label("0ddba110", 1, time.time() + 3600))
        assert main(["ls"], UNSPACED) == ExitCode.OK
        lines = capsys.readouterr().out.splitlines()[1:]
        assert [line.split("  ")[0] for line in lines] == [str(instance), str(run.instance)]
        monkeypatch.setenv("VAST_API_KEY", "wrong")
        assert main(["ls"], UNSPACED) == ExitCode.MARKET
        printed = capsys.readouterr()
        assert [line.split("  ")[0] for line in printed.out.splitlines()[1:]] == [str(run.instance)]
        assert printed.err.count("\n") == 1
        assert "check VAST_API_KEY" in printed.err


@pytest.mark.slow
def test_what_was_rented_with_another_key_is_said_not_to_be_looked_at(
    client: Provider, make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("abcd1234", alive=True)
    make_run("0ddba110", alive=True, ends_in_s=-60)
    with LocalMarket({"market": {"rate_limits": False}}) as other:
        monkeypatch.setenv("VAST_URL", other.url)
        monkeypatch.setenv("VAST_API_KEY", other.api_key)
        assert main(["ls", "--check"], UNSPACED) == ExitCode.MARKET
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("vastgpu: what run abcd1234 has rented at http://")
        assert printed.err.count("\n") == 1
        run.write("gone")
        assert main(["ls", "--check"], UNSPACED) == ExitCode.OK
