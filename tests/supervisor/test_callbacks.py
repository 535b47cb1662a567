"""Hooks and adapters of a pytest process, called by the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.client.calls import AdapterOffer
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.text.layout import bounded
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.supervisor.callbacks import HookClient
from pytest_vastgpu.supervisor.callbacks import RemoteAdapter
from pytest_vastgpu.supervisor.callbacks import RemoteHooks
from tests.supervisor import conftest
from tests.supervisor.conftest import WITHIN_S
from tests.supervisor.conftest import Ends
from tests.support.factories import make_offer

HERE = __file__
CONFTEST = conftest.__file__
SERVER = Workload("mine", model="m")


def observation(log: str = "") -> Observation:
    result = ProbeResult("p", ProbeFailure.COMMAND, 1, "out", "", 0.1)
    return Observation({"p": result}, log, None, 12.5)


def test_an_adapter_answers_as_if_it_were_here(ends: Ends) -> None:
    ends.adapter.slow.set()
    assert (ends.mine.name, ends.mine.default_image, ends.mine.warmup_s) == ("mine", "an/image", 60.0)
    assert ends.mine.launch(SERVER, "key") == Launch("exec m", {"KEY": "key"})
    assert ends.mine.headers(SERVER, "key") == {"Authorization": "key"}
    assert ends.mine.probes(SERVER) == (Probe("p", "true"),)
    verdict = Verdict(FailureClass.INFRA_FATAL, "why", "evidence", "remedy")
    for answer in (Ready(), Warming(Progress("weights", 1, 2)), Failed(verdict)):
        ends.adapter.result = answer
        assert ends.mine.assess(SERVER, observation("log")) == answer
    assert ends.adapter.seen[-1] == observation("log")


def test_the_login_at_the_images_registry_is_sent_to_no_hook_and_no_adapter(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = replace(SERVER, model="sent", image_login="-u bob -p s3cret ghcr.io")
    seen: list[Workload] = []
    ends.caller.modify = lambda _offers, workload: seen.append(workload)
    ends.remote.offers([make_offer()], private)

    def headers(workload: Workload, _api_key: str) -> Mapping[str, str]:
        seen.append(workload)
        return {}

    monkeypatch.setattr(ends.adapter, "headers", headers)
    ends.mine.headers(private, "key")
    assert seen == [replace(private, image_login="")] * 2


def test_a_slow_one_delays_no_other(ends: Ends) -> None:
    slow = [ends.pool.submit(ends.mine.launch, SERVER, str(number)) for number in range(10)]
    for _ in slow:
        assert ends.adapter.asked.acquire(timeout=WITHIN_S)
    assert ends.mine.assess(SERVER, observation()) == Ready()
    assert ends.remote.offers([make_offer()], SERVER) == [make_offer()]
    assert not any(each.done() for each in slow)
    ends.adapter.slow.set()
    assert [each.result(WITHIN_S).env["KEY"] for each in slow] == [str(number) for number in range(10)]


def test_hooks_are_called_in_threads_of_their_own(ends: Ends) -> None:
    ends.remote.offers([make_offer()], SERVER)
    ends.remote.offers([make_offer()], SERVER)
    assert threading.get_ident() not in ends.caller.threads


@pytest.mark.parametrize("start", [lambda *_: None, lambda *_: 1 / 0])
def test_what_a_test_puts_in_the_place_of_threads_answers_nothing(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, start: Callable[..., None]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert ends.remote.offers([make_offer()], SERVER) == [make_offer()]


def test_without_another_thread_it_answers_all_the_same(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("pytest_vastgpu.client.callbacks._start", none_left)
    assert ends.remote.offers([make_offer()], SERVER) == [make_offer()]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("x" * 70_000_000), "ValueError: x"),
    ],
    ids=["huge"],
)
def test_whatever_an_exception_is_like_it_arrives(ends: Ends, error: Exception, told: str) -> None:
    ends.adapter.error = error
    with pytest.raises(HookFailed, match=told) as caught:
        ends.mine.assess(SERVER, observation())
    assert len(str(caught.value)) < 20_000


def test_an_exception_arrives_where_its_source_cannot_be_read(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.adapter.error = ValueError("wrong")
    with monkeypatch.context() as patched:
        patched.setattr("traceback.extract_tb", lambda *_: 1 / 0)
        with pytest.raises(HookFailed, match="ValueError: wrong"):
            ends.mine.assess(SERVER, observation())


def test_an_answer_that_is_too_large_is_told(ends: Ends) -> None:
    ends.adapter.result = Failed(Verdict(FailureClass.INFRA_FATAL, "why", "x" * 70_000_000, "remedy"))
    with pytest.raises(HookFailed, match="a message of 70"):
        ends.mine.assess(SERVER, observation())


# --------------------------------------------------------------------------------------------------------- observations


def test_logs_that_grow_arrive_whole_and_only_what_is_new_travels(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = messages.send

    def counted(sock: socket.socket, message: Any, largest: int) -> None:
        if sock is ends.ours:
            sent.append(len(str(message)))
        send(sock, message, largest)

    monkeypatch.setattr(messages, "send", counted)
    logs = {name: f"server {name} starts\n" + f"{name} loads its weights\n" * 4000 for name in "ab"}
    for turn in range(10):
        for name in logs:
            logs[name] += "".join(f"{name} step {turn}.{number}\n" for number in range(10))
            seen = observation(bounded(logs[name], 100_000))
            ends.mine.assess(SERVER, seen)
            assert ends.adapter.seen[-1] == seen
    assert sum(sent[:2]) > 150_000, "the first time all of it"
    assert max(sent[2:]) < 3000


def test_logs_of_many_instances_at_once_arrive_whole(ends: Ends) -> None:
    def watch(name: int) -> list[Observation]:
        log, shown = f"{name} starts\n", []
        for turn in range(20):
            log += f"{name} step {turn}\n" * 10
            shown.append(observation(log))
            ends.mine.assess(SERVER, shown[-1])
        return shown

    shown = [each.result(WITHIN_S) for each in [ends.pool.submit(watch, name) for name in range(12)]]
    seen = sorted(each.log for each in ends.adapter.seen)
    assert seen == sorted(each.log for one in shown for each in one)


# --------------------------------------------------------------------------------------------------------------- offers


@pytest.mark.parametrize(
    ("modify", "left"),
    [
        (lambda _: None, [1, 2, 3]),
        (lambda offers: offers.reverse(), [3, 2, 1]),
        (lambda offers: offers.pop(0), [2, 3]),
        (lambda offers: offers.clear(), []),
        (lambda offers: offers.append(make_offer(id=99)), [1, 2, 3]),  # the market has not offered that
    ],
)
def test_offers_come_back_as_the_hook_left_them(
    ends: Ends, modify: Callable[[list[Any]], object], left: list[int]
) -> None:
    asked: list[Workload] = []

    def hook(offers: list[Any], workload: Workload) -> None:
        asked.append(workload)
        modify(offers)

    ends.caller.modify = hook
    offers = [make_offer(id=number, machine_id=number * 10) for number in (1, 2, 3)]
    found = ends.remote.offers(offers, SERVER)
    assert [offer.id for offer in found] == left
    assert all(any(offer is own for own in offers) for offer in found)
    assert asked == [SERVER]


def test_an_outcome_is_told(ends: Ends) -> None:
    attempt = Attempt(1, "l", make_offer(), 5, None, seconds={"created": 1.0})
    ends.remote.outcome(attempt, SERVER)
    assert ends.caller.outcomes == [(attempt, SERVER)]


def test_a_hook_that_nobody_implements_is_not_asked() -> None:
    client = HookClient(WITHIN_S, lambda _: None, WITHIN_S)  # no process ever attaches to it
    remote = RemoteHooks(client, frozenset())
    offers = [make_offer()]
    assert remote.offers(offers, SERVER) == offers
    remote.outcome(Attempt(1, "l", make_offer(), 5, None), SERVER)


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_an_exception_is_told_with_where_it_was_raised(ends: Ends) -> None:
    def hook(_offers: list[Any], _workload: Workload) -> None:
        raise KeyError("vram")

    ends.caller.modify = hook
    with pytest.raises(HookFailed) as caught:
        ends.remote.offers([make_offer()], SERVER)
    said = str(caught.value)
    assert said.startswith("pytest_vastgpu_modify_offers raised KeyError: 'vram'\n")
    assert f'File "{HERE}", line ' in said
    assert 'raise KeyError("vram")' in said
    assert "client/hooks.py" not in said


class Mute(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such thing"), "Mine.assess raised ValueError: no such thing\n"),
        (ZeroDivisionError(), "Mine.assess raised ZeroDivisionError\n"),
        (KeyboardInterrupt(), "Mine.assess raised KeyboardInterrupt\n"),
        (Mute(), "Mine.assess raised Mute: its text cannot be had (ValueError)\n"),
        (SystemExit(3), "Mine.assess raised SystemExit: 3\n"),
        (pytest.fail.Exception("in a hook"), "Mine.assess raised Failed: in a hook\n"),
    ],
)
def test_an_adapter_that_raises_is_told_and_goes_on(ends: Ends, error: BaseException, told: str) -> None:
    ends.adapter.error = error
    with pytest.raises(HookFailed) as caught:
        ends.mine.assess(SERVER, observation())
    assert str(caught.value).startswith(told)
    assert CONFTEST in str(caught.value)
    ends.adapter.error = None
    assert ends.mine.assess(SERVER, observation()) == Ready()


class Stranger:
    """What no adapter may answer with."""


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (None, "None is not Ready or Warming or Failed"),
        (True, "True is not Ready or Warming or Failed"),
        (Warming("loading"), "Warming.progress: 'loading' is not Progress"),  # type: ignore[arg-type]
        (Stranger(), "is a Stranger, which cannot be handed to another process"),
        (Failed(Verdict("bad", "why")), "Failed.verdict: Verdict.failure_class: 'bad' is not FailureClass"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_of_another_type_is_told_with_what_was_wrong(ends: Ends, result: object, told: str) -> None:
    ends.adapter.result = result
    with pytest.raises(HookFailed) as caught:
        ends.mine.assess(SERVER, observation())
    said = str(caught.value)
    assert "Mine.assess" in said
    assert told in said
    assert "codec.py" not in said, "our own code is nobody's concern"


@pytest.mark.parametrize("left", [{"id": 1}, None, make_offer(id="1")])
def test_offers_that_are_none_are_told(ends: Ends, left: object) -> None:
    ends.caller.modify = lambda offers, _: offers.append(left)
    with pytest.raises(HookFailed, match="pytest_vastgpu_modify_offers"):
        ends.remote.offers([make_offer()], SERVER)


@pytest.mark.parametrize("largest", [5000])
def test_what_is_too_large_is_told_to_whoever_asked(ends: Ends) -> None:
    ends.adapter.result = Warming(Progress("x" * 6000))
    with pytest.raises(HookFailed, match=r"Mine\.assess gave an answer that is too large"):
        ends.pool.submit(ends.mine.assess, SERVER, observation()).result(WITHIN_S)
    with pytest.raises(HookFailed, match=r"assess\(\) of the adapter 'mine' cannot be asked: a message of 6"):
        ends.mine.assess(SERVER, observation("x" * 6000))
    ends.adapter.result = Ready()
    assert ends.mine.assess(SERVER, observation()) == Ready()


def test_a_question_that_nobody_understands_is_answered_all_the_same(ends: Ends) -> None:
    nobody = RemoteAdapter(AdapterOffer("nobody", "an/image", 60.0, "nowhere"), ends.client)
    with pytest.raises(HookFailed, match="KeyError: 'nobody'"):
        ends.pool.submit(nobody.headers, SERVER, "key").result(WITHIN_S)
    assert ends.mine.headers(SERVER, "key") == {"Authorization": "key"}


def test_a_test_that_patches_threads_is_no_concern_of_hooks(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", None)
    monkeypatch.setattr(threading, "Thread", None)
    assert ends.mine.headers(SERVER, "key") == {"Authorization": "key"}


def test_an_answer_that_does_not_come_is_told_once_and_waited_for(impatient: Ends) -> None:
    impatient.attach()
    asked = impatient.pool.submit(impatient.mine.launch, SERVER, "key")
    assert impatient.told_now.wait(WITHIN_S)
    assert not asked.done()
    impatient.adapter.slow.set()
    assert asked.result(WITHIN_S).env == {"KEY": "key"}
    (told,) = impatient.told
    assert told.startswith("launch() of the adapter 'mine' has not answered for 0.02 s, and is waited for")


def test_a_hook_that_does_not_answer_is_told_by_its_name(impatient: Ends) -> None:
    impatient.attach()
    go_on = threading.Event()
    impatient.caller.modify = lambda _offers, _workload: (go_on.wait(WITHIN_S), None)[1]
    asked = impatient.pool.submit(impatient.remote.offers, [make_offer()], SERVER)
    assert impatient.told_now.wait(WITHIN_S)
    go_on.set()
    assert asked.result(WITHIN_S) == [make_offer()]
    assert impatient.told[0].startswith("pytest_vastgpu_modify_offers has not answered for 0.02 s")


# -------------------------------------------------------------------------------------------------------------- the end


def cancelled(asked: Future[Any]) -> bool:
    return isinstance(asked.exception(WITHIN_S), Cancelled)


def test_the_end_of_the_run_ends_all_waits(ends: Ends) -> None:
    asked = [ends.pool.submit(ends.mine.launch, SERVER, "key") for _ in range(3)]
    for _ in asked:
        assert ends.adapter.asked.acquire(timeout=WITHIN_S)
    ends.client.cancel()
    assert all(map(cancelled, asked))
    with pytest.raises(Cancelled):
        ends.mine.headers(SERVER, "key")
    ends.remote.outcome(Attempt(1, "l", make_offer(), 5, None), SERVER)  # the pytest process is gone


def test_the_end_of_the_run_ends_the_wait_for_a_pytest_that_never_attached() -> None:
    ends = Ends()
    asked = ends.pool.submit(ends.mine.launch, SERVER, "key")
    ends.client.cancel()
    assert cancelled(asked)
    ends.close()


def test_who_asks_before_pytest_has_attached_waits_for_it(ends: Ends) -> None:
    late = Ends()
    late.adapter.slow.set()
    asked = late.pool.submit(late.mine.launch, SERVER, "key")
    late.attach()
    assert asked.result(WITHIN_S).env == {"KEY": "key"}
    late.close()


def test_the_end_of_pytest_ends_all_waits(ends: Ends) -> None:
    asked = ends.pool.submit(ends.mine.launch, SERVER, "key")
    assert ends.adapter.asked.acquire(timeout=WITHIN_S)
    ends.theirs.shutdown(socket.SHUT_RDWR)
    assert cancelled(asked)
    assert ends.attached is not None
    ends.attached.result(WITHIN_S)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_pytest_that_is_stopped_keeps_the_end_from_nothing() -> None:
    """Although so much was sent that it does not take any more."""
    ends = Ends(within_s=10 * WITHIN_S)
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    attached = ends.pool.submit(ends.client.attach, ends.ours)
    asked = [ends.pool.submit(ends.mine.assess, SERVER, observation("x" * 1_000_000)) for _ in range(3)]
    ended = ends.pool.submit(ends.client.cancel)
    try:
        ended.result(WITHIN_S)
        assert all(map(cancelled, asked))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ends.close()
        attached.result(WITHIN_S)
