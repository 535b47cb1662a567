"""How the driver gets to an instance, and its answer back. The "instance" is a shell on this machine."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu import ConfigurationError
from pytest_vastgpu import Measurement
from pytest_vastgpu import MeasurementFailed
from pytest_vastgpu import completions
from pytest_vastgpu import http_load
from pytest_vastgpu import shell
from pytest_vastgpu.client.calls import Lease
from pytest_vastgpu.client.measure import measure
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.errors import LoadNotRun
from pytest_vastgpu.measuring import gpu
from pytest_vastgpu.measuring.on_instance import driver
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from tests.support.asked import Asked
from tests.support.asked import asked
from tests.support.driven import asked as asked_once
from tests.support.driven import steady
from tests.support.factories import make_offer
from tests.support.looks import PATIENCE_S

RECORDED = Path(__file__).parents[1] / "measuring" / "data" / "vllm_bench_serve-0.32.0.json"
KEY = "sk-instance-0123456789"
FAST: dict[str, Any] = {"warmup_s": 0.0, "timeout_s": 30.0}
"""The first request counts."""
Run = Callable[[str, float, str], ProbeResult]


def here(path: Path | str = os.environ["PATH"], home: Path = Path("/nowhere")) -> Run:
    """Commands run here; no program is found but those of ``path``, and what it is told is not in its environment."""

    def run(command: str, timeout_s: float, stdin: str) -> ProbeResult:
        assert KEY not in command  # which a process list shows
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=stdin,
            env={"PATH": str(path), "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        failure = ProbeFailure.COMMAND if done.returncode else ProbeFailure.NONE
        return ProbeResult("", failure, done.returncode, done.stdout, done.stderr, 0.0)

    return run


def briefly(run: Run) -> Run:
    """The load ends after half a second. What is measured is much longer, so that all of it counts, however late it is
    sent on a busy machine.
    """

    def brief(command: str, timeout_s: float, stdin: str) -> ProbeResult:
        *before, orders = stdin.splitlines()
        return run(command, timeout_s, "\n".join([*before, json.dumps({**json.loads(orders), "seconds": 0.5}), ""]))

    return brief


def lease(port: int = 1) -> Lease:
    headers = {"Authorization": f"Bearer {KEY}"}
    return Lease("label", 1, make_offer(), "http://127.0.0.1:1", headers, api_key=KEY, port=port)


def programs(there: Path, **scripts: str) -> Path:
    """A directory of programs, with those that the search for a Python itself needs."""
    there.mkdir()
    for name in ("head",):
        (there / name).symlink_to(str(shutil.which(name)))
    for name, script in scripts.items():
        (there / name.replace("_", ".")).write_text(f"#!/bin/sh\n{script}\n")
        (there / name.replace("_", ".")).chmod(0o755)
    return there


def python_3_8() -> str:
    """The oldest Python that makes a load; empty where this machine has none."""
    for found in (shutil.which("python3.8"), *sorted(Path("~/.pyenv/versions").expanduser().glob("3.8.*/bin/python3"))):
        with contextlib.suppress(OSError):
            if found and not subprocess.run([found, "-c", ""], capture_output=True).returncode:
                return str(found)
    return ""


def measured(run: Run) -> Measurement:
    with asked(answer_with_two_tokens) as server:
        found = measure(briefly(run), lease(server.port), completions(model="m", **FAST), PATIENCE_S)
    assert {each.headers["Authorization"] for each in server.asked} == {f"Bearer {KEY}"}
    return found


def test_a_server_is_measured_by_the_python_that_is_there() -> None:
    found = measured(here())
    assert found["requests"].value > 0
    assert found["errors"].value == 0
    assert found.load == completions(model="m", **FAST)


PYTHON_3_8 = python_3_8()  # now: a test has another home


@pytest.mark.skipif(not PYTHON_3_8, reason="no Python 3.8 on this machine")
def test_python_3_8_is_new_enough(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", python3=f'exec {PYTHON_3_8} "$@"')
    assert measured(here(path))["requests"].value > 0


@pytest.mark.slow
def test_a_python_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    """As on an image that has one of its own beside the system's."""
    old = '[ "$1" = -V ] && echo Python 3.6.9; exit 1'
    path = programs(tmp_path / "bin", python3=old, python3_11=f'exec {sys.executable} "$@"')
    found = measure(briefly(here(path)), lease(), shell("/bin/sleep 0.1", **FAST), PATIENCE_S)
    assert found["requests"].value > 0


@pytest.mark.parametrize(
    ("scripts", "there"),
    [({}, "which has none;"), ({"python3": '[ "$1" = -V ] && echo Python 3.6.9; exit 1'}, "(python3: Python 3.6.9);")],
)
def test_an_instance_without_python_is_said(tmp_path: Path, scripts: dict[str, str], there: str) -> None:
    run = here(programs(tmp_path / "bin", **scripts))
    with pytest.raises(MeasurementFailed, match=r"Python 3\.8 or newer.*apt-get install -y python3") as caught:
        measure(run, lease(), shell("true"), 1.0)
    assert there in str(caught.value)


@pytest.mark.parametrize("failure", [each for each in ProbeFailure if each is not ProbeFailure.NONE])
def test_a_load_that_did_not_run_is_told_from_a_driver_that_failed(failure: ProbeFailure) -> None:
    def run(_command: str, _timeout_s: float, _stdin: str) -> ProbeResult:
        return ProbeResult("", failure, 1 if failure is ProbeFailure.COMMAND else None, "", "Socket is closed", 0.0)

    with pytest.raises(MeasurementFailed, match="the load did not run on the instance: Socket is closed") as caught:
        measure(run, lease(), http_load("/"), 1.0)
    assert isinstance(caught.value, LoadNotRun) is (failure not in (ProbeFailure.COMMAND, ProbeFailure.TIMEOUT))


@pytest.mark.slow
def test_what_the_image_has_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is called as one of the standard library, and what is printed at each login."""
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)

    def run(command: str, timeout_s: float, stdin: str) -> ProbeResult:
        return here()(f"echo Welcome; {command}", timeout_s, stdin)

    found = measure(briefly(run), lease(), shell("/bin/sleep 0.1", **FAST), PATIENCE_S)
    assert found["requests"].value > 0


def test_the_instances_key_is_in_no_message() -> None:
    with (
        asked(lambda request: request.reply(f"wrong key {request.headers['Authorization']}", 401)) as server,
        pytest.raises(MeasurementFailed, match=r"HTTP 401: wrong key Bearer <instance key>") as caught,
    ):
        measure(briefly(here()), lease(server.port), http_load("/", **FAST), PATIENCE_S)
    assert KEY not in str(caught.value)


def test_a_key_in_a_loads_headers_is_hidden_in_every_report() -> None:
    load = http_load("/", headers={"X-Api-Key": "k3y-of-the-user", "Authorization": "Bearer t0k3n-of-the-user"})
    failed = ProbeResult("", ProbeFailure.COMMAND, 1, "", "", 0.0)
    with pytest.raises(MeasurementFailed):
        measure(lambda *_: failed, lease(), load, 1)
    assert KNOWN(repr(load.headers)) == "{'X-Api-Key': '<X-Api-Key>', 'Authorization': 'Bearer <Authorization>'}"


def test_a_dummy_key_hides_no_other_text_and_a_commands_password_is_hidden() -> None:
    failed = ProbeResult("", ProbeFailure.COMMAND, 1, "", "", 0.0)
    command = shell("bench --passwd s3kr3t-in-arg-4")
    for load in (http_load("/", headers={"Authorization": "Bearer test"}), command):
        with pytest.raises(MeasurementFailed):
            measure(lambda *_: failed, lease(), load, 1)
    assert KNOWN("test_speed.py::test_speed") == "test_speed.py::test_speed"
    assert "s3kr3t" not in KNOWN(command.path)


@pytest.mark.parametrize("load", ["completions", None, {"kind": "http"}])
def test_what_is_no_load_is_a_usage_error(load: Any) -> None:
    def never(*asked_for: object) -> ProbeResult:
        raise AssertionError(asked_for)

    with pytest.raises(ConfigurationError, match=r"a load is of another type than .*; completions\(model=…\) and"):
        measure(never, lease(), load, 1)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "10", 100_000])
def test_seconds_that_no_measurement_can_have_are_a_usage_error(seconds: float) -> None:
    def never(*asked_for: object) -> ProbeResult:
        raise AssertionError(asked_for)

    with pytest.raises(ConfigurationError, match=r"measure\(…, seconds=.*: give seconds above 0, 3600 at most"):
        measure(never, lease(), shell("true"), seconds)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ProbeResult("", ProbeFailure.TIMEOUT, None, "", "", 0.0), "it did not end in time"),
        (
            ProbeResult("", ProbeFailure.TRANSPORT, None, "", "the SSH connection broke", 0.0),
            "the SSH connection broke",
        ),
        (ProbeResult("", ProbeFailure.COMMAND, 1, "", "Traceback\nMemoryError", 0.0), "MemoryError"),
        (ProbeResult("", ProbeFailure.COMMAND, 137, "", "", 0.0), "exit code 137"),
        (
            ProbeResult("", ProbeFailure.NONE, 0, "Welcome!\n", "", 0.0),
            "printed no result; its output ends with 'Welcome!",
        ),
    ],
)
def test_a_driver_that_tells_nothing_is_said(result: ProbeResult, said: str) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        measure(lambda *asked_for: result, lease(), shell("true"), 1.0)
    assert said in str(caught.value)


@pytest.mark.parametrize(("cpu_s", "busy"), [(0.9, True), (0.1, False)])
def test_a_driver_that_is_busy_is_told(cpu_s: float, busy: bool) -> None:
    seen = {"seen": steady(1.0), "details": {}, "gpu_at": [], "gpu": [], "cpu_s": cpu_s}
    told = driver.MARK + base64.b64encode(zlib.compress(json.dumps(seen).encode())).decode()
    result = ProbeResult("", ProbeFailure.NONE, 0, told, "", 0.0)
    assert measure(lambda *asked_for: result, lease(), http_load("/"), 1.0).driver_busy is busy


def test_the_gpus_are_watched_and_what_they_and_tokens_cost_is_told() -> None:
    told: list[dict[str, Any]] = []
    requests = [asked_once(at / 20, ttft=0.01, gaps=(0.01,) * 3) for at in range(200)]
    lines = [(at + 0.5, "0, 1000, 40, 100, 1500, 0x40") for at in range(10)]
    found = {"seen": requests, "gpu": [line for _, line in lines], "gpu_at": [moment for moment, _ in lines]}

    def run(command: str, timeout_s: float, stdin: str) -> ProbeResult:
        told.append(json.loads(stdin.splitlines()[-1]))
        return ProbeResult("", ProbeFailure.NONE, 0, driver.packed(found), "", 0.0)

    measured = measure(run, lease(), completions(model="m"), 10.0)
    assert told[0]["gpu_command"] == gpu.COMMAND
    assert measured["energy"].value == 1000
    assert measured["energy_per_token"].value == pytest.approx(100 / 80, rel=0.01)
    price = make_offer().price_usd_h / 3600 / 80 * 1e6
    assert measured["usd_per_million_tokens"].value == pytest.approx(price, rel=0.01)
    assert "its hardware is too hot" in measured.hardware_problem


def test_no_number_of_a_request_comes_twice() -> None:
    """Whether a measurement tells how many it had, or fails; two at the same time, too."""
    begun: list[int] = []

    def run(command: str, timeout_s: float, stdin: str) -> ProbeResult:
        begun.append(json.loads(stdin.splitlines()[-1])["first_number"])
        if len(begun) == 2:
            return ProbeResult("", ProbeFailure.TRANSPORT, None, "", "", 0.0)
        if len(begun) == 3:
            measure(run, lease(), http_load("/"), 10.0)
        found = {"seen": [asked_once(at / 20) for at in range(200)], "gpu": [], "gpu_at": []}
        return ProbeResult("", ProbeFailure.NONE, 0, driver.packed(found), "", 0.0)

    measure(run, lease(), http_load("/"), 10.0)
    with pytest.raises(MeasurementFailed):
        measure(run, lease(), http_load("/"), 10.0)
    measure(run, lease(), http_load("/"), 10.0)
    measure(run, lease(), http_load("/"), 10.0)
    used = sorted((first - begun[0]) % 8_000_000 for first in begun)
    assert used[:2] == [0, 200]
    assert all(after - before >= 200 for before, after in itertools.pairwise(used))
    assert all(1_000_000 <= first < 9_000_000 for first in begun)


def answer_with_two_tokens(request: Asked) -> None:
    events = [f"data: {json.dumps({'choices': [{'text': text}]})}\n\n" for text in ("A", " ship")]
    request.stream([*events, 'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n', "data: [DONE]\n\n"])


@pytest.mark.slow
def test_another_driver_makes_the_load_once_ours_has_warmed_the_server(tmp_path: Path) -> None:
    """It has the server's environment, and so is found where the server's programs are."""
    path = programs(tmp_path / "bin", python3=f'exec {sys.executable} "$@"')
    told = f'echo "$OPENAI_API_KEY" > {tmp_path}/key; exec cp {RECORDED} results/vllm.json'
    theirs = programs(tmp_path / "theirs", vllm=told)
    (tmp_path / ".vastgpu").mkdir()
    load = completions(model="tiny", driver="vllm bench serve", most_errors=0.5, **FAST)
    (tmp_path / ".vastgpu" / "env.sh").write_text(f"export PATH={theirs}:$PATH OPENAI_API_KEY=another")
    with asked(answer_with_two_tokens) as server:
        found = measure(here(f"{path}:/usr/bin:/bin", tmp_path), lease(server.port), load, 1.0)
    assert found.load == load
    assert found["tpot_p50"].value > 0.005  # which is theirs: our server takes no time
    assert server.asked
    assert (tmp_path / "key").read_text() == f"{KEY}\n"


@pytest.mark.slow
def test_another_driver_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", python3=f'exec {sys.executable} "$@"')
    load = completions(model="tiny", driver="aiperf", **FAST)
    with (
        asked(answer_with_two_tokens) as server,
        pytest.raises(
            MeasurementFailed, match=r"aiperf is not on the instance: .*setup='pip install aiperf'.*not found"
        ),
    ):
        measure(here(f"{path}:/usr/bin:/bin"), lease(server.port), load, 1.0)
