"""The process of the market: its start, its errors, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vastgpu.cli.main import main
from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.client import as_text
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.faults.catalogue import catalogue
from tests.core.test_directories import a_link
from tests.core.test_directories import as_root
from tests.core.test_directories import open_to_all
from tests.core.test_directories import somebody_elses
from tests.support.local.api import Api
from tests.support.local.program import COMMAND
from tests.support.local.program import WITHOUT_NAMESPACES
from tests.support.local.program import announced
from tests.support.local.program import namespaces_can_be_forbidden
from tests.support.local.program import served
from tests.support.looks import is_running
from tests.support.looks import until
from tests.support.quick import only


def processes_with(word: str) -> list[int]:
    """Return the processes with this word in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if word.encode() in (folder / "environ").read_bytes() and is_running(int(folder.name)):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("number", only([signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]))
def test_a_signal_ends_the_market_and_its_instances(number: signal.Signals, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("market: {rate_limits: false}\n")
    with served("--state-dir", str(tmp_path / "state"), "--fleet", str(fleet)) as process:
        market = announced(process)
        assert market.pid == process.pid
        with Api(market) as api:
            instance_id = api.rent(1, env={"MARK": f"mark-{process.pid}-"}, onstart="sleep 1000")
            api.becomes(instance_id, actual_status="running")
            until(lambda: processes_with(f"mark-{process.pid}-"), bool)
        process.send_signal(number)
        out, complaints = process.communicate(timeout=30)
        assert (process.returncode, out, complaints) == (0, "", "")
        assert processes_with(f"mark-{process.pid}-") == []
        assert list((tmp_path / "state").glob("instances/*")) == []


@pytest.mark.parametrize("isolated", only([True], [True, False]), ids=["isolated", "not_isolated"])
def test_instances_do_not_outlive_a_market_that_is_killed(tmp_path: Path, isolated: bool) -> None:
    if not (isolated or namespaces_can_be_forbidden()):
        pytest.skip("namespaces cannot be forbidden to a process here")
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("market: {rate_limits: false}\n")
    with served("--fleet", str(fleet), within=() if isolated else WITHOUT_NAMESPACES) as process:
        market = announced(process)
        mark = f"mark-{market.pid}-"
        with Api(market) as api:
            # The first sleep is a daemon, which has left its parent.
            instance_id = api.rent(1, env={"MARK": mark}, onstart="(setsid sleep 1001 &) ; sleep 1000")
            api.becomes(instance_id, actual_status="running")
        until(lambda: len(processes_with(mark)), lambda number: number >= 3)
        os.kill(market.pid, signal.SIGKILL)
        until(lambda: processes_with(mark), lambda left: not left)


@pytest.mark.slow
def test_a_market_without_namespaces_says_so(tmp_path: Path) -> None:
    if not namespaces_can_be_forbidden():
        pytest.skip("namespaces cannot be forbidden to a process here")
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("market: {rate_limits: false}\n")
    with served("--fleet", str(fleet), within=WITHOUT_NAMESPACES) as process:
        market = announced(process)
        with Api(market) as api:
            env = {"-p 18000:18000": "1"}
            api.becomes(api.rent(1, env=env), actual_status="running")
            second = api.rent(1, env=env)
            row = until(lambda: api.show(second), lambda row: row is not None and row["actual_status"] == "created")
            assert row is not None
            assert "port 18000/tcp is already allocated to instance" in row["status_msg"]
        status = market.status()
        assert "namespaces" in status["not_isolated"]
        assert status["not_isolated"] in as_text(status)
        process.terminate()
        assert process.communicate(timeout=30)[1] == f"vastgpu: {status['not_isolated']}\n"


def test_a_market_does_not_outlive_an_owner_that_is_killed() -> None:
    script = (
        "import time; from pytest_vastgpu import LocalMarket\n"
        "with LocalMarket() as market: print(market.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_running(pid)
        owner.kill()
    until(lambda: is_running(pid), lambda still: not still)


def refused(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 cannot be used: another program has it; give another --port" in refused(
            "--port", str(port)
        )
    assert "port 99999" in refused("--port", "99999")


@pytest.mark.slow
def test_a_broken_fleet_file(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("machines:\n  - faults: [no_such_fault]\n")
    assert f"{fleet}:2: machines[0].faults[0] is wrong: unknown fault 'no_such_fault'" in refused("--fleet", str(fleet))
    assert "cannot be read" in refused("--fleet", str(tmp_path / "none.yaml"))


@pytest.mark.slow
def test_an_image_that_is_no_pair() -> None:
    assert "--image 'me/server': it must be PATTERN=COMMAND" in refused("--image", "me/server")


@pytest.mark.slow
def test_a_second_market_on_the_same_state_directory(tmp_path: Path) -> None:
    with LocalMarket(state_dir=tmp_path / "state"):
        assert "another local market uses the state directory" in refused("--state-dir", str(tmp_path / "state"))
        with pytest.raises(LocalMarketError, match=r"did not start.*another local market uses"):
            LocalMarket(state_dir=tmp_path / "state").start()
    with LocalMarket(state_dir=tmp_path / "state") as again:
        assert again.status()["alive"] == []


@pytest.mark.slow
def test_a_state_directory_with_a_long_name(tmp_path: Path) -> None:
    with LocalMarket(state_dir=tmp_path / ("long" * 30), rate_limits=False) as market, Api(market) as api:
        offer_id = api.offer_of(1)
        made = api.create(
            offer_id, runtype="ssh_direct", onstart='curl --silent "$VAST_URL/api/v0/bundles/" -XPOST -d {}'
        )
        row = api.becomes(made.json()["new_contract"], actual_status="running")
        assert row["machine_id"] == 1


@pytest.mark.slow
def test_a_place_whose_name_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / os.fsdecode(b"\xff")
    odd.mkdir()
    assert "cannot be used (its name is not text in UTF-8)" in refused("--state-dir", str(odd))
    monkeypatch.setenv("TMPDIR", str(odd))
    said = refused()
    assert "no state directory can be made (its name is not text in UTF-8): set TMPDIR to a directory of yours" in said


@pytest.mark.slow
@pytest.mark.parametrize("trap", [pytest.param(somebody_elses, marks=as_root), open_to_all, a_link])
def test_a_market_adopts_no_foreign_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: Callable[[Path], None]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    found = shared / f"vastgpu-{os.geteuid()}"
    trap(found)
    monkeypatch.setenv("TMPDIR", str(shared))
    with served() as process:
        assert process.stdout is not None
        state = Path(json.loads(process.stdout.readline())["state_dir"])
        assert found.resolve() not in state.resolve().parents
        assert not (found.is_dir() and list(found.iterdir()))
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        process.terminate()
        process.wait(60)
    assert not state.exists()


@pytest.mark.slow
def test_what_a_killed_market_has_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left = []
    for _ in range(2):
        with served() as process:
            assert process.stdout is not None
            left.append(Path(json.loads(process.stdout.readline())["state_dir"]))
            assert left[-1].parent == tmp_path / f"vastgpu-{os.geteuid()}"
    assert not left[0].exists()


@pytest.mark.slow
def test_a_state_directory_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, why in {
        "file": "Not a directory",
        "file/below": "Not a directory",
        "open": "everybody may write",
    }.items():
        assert f"state directory {tmp_path / name} cannot be used ({why}" in refused(
            "--state-dir", str(tmp_path / name)
        )


def test_a_running_market_tells_of_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{"machine_id": 5}]}) as market, Api(market) as api:
        kept = api.rent(5, label="kept", target_state="stopped")
        api.destroy(gone := api.rent(5, label="gone", target_state="stopped"))
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        assert main(["local", "status"]) == 0
        shown = capsys.readouterr().out
        alive, ended = shown[shown.index("1 alive") :].split("1 ended")
        assert f"{kept}" in alive
        assert "kept" in alive
        assert f"{gone}" in ended
        assert main(["local", "status", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [(each["id"], each["label"]) for each in told["alive"]] == [(kept, "kept")]
        monkeypatch.setenv("VAST_URL", f"{market.url}/api")
        assert main(["local", "status"]) == 1
        assert "HTTP 404: is it a local market?" in capsys.readouterr().err
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", "wrong")
        assert main(["local", "status"]) == 1
        assert "the key is not its own" in capsys.readouterr().err
    assert main(["local", "status"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_which_market_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "status"]) == 1
    assert "Set VAST_URL (or give --url) and VAST_API_KEY" in capsys.readouterr().err


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "faults"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for name, kind in catalogue().items():
        [line] = [line for line in shown if line.startswith(f"  {name}  ")]
        assert kind.description in line
        assert all(f"{parameter}: " in line for parameter in kind.parameters)
