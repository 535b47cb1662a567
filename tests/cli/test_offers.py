from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import Workload
from pytest_vastgpu.providers.market_name import market_name
from pytest_vastgpu.reputation.host_cache import HostCache
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.selection.requirements import NEEDS
from tests.support.factories import make_offer
from tests.support.limits import UNSPACED

MACHINES: list[dict[str, Any]] = [
    {"machine_id": 1, "host_id": 1, "price_usd_h": 0.4},
    {"machine_id": 2, "host_id": 2, "price_usd_h": 0.3},
    {"machine_id": 3, "host_id": 3, "price_usd_h": 0.2, "reliability": 0.96},
    {"machine_id": 4, "host_id": 4, "price_usd_h": 1.5, "gpu_name": "H100 SXM", "gpu_ram_mb": 81559},
]


@pytest.fixture(scope="module")
def market() -> Iterator[LocalMarket]:
    with LocalMarket({"market": {"rate_limits": False}, "machines": MACHINES}) as running:
        yield running
        status = running.status()
        assert (status["alive"], status["ended"], status["rents_per_label"]) == ([], [], {})


@pytest.fixture
def account(market: LocalMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_URL", market.url)
    monkeypatch.setenv("VAST_API_KEY", market.api_key)
    monkeypatch.setenv("COLUMNS", "80")


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["offers", "--json", *arguments], UNSPACED) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def machines(told: Any) -> list[int]:
    (workload,) = told["workloads"]
    return [each["machine_id"] for each in workload["offers"]]


@pytest.mark.usefixtures("account")
def test_it_says_what_would_be_rented_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offers", "--gpu-ram", "20", "--limit", "1"], UNSPACED) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "offers for gpu_ram_gb=20.0"
    assert told[1].split()[:3] == ["#", "machine", "GPU"]
    assert told[2].split()[:2] == ["1", "2"]
    assert told[3] == "  … and 1 more"
    for line in (
        "    --strictness=aggressive: machine 3 (RTX 4090) at 0.20 USD/h",
        "    1 by reliability: at least 0.98 is wanted",
        "    1 by price: at most 1.00 USD/h with disk and transfer is wanted",
    ):
        assert line in told
    (workload,) = document(capsys, "--gpu-ram", "20")["workloads"]
    worst = f"at worst  {workload['worst_usd']:.2f} USD to set aside (1 instance of at most 2 h), of 5 USD"
    assert worst in told
    assert max(map(len, told)) <= 80


@pytest.mark.usefixtures("account")
def test_nothing_that_fits_is_an_exit_code_and_what_to_type_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offers", "--gpu-name", "H100_SXM"], UNSPACED) == 1
    told = capsys.readouterr().out
    change = "--max-price=1.51: machine 4 (H100 SXM) at 1.50 USD/h"
    assert f"NOTHING TO RENT: none fits\n  what to change:\n    {change}" in told
    assert machines(document(capsys, "--gpu-name", "H100_SXM", "--max-price=1.51")) == [4]
    (workload,) = document(capsys, "--gpu-ram-gb=90", "--max-price=2", code=1)["workloads"]
    assert workload["changes"][0]["steps"] == ["--gpu-ram-gb=81.5"]
    assert workload["why_none"] == "none fits"


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("arguments", "variables", "found"),
    [
        ([], {}, [2, 1]),
        (["--strictness=aggressive"], {}, [3, 2, 1]),
        ([], {"VAST_STRICTNESS": "aggressive"}, [3, 2, 1]),
        (["--strictness=balanced"], {"VAST_STRICTNESS": "aggressive"}, [2, 1]),
        (["--max-price=0.35"], {}, [2]),
        ([], {"VAST_MAX_PRICE": "0.35"}, [2]),
        (["--limit=1"], {}, [2]),
        (["--max-price=2", "--gpu-ram-gb=40"], {}, [4]),
    ],
)
def test_options_are_those_of_a_run_with_their_variables(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    found: list[int],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machines(document(capsys, *arguments)) == found


@pytest.mark.usefixtures("account")
def test_a_model_needs_what_vllm_needs(capsys: pytest.CaptureFixture[str]) -> None:
    (workload,) = document(capsys, "--model=org/model", "--gpu-ram-gb=20")["workloads"]
    assert workload["workload"] == "vllm 'org/model'"
    needs = workload["needs"]
    assert (needs["disk_gb"], needs["image_gb"], needs["gpu_ram_gb"]) == (60, 12, 20)


@pytest.mark.usefixtures("account")
def test_a_budget_that_covers_no_instance_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offers", "--budget", "0.5"], UNSPACED) == 1
    told = capsys.readouterr().out
    assert "NOT WITHIN THE BUDGET: one instance may cost 0." in told
    assert "more than --budget 0.5 USD: raise" in told.replace("\n  ", " ")
    told = document(capsys, "--budget", "0.5", code=1)
    assert (told["possible"], told["workloads"][0]["budget"]) == (False, "never")
    assert told["workloads"][0]["worst_usd"] > 0.6


@pytest.mark.usefixtures("account")
def test_what_is_remembered_of_machines_decides(
    capsys: pytest.CaptureFixture[str], market: LocalMarket, tmp_path: Path
) -> None:
    path = tmp_path / "hosts.yaml"
    cache = HostCache(path, market=market_name(market.url))
    offer = make_offer(machine_id=1, host_id=1)
    for number in range(3):
        attempt = replace(Attempt(1, f"label-{number}", offer, 7, None), seconds={"booting": 60.0, "ready": 1.0})
        cache.record(Outcome.of(attempt, Workload("command"), f"run{number}", time.time()))
    cache.ban(2, host=False, until=float("inf"), reason="by hand", since=0)
    told = document(capsys, f"--host-cache={path}")
    (workload,) = told["workloads"]
    assert machines(told) == [1]
    assert workload["offers"][0]["record"] is not None
    wanted = "a machine that is not banned"
    assert {"condition": "banned", "offers": 1, "wanted": wanted, "had": ""} in workload["removed"]
    before = path.read_bytes()
    assert main(["offers", f"--host-cache={path}"], UNSPACED) == 0
    assert path.read_bytes() == before


def test_each_need_of_a_workload_is_an_option() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "pytest_vastgpu", "offers", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in NEEDS if f"--{name.replace('_', '-')} " not in printed] == []


def test_other_commands_load_nothing_of_it() -> None:
    program = (
        "import sys; from pytest_vastgpu.cli.main import main; main(['hosts', 'list'])\n"
        "print(*(name for name in sys.modules if name.startswith(('httpx', 'pytest_vastgpu'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "pytest_vastgpu.cli.offers" in loaded
    heavy = ("httpx", "pytest_vastgpu.diagnosis.rules", "pytest_vastgpu.planning", "pytest_vastgpu.providers.vast")
    assert [name for name in loaded if name.startswith(heavy)] == []


def test_without_a_key_it_says_both_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offers"]) == 2
    assert capsys.readouterr().err == (
        "vastgpu: VAST_API_KEY is not set: set it to your Vast.ai API key, or use --backend=local to see what the "
        "local market would rent out of this machine\n"
    )


def test_the_local_market_is_asked_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, "--backend=local", "--gpus=0")
    assert (told["market"], machines(told)) == ("local", [1])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--strictness=blanced"], "--strictness: 'blanced' is not one of strict, balanced, aggressive; did you mean"),
        (["--gpus=-1"], "gpus=-1 of the workload is not a whole number from 0 on"),
        (["--max-price=0"], "--max-price: '0' is not a number of USD/h above 0"),
    ],
)
def test_a_wrong_value_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k3y-0f-the-account")
    assert main(["offers", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vastgpu: {line}")
    assert error.count("\n") == 1


def test_a_market_that_does_not_answer_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "k3y-0f-the-account")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")  # nothing listens on the discard port
    assert main(["offers"], replace(UNSPACED, market_pause_s=0.01)) == ExitCode.MARKET
    error = capsys.readouterr().err
    assert error.startswith("vastgpu: search: no answer from 127.0.0.1:9")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_key_that_may_not_search_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = {"market": {"rate_limits": False}, "machines": MACHINES, "faults": ["not_authorized"]}
    with LocalMarket(fleet) as market:
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        assert main(["offers"], UNSPACED) == ExitCode.MARKET
    assert capsys.readouterr().err == (
        "vastgpu: search: Not authorized (HTTP 403, not_authorized); the API key lacks the scope misc: make a key that "
        "has it in your account\n"
    )
