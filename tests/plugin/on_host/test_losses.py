"""What the end of a worker means."""

from __future__ import annotations

import pytest
from execnet.gateway_base import RemoteError

from pytest_vastgpu.client.calls import Fate
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.errors import ProvisioningFailed
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.on_host import losses
from pytest_vastgpu.plugin.on_host.losses import Ending
from pytest_vastgpu.plugin.on_host.losses import Kind
from pytest_vastgpu.plugin.on_host.losses import LostRuns
from pytest_vastgpu.reporting.sentences import failure
from pytest_vastgpu.reporting.words import words
from tests.support.factories import make_offer

GONE = Verdict(FailureClass.RUNTIME_LOST, "instance_lost", "no SSH; offline", "run it again")
OVER = Verdict(FailureClass.OWN_FAULT, "lifetime_over", "after 60 s", "raise --vast-max-lifetime")
ENDED = Verdict(FailureClass.UNKNOWN, "server_exited", "ended with exit code 137", "")


def fate(verdict: Verdict, *, excuses: bool = True) -> Fate:
    return Fate("the instance was lost", verdict, excuses, "another one")


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    ("became", "kind", "story"),
    [
        (fate(GONE), Kind.HOST, "runtime_lost: instance_lost"),
        (fate(OVER), Kind.HOST, "own_fault: lifetime_over"),
    ],
)
def test_a_host_that_is_lost_excuses_also_where_its_proxy_still_answers(
    answers: bool, became: Fate, kind: Kind, story: str
) -> None:
    ending = losses.judge(answers=answers, fate=became)
    assert (ending.kind, ending.story, ending.excuses) == (kind, story, True)
    assert ending.blames_machine == became.verdict.failure_class.blames_machine
    assert ending.verdict == became.verdict


@pytest.mark.parametrize("became", [None, fate(ENDED, excuses=False)])
def test_a_worker_that_ends_alone_has_itself_to_blame(became: Fate | None) -> None:
    assert losses.judge(answers=True, fate=became) == Ending(Kind.WORKER)
    assert not losses.judge(answers=True, fate=became).excuses


@pytest.mark.parametrize("became", [None, fate(ENDED, excuses=False)])
def test_where_the_proxy_is_silent_and_the_host_lives_the_connection_is_lost(became: Fate | None) -> None:
    ending = losses.judge(answers=False, fate=became)
    assert (ending.kind, ending.excuses) == (Kind.CONNECTION, True)
    assert "the host lives" in ending.story
    assert ending.verdict is not None
    assert (ending.verdict.reason, bool(ending.verdict.evidence)) == ("connection_lost", True)


def test_without_a_supervisor_every_host_is_lost_and_no_machine_is_to_blame() -> None:
    ending = losses.gone("the supervisor has ended\nmore")
    assert (ending.kind, ending.story, ending.blames_machine) == (Kind.HOST, "the supervisor has ended", False)


def test_a_test_runs_once_more_and_no_third_time() -> None:
    runs, ending = LostRuns(), losses.judge(answers=False, fate=fate(GONE))
    assert runs.lose("t::a", ending)
    assert not runs.lose("t::a", ending)
    assert runs.of("t::a") == [ending, ending]
    assert runs.of("t::b") == []


@pytest.mark.parametrize("kind", ["_pytest.config.exceptions.UsageError", "pytest.UsageError"])
def test_of_a_usage_error_only_its_words_are_told(kind: str) -> None:
    text = f'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n{kind}: say --gpu\n'
    assert losses.before_any_test(RemoteError(text)) == ("say --gpu", "")


def test_of_other_errors_a_traceback_without_pytests_own_frames_is_told() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/r/pluggy/_hooks.py", line 1, in call\n    return it()\n'
        '  File "/p/plugin.py", line 2, in configure\n    broken(\n    ^^^^^^\nRuntimeError: broken\nmore of it\n'
    )
    shown = text.replace('  File "/r/pluggy/_hooks.py", line 1, in call\n    return it()\n', "").rstrip()
    assert losses.before_any_test(RemoteError(text)) == ("RuntimeError: broken", shown)


def test_a_process_that_has_just_ended_has_no_words() -> None:
    assert losses.before_any_test("Not properly terminated") == ("its process has ended by itself", "")
    assert losses.before_any_test(OSError()) == ("OSError", "")


def test_the_first_line_on_a_host_that_did_not_come_has_the_verdict() -> None:
    failed = Verdict(FailureClass.WORKLOAD_FATAL, "setup_failed", "exit code 1\nmore", "mend it")
    attempt = Attempt(1, "label-1", make_offer(), 101, failed, State.WARMING, {}, 0.01, log_tail="false")
    story = failure("host 1", [attempt], said=words(Workload(HOST)))
    first, *rest = losses.no_host(ProvisioningFailed(story, [attempt])).splitlines()
    assert first == "host 1 did not become ready (1 attempt): workload_fatal: setup_failed (exit code 1)"
    assert rest == story.splitlines()[1:]
    assert rest[-2:] == ["  the last lines of its set-up:", "    | false"]
    assert losses.no_host(VastGpuError("no offers")) == "no offers"
    assert losses.no_host(Cancelled()) == "renting was called off"


def test_the_summary_tells_how_many_ran_twice_and_why() -> None:
    runs = LostRuns()
    for test in "abcde":
        runs.lose(f"t::{test}", Ending(Kind.HOST, "gone"))
    runs.lose("t::x", Ending(Kind.CONNECTION, "broken"))
    runs.lose("t::y", Ending(Kind.CONNECTION, "broken"))
    runs.without_result("t::y")
    assert runs.summary() == [
        "vastgpu: 1 test ran twice (broken): t::x",
        "vastgpu: 5 tests ran twice (gone): t::a, t::b, t::c and 2 more",
    ]
