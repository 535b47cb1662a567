"""Boots as they were seen on real hosts, replayed on a virtual clock: one look every five seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_vastgpu.diagnosis.verdicts import classify
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.boot_progress import BootHistory
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample
from tests.support.vast import make_status

BUDGET_S = 900.0
Moment = Callable[[int], tuple[str, float, str]]
"""From seconds since create to (status text, disk in GB, container log)."""

PULLING = "5f70bf18a086: Pull complete"


def judge(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)


def outcome(moment: Moment, running_at_s: int = 10_000) -> tuple[int, str]:
    """When the wait was over, and why: ``running``, or the reason of the verdict."""
    history = BootHistory(judge)
    for at_s in range(0, 3600, 5):
        text, disk_gb, log = moment(at_s)
        status = make_status(actual_status="loading", status_msg=text, disk_usage_gb=disk_gb)
        if at_s >= running_at_s:
            status = make_status(actual_status="running", ssh_host="ssh5.vast.ai", ssh_port=12345)
        asked = history.wants_log(float(at_s))
        history.add(StatusSample(float(at_s), status, log if asked else ""))
        step = give_up.judge_boot(history, BUDGET_S)
        if isinstance(step, give_up.Connect):
            return at_s, "running"
        if isinstance(step, give_up.GiveUp):
            return at_s, step.verdict.reason
    raise AssertionError("it waits for ever")


def text_until(*rows: tuple[int, str]) -> Moment:
    """Status texts, each until a time; the last one stays. No disk, no log."""
    return lambda at_s: (next((text for until, text in rows if at_s < until), rows[-1][1]), -1.0, "")


@pytest.mark.parametrize(
    ("moment", "running_at_s"),
    [
        pytest.param(text_until((10, ""), (15, "img: Pulling fs layer")), 30, id="cached image, 30 s"),
        pytest.param(
            text_until(
                (20, ""),
                (60, "img: Pulling fs layer"),
                (120, PULLING),
                (250, "Get:12 http://archive.ubuntu.com jammy/main openssh-server"),
                (300, "Successfully loaded img"),
            ),
            355,
            id="cold host on a good link, 355 s",
        ),
        pytest.param(text_until((60, "img: Pulling fs layer"), (61, PULLING)), 635, id="silent for 574 s, then runs"),
        pytest.param(lambda at_s: (PULLING, at_s * 0.02, ""), 780, id="text still, disk grows for 13 minutes"),
        pytest.param(
            lambda at_s: (PULLING, 4.0, "".join(f"unpacking part {chr(97 + n)}\n" for n in range(at_s // 200))),
            780,
            id="text and disk still, new lines of log",
        ),
        pytest.param(lambda at_s: (PULLING, at_s * 0.02, ""), 1200, id="slow link: beyond the budget, still growing"),
    ],
)
def test_a_healthy_boot_is_waited_for(moment: Moment, running_at_s: int) -> None:
    assert outcome(moment, running_at_s) == (running_at_s, "running")


@pytest.mark.parametrize(
    ("moment", "over_at_s", "reason"),
    [
        pytest.param(text_until((1, "")), 300, "boot_stalled", id="dead host: no text, nothing grows"),
        pytest.param(text_until((60, PULLING)), 600, "boot_stalled", id="pulled once, then nothing for ten minutes"),
        pytest.param(
            lambda at_s: (f"error: odd thing, attempt {at_s}", 1.0 if at_s else 0.0, ""),
            605,
            "boot_stalled",
            id="the same error in a loop is no progress",
        ),
        pytest.param(
            lambda at_s: (PULLING, -1.0, "".join(f"{n:03}: retrying in {n} s\n" for n in range(at_s))),
            720,
            "boot_stalled",
            id="the same line of log in a loop is one line",
        ),
        pytest.param(
            lambda at_s: (("img: Pulling fs layer", PULLING)[at_s // 5 % 2], -1.0, ""),
            605,
            "boot_stalled",
            id="a text that flaps is no progress",
        ),
        pytest.param(lambda at_s: (PULLING, at_s * 0.02, ""), 1350, "boot_timeout", id="for ever growing: hard cap"),
        pytest.param(
            lambda at_s: (PULLING, min(at_s, 700) * 0.02, ""), 900, "boot_timeout", id="grew, but no more: the budget"
        ),
    ],
)
def test_a_boot_that_gets_nowhere_is_given_up(moment: Moment, over_at_s: int, reason: str) -> None:
    assert outcome(moment) == (over_at_s, reason)


@pytest.mark.parametrize(
    ("text", "anonymous", "named"),
    [
        ("img: Pulling fs layer", True, True),
        ("5f70bf18a086: Waiting", True, True),
        ("img: Pulling fs layer", False, False),
        ("Get:12 http://archive.example openssh-server", True, False),
    ],
)
def test_a_pull_that_stands_still_without_a_login_names_it(text: str, anonymous: bool, named: bool) -> None:
    history = BootHistory(judge, anonymous=anonymous)
    for at_s in (0.0, 5.0, BUDGET_S + 100):
        history.add(StatusSample(at_s, make_status(actual_status="loading", status_msg=text)))
    step = give_up.judge_boot(history, BUDGET_S)
    assert isinstance(step, give_up.GiveUp)
    assert ("VAST_IMAGE_LOGIN" in step.verdict.remedy) is named
