"""The driver, run here: what it asks and sees, by a server that answers as a test says."""

from __future__ import annotations

import ast
import base64
import itertools
import json
import operator
import random
import statistics
import sys
import threading
import time
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_vastgpu import Load
from pytest_vastgpu import http_load
from pytest_vastgpu import shell
from pytest_vastgpu.client.measure import orders_of
from pytest_vastgpu.measuring.on_instance import answers
from pytest_vastgpu.measuring.on_instance import asking
from pytest_vastgpu.measuring.on_instance import driver
from tests.support.asked import Asked
from tests.support.asked import asked
from tests.support.looks import PATIENCE_S
from tests.support.looks import is_running
from tests.support.looks import refusing
from tests.support.looks import until
from tests.support.streams import STREAM
from tests.support.streams import stream


def drive(load: Load, port: int = 1, seconds: float = 0.1, **more: object) -> dict[str, Any]:
    return driver.drive({**orders_of(load, port, {"Authorization": "Bearer k-123456"}, seconds), **more})


@pytest.mark.parametrize("module", [answers, asking, driver])
def test_it_needs_python_3_8_and_the_standard_library(module: ModuleType) -> None:
    source = Path(str(module.__file__)).read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    foreign = {name for name in modules if name and name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {answers.__name__, asking.__name__}
    assert source.isascii()  # whatever encoding the instance's Python reads its input in


@pytest.mark.parametrize("module", [answers, asking, driver])
def test_it_asks_no_clock_that_can_be_set(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    asked_for = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    }
    assert asked_for - {"time"} <= {"monotonic", "process_time", "sleep"}
    assert ("time" in asked_for) == (module is driver)  # told once, for other programs whose times are on that clock


def test_a_closed_loop_keeps_so_many_under_way() -> None:
    count, most, three, lock = 0, 0, threading.Event(), threading.Lock()

    def answer(request: Asked) -> None:
        nonlocal count, most
        with lock:
            count += 1
            most = max(most, count)
            if count == 3:
                three.set()
        assert three.wait(PATIENCE_S)
        with lock:
            count -= 1
        request.reply()

    with asked(answer) as server:
        found = drive(http_load("/", concurrency=3, warmup_s=0), server.port)
    assert (most, {each["error"] for each in found["seen"]}) == (3, {""})
    assert server.connections == 3  # they are kept


def test_an_open_loop_waits_for_no_answer() -> None:
    load, come, every = http_load("/", rate=100.0, warmup_s=0, seed=3), itertools.count(1), threading.Event()
    due = driver.arrivals(orders_of(load, 1, {}, 0.1))
    assert len(due) > 3

    def answer(request: Asked) -> None:
        if next(come) == len(due):
            every.set()
        assert every.wait(PATIENCE_S)
        request.reply()

    with asked(answer) as server:
        found = drive(load, server.port)
    assert sorted(each["due"] for each in found["seen"]) == due
    assert all(each["start"] >= each["due"] for each in found["seen"])


def test_an_open_loop_comes_at_random_and_the_same_for_a_seed() -> None:
    def due(seed: int) -> list[float]:
        return driver.arrivals(orders_of(http_load("/", rate=50.0, warmup_s=2.0, seed=seed), 1, {}, 198.0))

    times = due(1)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times == due(1) != due(2)
    assert -2.0 <= times[0] < 0 < times[-1] < 198.0
    assert len(times) == pytest.approx(50 * 200, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.05)  # as a Poisson process has it


def test_what_can_no_more_be_sent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = drive(http_load("/", rate=1000.0, warmup_s=0), seconds=0.0, first_number=1)
    assert found["seen"] == []
    load = driver.Load(orders_of(http_load("/", rate=1.0), 1, {}, 0.0), 0.0)
    assert load.ask(1, 0.0)["error"] == "not sent"
    monkeypatch.setattr(driver, "GRACE_S", PATIENCE_S)
    with refusing() as port:  # one that is due just before the end, and is a moment late, is sent
        load = driver.Load(orders_of(http_load("/", rate=1.0), port, {}, 0.0), time.monotonic())
        assert load.ask(1, 0.0)["error"] == "Connection refused"


def test_a_single_error_costs_a_closed_loop_no_time() -> None:
    every = itertools.count()

    def answer(request: Asked) -> None:
        request.reply(status=200 if next(every) % 2 else 503)

    with asked(answer) as server:
        found = drive(http_load("/", warmup_s=0), server.port)
    assert {each["pause"] for each in found["seen"] if each["error"]} == {0.0}


def test_times_are_seconds_since_the_warm_up_was_over() -> None:
    with asked(lambda request: request.stream(STREAM)) as server:
        orders = orders_of(stream(), server.port, {}, 1.0)
        for begins, least, most in ((time.monotonic() + 1000, -1000, -1), (time.monotonic() - 1000, 1000, 2000)):
            load = driver.Load(orders, begins)
            seen = load.ask(1)
            load.close()
            assert least <= seen["start"] <= seen["first"] <= seen["last"] <= seen["end"] <= most


def test_no_request_is_asked_twice_so_that_no_cache_answers() -> None:
    with asked(lambda request: request.stream(STREAM)) as server:
        drive(stream(concurrency=4), server.port)
        drive(stream(concurrency=4), server.port)
    prompts = [json.loads(each.text)["prompt"] for each in server.asked]
    assert len(prompts) == len(set(prompts)) >= 8
    assert len({len(prompt) for prompt in prompts}) == 1  # and all are equally long


def test_the_request_is_the_template_with_its_number_and_the_servers_headers() -> None:
    load = http_load("/do/{n}?x=1", "<n>{n}</n>", method="PUT", headers={"Content-Type": "text/xml"}, warmup_s=0)
    with asked(lambda request: request.reply(status=201)) as server:
        seen = drive(load, server.port, first_number=7)["seen"][0]
    request = server.asked[0]
    assert (request.method, request.path, request.text) == ("PUT", "/do/7?x=1", "<n>7</n>")
    assert (request.headers["Content-Type"], request.headers["Authorization"]) == ("text/xml", "Bearer k-123456")
    assert seen["error"] == ""


def test_an_empty_object_is_a_body() -> None:
    with asked(lambda request: request.reply()) as server:
        drive(http_load("/", {}, warmup_s=0), server.port)
        drive(http_load("/", warmup_s=0), server.port)
        assert {(each.method, each.text) for each in server.asked} == {("POST", "{}"), ("GET", "")}


def test_a_kept_connection_that_the_server_closes_is_no_error() -> None:
    def answer(request: Asked) -> None:
        request.reply()
        request.close_connection = True  # and has not said so

    with asked(answer) as server:
        load = driver.Load(orders_of(http_load("/"), server.port, {}, 1.0), 0.0)
        errors = [load.ask(number)["error"] for number in range(3)]
        load.close()
    assert errors == ["", "", ""]


def test_a_server_that_is_gone_is_not_asked_thousands_of_times() -> None:
    class OverAfterSix(driver.Load):
        def ask(self, number: int, due: float | None = None) -> dict[str, Any]:
            seen = super().ask(number, due)
            if len(self.seen) == 6:
                self._ends = 0.0
            return seen

    with refusing() as port:
        load = OverAfterSix(orders_of(http_load("/"), port, {}, PATIENCE_S), time.monotonic())
        load.closed()
    assert {each["error"] for each in load.seen} == {"Connection refused"}
    pauses = [each["pause"] for each in load.seen]  # which are told: so few errors are much of the time
    assert pauses == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.0])
    slept = [after["start"] - before["end"] for before, after in itertools.pairwise(load.seen)]
    assert all(each >= pause - 0.001 for each, pause in zip(slept, pauses, strict=False))


def test_a_command_is_run_and_its_output_is_told_if_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert {each["error"] for each in drive(shell("echo fine", warmup_s=0))["seen"]} == {""}
    found = drive(shell("echo CUDA error >&2; exit 3", warmup_s=0))
    assert found["details"] == {"exit code 3": "exit code 3: CUDA error\n"}
    assert capfd.readouterr().out == ""  # which is the answer's


def test_a_command_that_does_not_end_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    load = driver.Load(orders_of(shell(f"sleep 600 & echo $! > {pid}; wait", timeout_s=0.2), 1, {}, 0.1), 0.0)

    def noted() -> str:
        assert load.ask(1)["error"] == "timeout"
        return pid.read_text() if pid.exists() else ""  # its time may be over before it has noted anything

    child = int(until(noted, lambda text: text.endswith("\n")))
    assert not until(lambda: is_running(child), operator.not_)  # what is killed takes a moment to end


def test_the_gpus_watch_runs_beside_and_is_ended(tmp_path: Path) -> None:
    watch = f"echo 'GPU 0, 5 MiB'; echo $$ > {tmp_path}/pid; exec sleep 600"
    found = drive(shell(f"until [ -s {tmp_path}/pid ]; do :; done", warmup_s=0), gpu_command=watch)
    assert (found["gpu"], len(found["gpu_at"])) == (["GPU 0, 5 MiB"], 1)
    child = int((tmp_path / "pid").read_text())
    assert not until(lambda: is_running(child), operator.not_)  # what is killed takes a moment to end


def test_it_tells_how_late_and_how_busy_it_was() -> None:
    found = drive(shell("true", warmup_s=0.1))
    assert found["lag"]
    assert min(found["lag"]) >= 0
    assert found["cpu_s"] >= 0


def test_a_driver_that_got_no_turn_while_it_counted_does_not_seem_to_be_on_time() -> None:
    monitor = driver.Monitor({"seconds": 0.0}, time.monotonic() - 1.0)
    monitor.end()
    assert monitor.lag


def unpacked(line: str) -> dict[str, Any]:
    assert line.startswith(driver.MARK)
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(line[len(driver.MARK) :])))
    return found


def test_what_is_too_long_to_be_told_loses_gaps_and_says_so() -> None:
    dice = random.Random(1)
    found = {"seen": [{"start": 1.23456789, "gaps": [dice.random() for _ in range(1024)]} for _ in range(10)]}
    whole = driver.packed(found)
    assert unpacked(whole)["thinned"] == 1
    assert unpacked(whole)["seen"][0]["start"] == 1.234568
    less = driver.packed(found, len(whole) * 3 // 10)
    assert len(less) <= len(whole) * 3 // 10
    assert (unpacked(less)["thinned"], {len(each["gaps"]) for each in unpacked(less)["seen"]}) == (4, {256})


def test_requests_that_are_too_many_to_be_told_are_counted() -> None:
    found = {"seen": [{"start": i / 7, "gaps": []} for i in range(1000)]}
    assert unpacked(driver.packed(found, 100))["too_much"] == 1000
