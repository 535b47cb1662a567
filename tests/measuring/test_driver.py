"""The driver, run here: what it asks and sees, by a server that answers as a test says."""

from __future__ import annotations

import ast
import base64
import itertools
import json
import operator
import random
import socket
import statistics
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu import Load
from pytest_vastgpu import chat
from pytest_vastgpu import completions
from pytest_vastgpu import http_load
from pytest_vastgpu import kserve
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

ROLE = 'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
STOP = 'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n'
DONE = "data: [DONE]\n\n"
DEEP = pytest.param("[" * 100_000, id="deep")
FORMLESS = "no answer of OpenAI's form"


def text(said: str, key: str = "text") -> str:
    choice = {"text": said} if key == "text" else {"delta": {key: said}}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def usage(tokens: int) -> str:
    return f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': tokens}})}\n\n"


INFER = kserve("add", [{"name": "x"}])
STREAM = (text("A"), text(" ship"), STOP, usage(3), DONE)


def used(tokens: object) -> str:
    return f'"usage": {{"completion_tokens": {tokens}}}'


def drive(load: Load, port: int = 1, seconds: float = 0.1, **more: object) -> dict[str, Any]:
    return driver.drive({**orders_of(load, port, {"Authorization": "Bearer k-123456"}, seconds), **more})


def stream(**pace: Any) -> Load:
    return completions("Ask {n}", model="m", **{"warmup_s": 0, **pace})


def once(answer: Any, load: Load | None = None) -> dict[str, Any]:
    """What is seen of the first request that a server answers so."""
    with asked(answer) as server:
        made = driver.Load(orders_of(load or stream(), server.port, {}, 1.0), 0.0)
        seen = made.ask(1)
        made.close()
    return {**seen, "detail": made.details.get(seen["error"], "")}


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


def test_what_can_no_more_be_sent_is_said() -> None:
    found = drive(http_load("/", rate=1000.0, warmup_s=0), seconds=0.0, first_number=1)
    assert found["seen"] == []
    load = driver.Load(orders_of(http_load("/", rate=1.0), 1, {}, 0.0), 0.0)
    assert load.ask(1, 0.0)["error"] == "not sent"
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


def test_a_stream_is_read_piece_by_piece_and_counted_by_the_server() -> None:
    seen = once(lambda request: request.stream([ROLE, text("A"), text(" big ship"), STOP, usage(4), DONE]))
    assert (seen["error"], seen["pieces"], len(seen["gaps"])) == ("", 2, 1)
    assert (seen["tokens"], seen["counted"]) == (4, "usage")  # a piece may hold several
    assert seen["start"] <= seen["first"] <= seen["last"] <= seen["end"]


@pytest.mark.parametrize("key", ["text", "content", "reasoning_content", "reasoning", "tool_calls"])
def test_whatever_a_model_says_is_a_token(key: str) -> None:
    seen = once(lambda request: request.stream([ROLE, text("A", key), text("B", key), DONE]))
    assert (seen["error"], seen["pieces"], seen["tokens"], seen["counted"]) == ("", 2, 2, "pieces")


def test_a_model_that_ends_at_once_has_made_one_token() -> None:
    seen = once(lambda request: request.stream([STOP, usage(1), DONE]))
    assert (seen["error"], seen["tokens"], seen["gaps"]) == ("", 1, [])
    assert seen["start"] <= seen["first"] == seen["last"] <= seen["end"]


def test_a_piece_came_when_its_bytes_did() -> None:
    """However late it is read: here all are read after the last has come."""
    stamped = SimpleNamespace(at=0.0)
    parts = iter([(1.0, text("A")), (2.5, text("B")[:9]), (3.0, text("B")[9:] + text("C")), (4.0, DONE), (4.0, "")])

    def read1(_: int) -> bytes:
        stamped.at, part = next(parts)
        return part.encode()

    seen: dict[str, Any] = {"first": None, "last": None, "gaps": [], "tokens": 0, "counted": "", "pieces": 0}
    answers._read_stream(SimpleNamespace(read1=read1, stamped=stamped), seen, "chat")
    assert (seen["first"], seen["last"], seen["gaps"]) == (1.0, 3.0, [2.0, 0.0])


@pytest.mark.parametrize(
    ("answer", "error", "detail"),
    [
        (lambda request: request.reply("too busy", 503), "HTTP 503", "HTTP 503: too busy"),
        (lambda request: request.reply('{"choices": []}'), "no stream", 'no stream of events: {"choices": []}'),
        (lambda request: request.stream([text("A")], ended=False), "IncompleteRead", "IncompleteRead"),
        (lambda request: request.stream([text("A")]), "broken stream", "broke off after 1 pieces"),
        (lambda request: request.stream([usage(0), DONE]), "no token", "the answer held no token"),
        (lambda request: request.stream(["data: {oops\n\n"]), "no JSON", "{oops"),
        (lambda request: request.stream(['data: {"error": {"code": 1}}\n\n']), "error in the stream", '{"code": 1}'),
        (lambda request: request.stream(['data: {"choices": "abc"}\n\n']), FORMLESS, '{"choices": "abc"}'),
        (lambda request: request.stream(['data: {"choices": [1]}\n\n']), FORMLESS, '{"choices": [1]}'),
        (lambda request: request.stream(['data: {"choices": [{"delta": [1]}]}\n\n']), FORMLESS, "[1]"),
        (lambda request: request.stream(['data: {"usage": [5]}\n\n']), FORMLESS, '{"usage": [5]}'),
        (lambda request: request.stream(["data: [1]\n\n"]), FORMLESS, "OpenAI's form: [1]"),
        (lambda request: request.stream([f"data: {'[' * 100_000}\n\n"]), "no JSON", "[["),
        (
            lambda request: request.stream(["data: ", *["x" * 100_000] * 11]),
            "too long",
            "a line of the stream is longer",
        ),
    ],
)
def test_what_is_no_answer_is_an_error_with_a_reason(answer: Any, error: str, detail: str) -> None:
    seen = once(answer)
    assert seen["error"] == error
    assert detail in seen["detail"]


def test_an_answer_as_a_whole_has_the_servers_count_of_tokens_if_it_tells() -> None:
    counted = once(lambda request: request.reply(f'{{"choices": [{{}}], {used(5)}}}'), stream(stream=False))
    silent = once(lambda request: request.reply("[1]"), http_load("/", warmup_s=0))
    assert (counted["error"], counted["tokens"], counted["counted"], counted["first"]) == ("", 5, "usage", None)
    assert (silent["error"], silent["tokens"], silent["counted"]) == ("", 0, "")


@pytest.mark.parametrize("tokens", ["-4", "true", pytest.param("9" * 400, id="long"), "1e3", '"5"', "null"])
def test_a_number_of_tokens_that_none_can_be_does_not_count(tokens: str) -> None:
    whole = once(lambda request: request.reply(f'{{"choices": [{{}}], {used(tokens)}}}'), stream(stream=False))
    pieces = once(lambda request: request.stream([text("A"), text("B"), f"data: {{{used(tokens)}}}\n\n", DONE]))
    assert (whole["error"], whole["tokens"], whole["counted"]) == ("", 0, "")
    assert (pieces["error"], pieces["tokens"], pieces["counted"]) == ("", 2, "pieces")


@pytest.mark.parametrize("body", ["<html>", '{"error": {"code": 1}}', '{"choices": []}', "[1]", "", DEEP])
@pytest.mark.parametrize(
    ("load", "whose"), [(stream(stream=False), "OpenAI"), (chat(model="m", stream=False), "OpenAI"), (INFER, "KServe")]
)
def test_an_answer_as_a_whole_that_is_no_answer_is_an_error(load: Load, whose: str, body: str) -> None:
    seen = once(lambda request: request.reply(body), load)
    assert seen["error"] == f"no answer of {whose}'s form"
    assert body[:20] in seen["detail"]
    assert once(lambda request: request.reply(body), http_load("/"))["error"] == ""


def test_an_answer_that_breaks_off_is_an_error() -> None:
    def cut(request: Asked) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        request.close_connection = True

    assert once(cut, http_load("/"))["error"] == "IncompleteRead"


def test_an_answer_that_is_not_read_for_what_it_says_may_be_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 1 << 21)
    for load, error in ((http_load("/"), ""), (INFER, "too long"), (stream(stream=False), "too long")):
        assert once(lambda request: request.reply(" " * (3 << 20)), load)["error"] == error
    events = [f": {'x' * 100_000}\n\n"] * 25
    assert once(lambda request: request.stream(events))["detail"] == "the stream is longer than 2 MiB"


def forever(*said: str) -> Callable[[Asked], None]:
    """An answer that goes on and on."""
    return lambda request: request.stream(itertools.chain.from_iterable(itertools.repeat(said)))


def go_on(request: Asked) -> None:
    while True:
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.parametrize("load", [stream(timeout_s=0.1), http_load("/", timeout_s=0.1)])
@pytest.mark.parametrize("answer", [forever(": ping\n\n"), forever(text("A")), forever("x\n" * 100), go_on])
def test_an_answer_that_never_ends_is_over_when_its_time_is(answer: Callable[[Asked], None], load: Load) -> None:
    """Although there is always something to read."""
    seen = once(answer, load)
    assert (seen["error"], seen["detail"]) == ("timeout", "no complete answer within 0.1 s")
    assert seen["gaps"] == []  # of which there were thousands


def test_bytes_that_are_there_when_the_time_is_over_do_not_prolong_it() -> None:
    """However many: none of them is read."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=0) as raw:
        theirs.sendall(b"x" * 1000)
        with pytest.raises(TimeoutError):
            asking._Stamped(raw, ours, time.monotonic()).readinto(bytearray(10))


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
    with refusing() as port:
        found = drive(http_load("/", concurrency=2, warmup_s=0), port, 0.3)
    assert {each["error"] for each in found["seen"]} == {"Connection refused"}
    assert len(found["seen"]) < 20
    assert max(each["pause"] for each in found["seen"]) >= 0.05  # which is told: so few errors are much of the time


def test_a_command_is_run_and_its_output_is_told_if_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert {each["error"] for each in drive(shell("echo fine", warmup_s=0))["seen"]} == {""}
    found = drive(shell("echo CUDA error >&2; exit 3", warmup_s=0))
    assert found["details"] == {"exit code 3": "exit code 3: CUDA error\n"}
    assert capfd.readouterr().out == ""  # which is the answer's


def test_a_command_that_does_not_end_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    load = shell(f"sleep 600 & echo $! > {tmp_path}/pid; wait", timeout_s=0.2, warmup_s=0)
    found = drive(load)
    assert {each["error"] for each in found["seen"]} == {"timeout"}
    child = int((tmp_path / "pid").read_text())
    assert not until(lambda: is_running(child), operator.not_)  # what is killed takes a moment to end


def test_the_gpus_watch_runs_beside_and_is_ended(tmp_path: Path) -> None:
    watch = f"echo $$ > {tmp_path}/pid; echo 'GPU 0, 5 MiB'; exec sleep 600"
    found = drive(shell(f"until [ -s {tmp_path}/pid ]; do :; done", warmup_s=0), gpu_command=watch)
    assert (found["gpu"], len(found["gpu_at"])) == (["GPU 0, 5 MiB"], 1)
    child = int((tmp_path / "pid").read_text())
    assert not until(lambda: is_running(child), operator.not_)  # what is killed takes a moment to end


def test_it_tells_how_late_and_how_busy_it_was() -> None:
    found = drive(shell("true", warmup_s=0.1))
    assert found["lag"]
    assert min(found["lag"]) >= 0
    assert found["cpu_s"] >= 0


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
