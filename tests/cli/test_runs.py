from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from pytest_vastgpu.cli import instances
from pytest_vastgpu.cli import run_records
from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.client import warm
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.supervisor.ledger.by_user import destroying
from pytest_vastgpu.supervisor.ledger.ledger import Ledger
from pytest_vastgpu.supervisor.ledger.run_directory import make_run_directory
from tests.support.runs import ending_once_read

ENDS_AT = 4_000_000_000.0
"""Long after any test: it may run an hour after this module is loaded."""


def record_run(run_id: str, started_in: Path, *, gone: bool = True, verdict: str = "", embedded: bool = False) -> Path:
    """What a run that has rented one instance leaves on disk."""
    directory = make_run_directory(run_id)
    label = make_label(run_id, 1, ENDS_AT)
    ledger = Ledger(directory)
    ledger.begin(run_id, "account", "http://market", embedded=embedded, started_in=str(started_in))
    ledger.write(label, "intended")
    ledger.write(label, "created", instance_id=4711, cost_usd=0.01)
    if gone:
        ledger.write(label, "gone", cost_usd=0.02)
    ledger.close()
    instance = {
        "label": label,
        "id": 4711,
        "workload": "vllm 'org/m'",
        "machine": 42,
        "gpu": "RTX 4090",
        "usd_h": 0.36,
        "seconds": {"booting": 31.2},
        "outcome": verdict or "ready",
        "gone": gone,
        "cost_usd": 0.0421,
        "tests": [{"test": "test_it.py::test_it", "seconds": 5.0, "cost_usd": 0.005}],
    }
    costs = {"version": 1, "run": run_id, "instances": [instance], "tests": [{"test": "a"}, {"test": "b"}]}
    (directory / "cost.json").write_text(json.dumps(costs))
    events = [
        {"time": 1.8e9, "label": label, "state": "created", "text": "instance 4711: created\x1b[0m"},
        {"time": 1.8e9, "label": "", "state": None, "text": "warning: whatever"},
    ]
    (directory / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return directory


def test_the_newest_run_comes_first_and_no_more_than_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["runs"]) == ExitCode.OK
    assert capsys.readouterr().out == "no run of this machine has rented anything yet\n"
    began = time.time()
    for number in range(3):
        monkeypatch.setattr("time.time", lambda at=began + number: at)
        record_run(f"aaaa000{number}", tmp_path, verdict="infra_fatal: nvml" if number else "", gone=number != 1)
    assert main(["runs", "--limit", "2"]) == ExitCode.OK
    header, newest, older, rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["id", "started", "state", "instances", "tests", "USD", "directory", "market"]
    assert newest.split("  ")[0] == "aaaa0002"
    assert "  over    1 (1 failed)  2      0.0421  " in newest
    assert "  left 1  1 (1 failed)  2      0.0421  " in older
    assert newest.endswith("  http://market")
    assert rest == "1 older run not shown: --limit 3"
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["runs"]) == ExitCode.OK
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_living_run_is_said_to_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    with ownership(record_run("aaaa0001", tmp_path, gone=False)):
        after = time.time()
        assert main(["runs", "--json"]) == ExitCode.OK
    printed = json.loads(capsys.readouterr().out)
    assert printed["version"] == 1
    [run] = printed["runs"]
    assert before - 1 <= run.pop("started_at") <= after + 1
    assert run == {
        "id": "aaaa0001",
        "state": "alive",
        "alive": True,
        "directory": str(tmp_path),
        "files": str(Path.home() / ".local/state/pytest-vastgpu/runs/aaaa0001"),
        "market": "http://market",
        "own_market": False,
        "instances": 1,
        "failed": 0,
        "tests": 2,
        "cost_usd": 0.0421,
    }


@pytest.mark.parametrize("module", [instances, run_records])
def test_a_run_that_ends_while_its_files_are_read_has_left_nothing(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = record_run("aaaa0001", tmp_path, gone=False)
    with ending_once_read(directory, module, "read_ledger", monkeypatch):
        [run] = instances.local_runs() if module is instances else run_records.all_runs()
    assert run.alive


def test_one_run_is_told_with_the_steps_of_its_instances_their_verdicts_costs_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run("aaaa0001", tmp_path, verdict="infra_fatal: nvml", gone=False)
    kept = tmp_path / "vast-artifacts" / "aaaa0001" / "1"
    kept.mkdir(parents=True)
    assert main(["runs", "aaaa"]) == ExitCode.OK
    out = capsys.readouterr().out
    for line in (
        "run aaaa0001: left 1",
        "  rented   1 instance from http://market for 2 tests, 0.0421 USD",
        "instance 4711: vllm 'org/m' on machine 42 (RTX 4090, 0.360 USD/h)",
        "  outcome  infra_fatal: nvml, 0.0421 USD, 1 test",
        f"  kept in  {kept}",
        "  files    ~/.local/state/pytest-vastgpu/runs/aaaa0001",
    ):
        assert line in out.splitlines()
    assert "  LEFT: instance 4711 was not seen to be gone, and nobody looks after it, since run aaaa0001 is over" in out
    assert " at the latest: run `vastgpu destroy 4711`\n" in out
    assert "  created\\u001b[0m\n" in out
    assert "  warning: whatever\n" in out
    assert main(["runs", "aaaa0001", "--json"]) == ExitCode.OK
    run = json.loads(capsys.readouterr().out)["run"]
    [rented] = run["rented"]
    assert (rented["id"], rented["outcome"], rented["artifacts"]) == (4711, "infra_fatal: nvml", str(kept))
    assert [step["state"] for step in rented["steps"]] == ["created"]
    assert Path(run["costs"]).is_file()
    assert Path(run["events"]).is_file()


def share(run_id: str, started_in: Path, label: str, outcome: str, cost_usd: float) -> None:
    """What a run leaves that has joined the supervisor of another one, whose ledger has the instance."""
    directory = make_run_directory(run_id)
    ledger = Ledger(directory)
    ledger.begin(run_id, "account", "http://market", embedded=False, started_in=str(started_in))
    ledger.close()
    row = {"label": label, "id": 4711, "workload": "vllm 'org/m'", "outcome": outcome, "cost_usd": cost_usd}
    costs = {"version": 1, "instances": [{**row, "gone": False, "tests": [{"test": "a"}]}], "tests": [{"test": "a"}]}
    (directory / "cost.json").write_text(json.dumps(costs))


def test_what_runs_share_is_told_with_each_by_what_it_has_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record_run("aaaa0001", tmp_path, gone=False)
    label, later = make_label("aaaa0001", 1, ENDS_AT), make_label("aaaa0001", 2, ENDS_AT)
    share("bbbb0002", tmp_path, label, "runtime_lost: instance_lost", 0.003)
    share("cccc0003", tmp_path, later, "ready", 0.004)
    with closing(Ledger(first)) as ledger:
        ledger.write(label, "gone", cost_usd=0.0451)
        ledger.write(later, "intended")
        ledger.write(later, "created", instance_id=4712)
    with ownership(first):
        assert main(["runs", "--json"]) == ExitCode.OK
        told = {run["id"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
        facts = ("state", "instances", "failed", "tests", "cost_usd")
        assert {name: tuple(run[fact] for fact in facts) for name, run in told.items()} == {
            "aaaa0001": ("alive", 1, 0, 2, 0.0421),
            "bbbb0002": ("over", 1, 1, 1, 0.003),
            "cccc0003": ("over", 1, 0, 1, 0.004),
        }
        assert main(["runs", "cccc"]) == ExitCode.OK
        out = capsys.readouterr().out
        assert "instance 4712: vllm 'org/m'" in out
        assert "  outcome  ready, 0.0040 USD, 1 test" in out
        assert "LEFT" not in out, "its supervisor lives"
    assert main(["runs", "cccc"]) == ExitCode.OK
    assert "LEFT" in capsys.readouterr().out


def test_a_run_whose_supervisor_keeps_instances_warm_is_not_alive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [Warm(make_label("aaaa0001", 1, ENDS_AT), 4711, "vllm 'org/m'", 0.36, ENDS_AT, 3600.0, 60.0, 1.0)]
    known = warm.WarmSupervisor(
        "path", "secret", 1, "1", "http://market", "an account", str(tmp_path), "aaaa0001", time.time()
    )
    monkeypatch.setattr(warm, "all_warm", lambda: [known])
    monkeypatch.setattr(warm, "instances", lambda _: kept)

    def state() -> str:
        assert main(["runs", "--json"]) == ExitCode.OK
        [run] = json.loads(capsys.readouterr().out)["runs"]
        assert run["alive"] is True
        return str(run["state"])

    with ownership(record_run("aaaa0001", tmp_path, gone=False)):
        assert state() == "alive", "its pytest lives"
        with monkeypatch.context() as patched:
            patched.setattr(os, "getppid", lambda: ended.pid)
            record_run("aaaa0001", tmp_path, gone=False)
        assert state() == "warm 1"
        assert main(["runs", "aaaa"]) == ExitCode.OK
        assert "  WARM: instance 4711 (vllm 'org/m') until " in capsys.readouterr().out
        with destroying(make_run_directory("aaaa0001"), kept[0].label):
            assert state() == "over", "the user has destroyed it"
        kept.clear()
        assert state() == "over", "another run uses what it has left"


def test_a_run_that_nobody_knows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run("aaaa0001", tmp_path)
    record_run("aaaa0002", tmp_path)
    assert main(["runs", "aaab0001"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err == "vastgpu: no run 'aaab0001' is known on this machine; did you mean aaaa0001?\n"
    assert main(["runs", "aaaa"]) == ExitCode.FAILED
    assert "2 runs are meant: " in capsys.readouterr().err


DAMAGES = {
    "cut short": b'{"instances": [{"label"',
    "of an earlier format": b'{"instances": 7, "tests": {"a": 1}}',
    "of other types": b'{"instances": [{"label": 7, "seconds": [1], "cost_usd": "x", "machine": 1e99}, 5], "tests": 3}',
    "no text": bytes(range(256)),
    "nested deeply": b"[" * 100_000,
    "a long number": b'{"cost_usd": ' + b"9" * 5000 + b"}",
    "empty": b"",
}


@pytest.mark.parametrize("name", ["cost.json", "ledger.jsonl", "events.jsonl"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_breaks_neither_the_list_nor_the_story(
    name: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run("aaaa0001", tmp_path)
    damaged = record_run("bbbb0002", tmp_path)
    damaged.joinpath(name).write_bytes(DAMAGES[damage])
    for words in (["runs"], ["runs", "--json"], ["runs", "bbbb"], ["runs", "bbbb", "--json"]):
        assert main(words) == ExitCode.OK
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "bbbb0002" in printed.out
    assert main(["runs"]) == ExitCode.OK
    assert "aaaa0001" in capsys.readouterr().out


def test_a_run_without_a_ledger_and_what_is_no_file_are_told_as_far_as_they_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = record_run("aaaa0001", tmp_path)
    for name in ("ledger.jsonl", "cost.json", "events.jsonl"):
        directory.joinpath(name).unlink()
    os.mkfifo(directory / "cost.json")
    (directory / "events.jsonl").mkdir()
    assert main(["runs"]) == ExitCode.OK
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("aaaa0001  ")
    assert "  no ledger  0 " in line
    assert main(["runs", "aaaa0001"]) == ExitCode.OK
