from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.core.ledger_record import read_ledger
from pytest_vastgpu.core.ownership import ownership
from pytest_vastgpu.reporting.schemas import NAMES
from pytest_vastgpu.reporting.schemas import schema
from tests.cli.test_runs import record_run

VERDICT = {
    "class": "infra_fatal",
    "reason": "ssh_never_up",
    "evidence": "nothing answers\x1b[31m on 203.0.113.4:41234",
    "remedy": "another host would do",
}


def failed_run(run_id: str, started_in: Path, **more: Any) -> Path:
    """What a run leaves whose only instance has failed."""
    directory = record_run(run_id, started_in, verdict="infra_fatal: ssh_never_up")
    costs = json.loads((directory / "cost.json").read_text())
    label = costs["instances"][0]["label"]
    about = {"label": label, "workload": "vllm 'org/m'", "attempt": 1}
    events = [
        {"time": 1.8e9, "state": "created", "text": "created", "instance_id": 4711, **about},
        {"time": 1.8e9 + 60, "state": "failed", "text": "failed", "verdict": VERDICT, "failed_in": "booting", **about},
        {"time": 1.8e9 + 61, "state": "gone", "text": "gone", **about},
    ]
    (directory / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    tests = {
        "version": 1,
        "run": run_id,
        "command": "pytest tests",
        "started": 1.8e9,
        "ended": 1.8e9 + 62,
        "over": True,
        "exit_status": 1,
        "tests": [{"test": "test_it.py::test_it", "outcome": "error", "when": "setup", "verdict": VERDICT}],
        **more,
    }
    (directory / "tests.json").write_text(json.dumps(tests))
    return directory


@pytest.mark.parametrize("by", ["last", "", "aaaa", "aaaa0001", "directory"])
def test_a_red_run_says_what_failed_whose_fault_it_was_and_what_to_do(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run("bbbb0001", tmp_path)
    later = time.time() + 5
    monkeypatch.setattr("time.time", lambda: later)
    directory = failed_run("aaaa0001", tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["report", *filter(None, [str(directory) if by == "directory" else by])]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run aaaa0001: failed, with exit code 1; 1 instance (1 failed), 0.0421 USD"
    for line in (
        "ERROR test_it.py::test_it - infra_fatal: ssh_never_up",
        "no instance became ready for vllm 'org/m' (1 attempt); 0.0421 USD",
        "  whose fault  the machine's; it is remembered and not rented again for a while",
        "  evidence     nothing answers\\u001b[31m on 203.0.113.4:41234",
        "  what to do   another host would do",
        f"its files are in {directory}",
    ):
        assert line in lines
    table = [line for line in lines if line.startswith("42 ")]
    assert len(table) == 1
    assert table[0].endswith("infra_fatal: ssh_never_up")


def test_no_line_is_wider_than_the_terminal_and_v_leaves_nothing_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = [{"test": f"test_it.py::test_it[{'x' * 90}-{n}]", "outcome": "failed"} for n in range(40)]
    failed_run("aaaa0001", tmp_path, tests=tests)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["report"]) == ExitCode.OK
    lines = [line for line in capsys.readouterr().out.splitlines() if str(tmp_path) not in line and "files" not in line]
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("FAILED") for line in lines) == 12
    assert "and 28 other tests that failed, shown with -v" in lines
    assert main(["report", "-v"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert sum(line.startswith("FAILED") and line.endswith("]") for line in out.splitlines()) == 40


def test_a_run_that_goes_on_or_was_killed_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = failed_run("aaaa0001", tmp_path, ended=0.0, over=False, exit_status=None)
    with ownership(directory):
        assert main(["report", "aaaa0001"]) == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out.startswith("run aaaa0001: goes on; this is what is known so far; ")
    assert printed.err == ""
    assert main(["report", "aaaa0001"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("run aaaa0001: did not come to its end: ")


def test_what_is_alive_is_said_with_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run("aaaa0001", tmp_path, gone=False)
    assert main(["report"]) == ExitCode.OK
    assert "run `vastgpu destroy 4711`" in capsys.readouterr().out


def test_page_and_terminal_say_the_same_of_what_was_kept_until_a_time_that_is_past(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    directory = record_run("aaaa0001", tmp_path, gone=False)
    (label,) = read_ledger(directory / "ledger.jsonl").entries
    with (directory / "ledger.jsonl").open("a") as file:
        file.write(json.dumps({"time": 1.8e9, "label": label, "step": "kept", "until": 1.85e9}) + "\n")
    page = tmp_path / "run.html"
    for now, head in ((1.81e9, "KEPT: instance 4711"), (1.9e9, "LEFT: instance 4711")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert main(["report"]) == main(["report", "--html", str(page)]) == ExitCode.OK
        assert head in capsys.readouterr().out
        assert head in page.read_text()


def test_files_that_are_damaged_leave_out_what_only_they_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = failed_run("aaaa0001", tmp_path)
    (directory / "cost.json").write_bytes(b'{"instances": [nan\xff')
    with (directory / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 1e999, "label": 3}\n\x00\xff{"cut')
    assert main(["report"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "  what to do   another host would do\n" in out
    assert "cost.json is missing, or cannot be read\n" in out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["report", *arguments]) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    return line


def test_a_run_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys) == "vastgpu: no run of this machine has rented anything yet"
    record_run("aaaa0001", tmp_path)
    record_run("aaaa0002", tmp_path)
    assert "did you mean" in refused(capsys, "aaaa0003")
    assert refused(capsys, "zz") == "vastgpu: no run 'zz' is known on this machine; `vastgpu runs` lists those that are"
    assert refused(capsys, "aaaa").startswith("vastgpu: 2 runs are meant: ")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(capsys, str(empty)).startswith(
        f"vastgpu: the directory {empty} has no file of a run (events.jsonl, "
    )
    (empty / "cost.json").write_text("{{{")
    assert refused(capsys, str(empty)).startswith(f"vastgpu: the files in {empty} say nothing of a run: ")


def test_a_directory_of_another_machine_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = failed_run("aaaa0001", tmp_path)
    elsewhere = directory.rename(tmp_path / "downloaded")
    assert main(["report", str(elsewhere)]) == ExitCode.OK
    assert "another host would do" in capsys.readouterr().out


def test_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failed_run("aaaa0001", tmp_path)
    page = tmp_path / "run.html"
    assert "cannot be written: No such file" in refused(capsys, "--html", str(tmp_path / "missing" / "run.html"))
    assert main(["report", "--html", str(page)]) == ExitCode.OK
    assert "another host would do" in page.read_text(encoding="utf-8")
    for module in [name for name in sys.modules if name.startswith("pytest_vastgpu.reporting.page")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert refused(capsys, "--html", str(page)) == (
        "vastgpu: the page is made by the package jinja2: install it with pip install 'pytest-vastgpu[report]'"
    )


def test_its_summary_for_github(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed_run("aaaa0001", tmp_path)
    assert main(["report", "--markdown"]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert printed.startswith("## pytest-vastgpu: ")
    assert "another host would do" in printed


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--schema", name]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert printed == schema(name)
    assert json.loads(printed)["$id"].startswith(f"urn:pytest-vastgpu:{name}:")


def test_one_form_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "--html", "x", "--markdown"])
    assert ended.value.code == ExitCode.USAGE
    assert "not allowed with" in capsys.readouterr().err
