from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

import pytest

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.supervisor.rental import give_up
from pytest_vastgpu.supervisor.rental.boot_progress import BootHistory
from pytest_vastgpu.supervisor.rental.boot_progress import StatusSample
from pytest_vastgpu.supervisor.rental.states import TRANSITIONS
from tests.support.vast import make_status

NOTHING_SAID = Verdict(FailureClass.UNKNOWN, "undecided")
BUDGET_S = 900.0


def quiet(_text: str) -> Verdict:
    return NOTHING_SAID


def looks(*rows: tuple[float, InstanceStatus | None]) -> list[StatusSample]:
    return [StatusSample(at, status) for at, status in rows]


def boot(samples: Sequence[StatusSample], judge: Callable[[str], Verdict] = quiet) -> object:
    history = BootHistory(judge, machine_id=LOADING.machine_id)
    for sample in samples:
        history.add(sample)
    return give_up.judge_boot(history, BUDGET_S)


STOPPED = make_status(actual_status="loading", intended_status="stopped")
EXITED = make_status(actual_status="exited")
ELSEWHERE = make_status(actual_status="running", machine_id=43, ssh_host="ssh5.vast.ai", ssh_port=12345)
LOADING = make_status(actual_status="loading")
RUNNING = make_status(actual_status="running", ports={"22/tcp": 40022}, public_ipaddr="203.0.113.7")
OFFLINE = make_status(actual_status="offline")


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(looks((0.0, None)), id="list lags behind create"),
        pytest.param(looks((0.0, None), (1.0, None), (2.0, None)), id="list lags for seconds"),
        pytest.param(looks((0.0, make_status(actual_status=""))), id="null status"),
        pytest.param(looks((5.0, LOADING), (9.0, None)), id="one answer without it"),
        pytest.param(looks((5.0, OFFLINE), (20.0, LOADING), (80.0, OFFLINE)), id="heartbeat gaps"),
        pytest.param(looks((5.0, make_status(actual_status="running"))), id="running without an address"),
        pytest.param(looks((5.0, make_status(actual_status="resizing"))), id="a status nobody knows"),
    ],
)
def test_a_healthy_boot_is_waited_for(seen: list[StatusSample]) -> None:
    assert boot(seen) == give_up.Wait()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(RUNNING, id="direct"),
        pytest.param(make_status(actual_status="running", ssh_host="ssh5.vast.ai", ssh_port=12345), id="proxy only"),
        pytest.param(
            make_status(
                actual_status="exited",
                cur_state="running",
                status_msg="success, running i/ssh",
                ports={"22/tcp": 40022},
                public_ipaddr="203.0.113.7",
            ),
            id="actual_status lags",
        ),
    ],
)
def test_an_address_of_a_running_instance_is_tried(status: InstanceStatus) -> None:
    assert boot(looks((12.0, status))) == give_up.Connect()


@pytest.mark.parametrize(
    ("seen", "failure_class", "reason"),
    [
        pytest.param(
            looks((5.0, STOPPED), (6.0, STOPPED)),
            FailureClass.INFRA_FATAL,
            "never_started",
            id="intended to be stopped while loading",
        ),
        pytest.param(
            looks((5.0, OFFLINE), (40.0, OFFLINE), (66.0, OFFLINE)),
            FailureClass.INFRA_FATAL,
            "host_offline",
            id="offline for a minute",
        ),
        pytest.param(
            looks((5.0, LOADING), (20.0, None), (21.0, None)),
            FailureClass.INFRA_FATAL,
            "instance_vanished",
            id="gone twice",
        ),
        pytest.param(looks((5.0, EXITED), (6.0, EXITED)), FailureClass.UNKNOWN, "container_ended", id="exited"),
        pytest.param(
            looks((5.0, STOPPED), (6.0, EXITED), (7.0, EXITED)),
            FailureClass.UNKNOWN,
            "container_ended",
            id="first one sign, then twice another",
        ),
        pytest.param(looks((0.0, None), (16.0, None)), FailureClass.INFRA_FATAL, "instance_vanished", id="never seen"),
        pytest.param(
            looks((5.0, ELSEWHERE), (6.0, ELSEWHERE)), FailureClass.UNKNOWN, "other_machine", id="another machine"
        ),
    ],
)
def test_a_lost_boot_is_given_up(seen: list[StatusSample], failure_class: FailureClass, reason: str) -> None:
    step = boot(seen)
    assert isinstance(step, give_up.GiveUp)
    assert (step.verdict.failure_class, step.verdict.reason) == (failure_class, reason)


@pytest.mark.parametrize(
    "failure_class", [FailureClass.INFRA_FATAL, FailureClass.INCOMPATIBLE, FailureClass.WORKLOAD_FATAL]
)
def test_a_decided_status_text_ends_the_boot_with_its_own_verdict(failure_class: FailureClass) -> None:
    verdict = Verdict(failure_class, "said_so", "the line")
    # Also where the service has given up already: the cause comes before its consequence.
    status = make_status(actual_status="loading", intended_status="stopped", status_msg="the line")
    assert boot(looks((5.0, status), (6.0, status)), lambda _text: verdict) == give_up.GiveUp(verdict)


@pytest.mark.parametrize("then", [LOADING, RUNNING], ids=["loading", "running"])
@pytest.mark.parametrize(
    "gap",
    [
        pytest.param(None, id="not listed"),
        pytest.param(STOPPED, id="intended to be stopped"),
        pytest.param(EXITED, id="exited"),
        pytest.param(OFFLINE, id="offline"),
        pytest.param(make_status(actual_status="unknown"), id="unknown"),
        pytest.param(make_status(actual_status="a word of tomorrow"), id="a word nobody knows"),
        pytest.param(ELSEWHERE, id="another machine"),
        pytest.param(make_status(actual_status="loading", status_msg="Error response from daemon"), id="an error text"),
    ],
)
def test_what_one_report_says_alone_is_held_against_no_machine(
    gap: InstanceStatus | None, then: InstanceStatus
) -> None:
    def judge(text: str) -> Verdict:
        return Verdict(FailureClass.INFRA_FATAL, "broken") if text.startswith("Error") else NOTHING_SAID

    one = [(5.0, LOADING), (6.0, gap)]
    assert boot(looks(*one), judge) == give_up.Wait()
    assert boot(looks(*one, (7.0, then)), judge) == (give_up.Connect() if then is RUNNING else give_up.Wait())
    again = [(7.0, LOADING), (8.0, gap), (9.0, LOADING), (10.0, gap)]
    assert boot(looks(*one, *again), judge) == give_up.Wait(), "twice, and not in a row"


def test_addresses_and_ports_that_vanish_again_are_kept() -> None:
    history = BootHistory(quiet, LOADING.machine_id)
    for status in (
        make_status(actual_status="running", ssh_host="ssh5.vast.ai", ssh_port=12345),
        make_status(actual_status="running", ports={"22/tcp": 40022, "80/tcp": 40080}, public_ipaddr="203.0.113.7"),
        make_status(actual_status="running"),
        ELSEWHERE,
        None,
    ):
        history.add(StatusSample(1.0, status))
    assert [str(address) for address in history.ssh] == ["203.0.113.7:40022 (direct)", "ssh5.vast.ai:12345 (proxy)"]
    assert history.published == {22: "203.0.113.7:40022", 80: "203.0.113.7:40080"}


def test_a_port_that_is_not_published_is_waited_for_and_then_held_against_the_machine() -> None:
    history = BootHistory(quiet)
    for at_s, expected in ((10.0, give_up.Wait), (69.0, give_up.Wait), (70.0, give_up.GiveUp)):
        history.add(StatusSample(at_s, RUNNING))
        assert isinstance(give_up.judge_published(history, 8000), expected)
    assert give_up.judge_published(history, 22) is None
    history.add(StatusSample(71.0, LOADING))
    assert give_up.judge_published(history, 8000) is None


def knock(at_s: float, *failures: ProbeFailure) -> give_up.ConnectAttempt:
    return give_up.ConnectAttempt(at_s, failures, "what ssh said")


REFUSED, DARK, KEY = ProbeFailure.REFUSED, ProbeFailure.UNREACHABLE, ProbeFailure.AUTHENTICATION


@pytest.mark.parametrize(
    ("knocks", "attached_again", "expected"),
    [
        pytest.param([knock(101, REFUSED), knock(390, REFUSED)], False, give_up.Wait(), id="refused is waiting"),
        pytest.param([knock(101, REFUSED), knock(401, REFUSED)], False, "ssh_never_up", id="refused for five minutes"),
        pytest.param([knock(101, DARK), knock(155, DARK)], False, give_up.Wait(), id="dark for less than a minute"),
        pytest.param([knock(101, DARK), knock(162, DARK)], False, "ssh_black_hole", id="dark for a minute"),
        pytest.param(
            [knock(101, DARK), knock(140, REFUSED), knock(165, DARK)],
            False,
            give_up.Wait(),
            id="dark, not all the time",
        ),
        pytest.param(
            [knock(101, DARK, REFUSED), knock(165, DARK, REFUSED)],
            False,
            give_up.Wait(),
            id="one of two addresses answers",
        ),
        pytest.param([knock(101, KEY), knock(110, KEY)], False, give_up.Wait(), id="key refused while young"),
        pytest.param([knock(101, KEY), knock(125, KEY)], False, give_up.AttachKey(), id="key refused: attach again"),
        pytest.param([knock(101, KEY), knock(200, KEY)], True, give_up.Wait(), id="key refused: attached again"),
        pytest.param([knock(101, KEY), knock(341, KEY)], True, "ssh_key_refused", id="key refused for four minutes"),
        pytest.param([knock(101, ProbeFailure.HOST_KEY)], False, give_up.Wait(), id="another host answers once"),
        pytest.param(
            [knock(101, ProbeFailure.HOST_KEY), knock(102, ProbeFailure.HOST_KEY)],
            False,
            "ssh_host_key_changed",
            id="another host answers",
        ),
        pytest.param(
            [knock(101, ProbeFailure.NOT_RUN), knock(800, ProbeFailure.NOT_RUN)],
            False,
            give_up.Wait(),
            id="its sessions run something else",
        ),
        pytest.param([knock(101, ProbeFailure.TRANSPORT)], False, give_up.Wait(), id="one reset condemns nobody"),
    ],
)
def test_what_failed_ssh_means(knocks: list[give_up.ConnectAttempt], attached_again: bool, expected: object) -> None:
    step = give_up.judge_connect(knocks, 100.0, BUDGET_S, attached_again)
    if isinstance(step, give_up.GiveUp):
        assert step.verdict.failure_class is FailureClass.INFRA_FATAL
        assert step.verdict.evidence == "what ssh said"
        assert step.verdict.reason == expected
    else:
        assert step == expected


@pytest.mark.parametrize("failure", [REFUSED, KEY, ProbeFailure.NOT_RUN, ProbeFailure.HOST_KEY])
def test_ssh_waits_no_longer_than_the_infrastructure_budget(failure: ProbeFailure) -> None:
    step = give_up.judge_connect([knock(120, failure)], 100.0, 120.0, attached_again=False)
    assert isinstance(step, give_up.GiveUp)
    assert step.verdict.reason == "boot_timeout"
    assert "what ssh said" in step.verdict.evidence
    assert step.verdict.failure_class is FailureClass.UNKNOWN


def moved(*rows: tuple[float, str]) -> list[give_up.ProgressSample]:
    return [give_up.ProgressSample(at, Progress(stage)) for at, stage in rows]


@pytest.mark.parametrize(
    ("moves", "now_s", "waits"),
    [
        pytest.param(moved((0, "launched")), 99, True, id="within the window"),
        pytest.param(moved((0, "launched")), 100, False, id="nothing moved"),
        pytest.param(moved((0, "launched"), (90, "weights 1/8")), 180, True, id="a move extends it"),
        pytest.param(moved((0, "launched"), (90, "weights 1/8")), 190, False, id="then nothing moved"),
        pytest.param(
            moved((0, "launched"), (20, "engine"), (50, "launched"), (70, "engine"), (99, "launched")),
            121,
            False,
            id="a server that starts over and over does not move",
        ),
        pytest.param(
            moved((0, "launched"), *((t, f"weights {t}") for t in range(50, 300, 50))), 299, True, id="keeps moving"
        ),
        pytest.param(
            moved((0, "launched"), *((t, f"weights {t}") for t in range(50, 300, 50))), 300, False, id="hard cap"
        ),
    ],
)
def test_the_warm_up_window_is_extended_by_progress_up_to_a_cap(
    moves: list[give_up.ProgressSample], now_s: float, waits: bool
) -> None:
    step = give_up.judge_warmup(moves, now_s, 100.0)
    assert isinstance(step, give_up.Wait if waits else give_up.GiveUp)
    assert (give_up.warmup_left_s(moves, now_s, 100.0) > 0) is waits
    if isinstance(step, give_up.GiveUp):
        assert step.verdict.failure_class is FailureClass.WARMUP


def test_every_state_can_end_and_gone_is_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert not TRANSITIONS[State.GONE]
    for state, after in TRANSITIONS.items():
        if state not in {State.INTENDED, State.DESTROYING, State.GONE}:
            assert State.DESTROYING in after
