from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.core.ledger_record import make_label
from tests.providers.vast.scripted import ScriptedServer
from tests.providers.vast.scripted import scripted_server
from tests.support.limits import UNSPACED


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.mark.parametrize(
    "arguments", [["ls"], ["ls", "--check"], ["destroy", "1"], ["destroy", "--run", "a"], ["reap"]]
)
def test_without_a_key_it_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.MARKET
    assert capsys.readouterr().err == (
        "vastgpu: VAST_API_KEY is not set: set it to the key of the account to look at, or set VAST_BACKEND=local if "
        "you rent on this machine only\n"
    )


def test_an_empty_key_is_not_called_unset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VAST_API_KEY", "")
    assert main(["ls"]) == ExitCode.MARKET
    assert capsys.readouterr().err.startswith("vastgpu: VAST_API_KEY is empty: set it")


def test_an_exit_code_cannot_stand_for_many_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--exit-code", "--jsonl"]) == 2
    assert capsys.readouterr().err == "vastgpu classify: --exit-code is for one text: it cannot be used with --jsonl\n"


def test_classify_reads_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("vllm: error: unrecognized arguments: --foo\n"))
    assert main(["classify", "--server", "vllm", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["class"], verdict["reason"]) == ("workload_fatal", "bad_cli_argument")


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["local", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"vastgpu: port {port} on 127.0.0.1 cannot be used")
    assert error.count("\n") == 1


def test_the_command_is_also_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_vastgpu", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("classify", "hosts", "ls", "destroy", "local"):
        assert name in done.stdout


def test_help_loads_nothing_that_a_command_needs() -> None:
    script = "import sys; from pytest_vastgpu.cli.main import parser; parser(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"httpx", "paramiko", "cryptography", "yaml", "pytest"}.isdisjoint(done.stdout.split())
    ours = {name.removeprefix("pytest_vastgpu.") for name in done.stdout.split() if name.startswith("pytest_vastgpu.")}
    # The options of one command are derived: they are the fields of a workload, and options of pytest.
    derived = {"errors", "model", "option_values", "settings", "selection.requirements", "servers.workloads"}
    derived |= {"diagnosis", "diagnosis.kinds"}  # the servers that the help of `classify` lists
    derived |= {"reporting", "reporting.schemas"}  # the files that `report --schema` knows
    folders = {name.partition(".")[0] for name in ours - derived}
    assert folders <= {"cli", "core", "selection", "servers"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lss"], "vastgpu: there is no command 'lss'; did you mean ls? see `vastgpu --help`\n"),
        (["hosts", "mrge"], "vastgpu hosts: there is no command 'mrge'; did you mean merge? see `vastgpu hosts --"),
        (["reap", "--dryrun"], "vastgpu reap: does not take '--dryrun'; did you mean --dry-run? see `vastgpu reap"),
        (["classify", "--channel", "shs"], "vastgpu classify: argument --channel: there is no value 'shs'; did you"),
        (
            ["classify", "--server", "vlm"],
            "vastgpu classify: argument --server: there is no value 'vlm'; did you mean vllm",
        ),
        (
            ["classify", "--server", "qqq"],
            "vastgpu classify: argument --server: there is no value 'qqq'; there are vllm, ",
        ),
        (["classify", "--server", ""], "vastgpu classify: argument --server: there is no value ''; there are vllm, "),
        (
            ["classify", "server.log"],
            "vastgpu classify: does not take 'server.log'; it reads standard input: give a file as `< FILE`; see ",
        ),
        (["classify", "--serverr", "vllm"], "vastgpu classify: does not take '--serverr'; did you mean --server? see "),
        (["qqqqqqqqq"], "vastgpu: there is no command 'qqqqqqqqq'; there are doctor, offers, ls, "),
        (["ls\x1b[0m\n::error::x"], "vastgpu: there is no command 'ls\\x1b[0m\\n::error::x'"),
        ([], "vastgpu: the following arguments are required: COMMAND; see `vastgpu --help`\n"),
    ],
)
def test_a_wrong_word_is_told_in_one_line_with_the_nearest_one(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines(keepends=True)[0].startswith(told)


def test_serving_without_the_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_vastgpu.local.embed.find_spec", lambda name: None)
    assert main(["local"]) == 1
    assert "install them with pip install 'pytest-vastgpu[local]'" in capsys.readouterr().err


def test_what_others_call_their_machines_is_one_line_of_ls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: ScriptedServer
) -> None:
    monkeypatch.setenv("VAST_URL", server.url)
    monkeypatch.setenv("VAST_API_KEY", "k3y-0f-the-account")
    label = make_label("abcd1234", 1, time.time() + 3600)
    row = {"id": 7, "label": label, "gpu_name": "RTX\n::error::k3y-0f-the-account\x1b[0m\ud800", "dph_total": -1}
    server.will_answer({"success": True, "instances": [{**row, "start_date": 1e299}], "next_token": None})
    assert main(["ls"], UNSPACED) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert "RTX\\n: :error::<VAST_API_KEY>\\u001b[0m\\ud800" in out
    assert "instance 7: price unknown: dph_total is -1 USD/h, below 0" in out


def test_an_error_of_the_market_is_one_line_without_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: ScriptedServer
) -> None:
    monkeypatch.setenv("VAST_URL", server.url)
    monkeypatch.setenv("VAST_API_KEY", "k3y-0f-the-account")
    server.will_answer({"success": False, "error": "x", "msg": "no key k3y-0f-the-account\r::error::x"})
    assert main(["ls"], UNSPACED) == ExitCode.MARKET
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "k3y-0f" not in err


def test_machines_in_a_cache_file_are_shown_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hosts.yaml"
    assert main(["hosts", "ban", "7", "--reason", "bad\n::error::x\x1b[0m", "--host-cache", str(path)]) == 0
    assert main(["hosts", "list", "--host-cache", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\n::error" not in out


def test_the_versions_that_a_report_of_a_defect_should_tell_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    python = ".".join(map(str, sys.version_info[:3]))
    told = f"vastgpu {version('pytest-vastgpu')} (Python {python}, pytest {pytest.__version__})\n"
    assert capsys.readouterr().out == told


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for code in ExitCode:
        assert f"\n  {code:<4} {code.meaning}\n" in out


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_vastgpu.cli.run_list.all_runs", interrupted)
    assert main(["runs"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "unbuffered", "code"),
    [
        (["--help"], "", ExitCode.CLOSED),
        (["--help"], "1", ExitCode.OK),  # argparse itself makes nothing of it
        (["runs"], "", ExitCode.CLOSED),
        (["runs"], "1", ExitCode.CLOSED),
    ],
)
def test_a_reader_that_has_left_is_not_complained_about(words: list[str], unbuffered: str, code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pytest_vastgpu", *words]
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, env=environ, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pytest_vastgpu", "runs"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "vastgpu: the output cannot be written: No space left on device\n"
    assert done.returncode == ExitCode.FAILED


def test_who_rents_on_this_machine_only_needs_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    assert main(["ls", "--check"]) == ExitCode.OK
    assert main(["reap"]) == ExitCode.OK
    told = "no instance of pytest-vastgpu is alive\nruns that are over have left nothing\n"
    assert capsys.readouterr() == (told, "")


def test_a_state_directory_that_cannot_be_used_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("VAST_BACKEND", "local")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    for words in (["ls"], ["runs"]):
        assert main(words) == ExitCode.OK
    assert capsys.readouterr().err == ""
