"""What GitHub shows of a run: the section of a job's summary, and annotations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.reporting.alive import Alive
from pytest_vastgpu.reporting.alive import Why
from pytest_vastgpu.reporting.alive import kept
from pytest_vastgpu.reporting.github import MOST_OF_A_LEVEL
from pytest_vastgpu.reporting.github import Annotation
from pytest_vastgpu.reporting.github import Level
from pytest_vastgpu.reporting.github import chosen
from pytest_vastgpu.reporting.github import summary
from pytest_vastgpu.reporting.github import troubled
from pytest_vastgpu.reporting.github import worth_telling
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import Phase
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.run.report import VerdictReport
from pytest_vastgpu.reporting.sentences import blame
from tests.reporting.test_markdown import FOREIGN
from tests.reporting.test_markdown import read

AT = 1_800_000_000.0
RESISTS = Alive(Why.RESISTS, "instance 9", "vastgpu destroy 9", 0.2, AT, cause="the market says `no` | @octocat")
KEPT = kept(4711, 0.36, AT, 1800.0, "ssh root@host")


def judged(failure_class: str, nodeid: str = "test_it.py::test_it", outcome: str = "error") -> TestReport:
    verdict = VerdictReport(failure_class, "a_reason", "a line that decided", "do this now")
    return TestReport(nodeid, outcome, "setup", message="none became ready", verdict=verdict)


OWN = TestReport("test_it.py::test_own", "failed", "call", message="assert 1 == 2\nmore of it")
READY = InstanceReport(
    "vastgpu-3f9c-1-0",
    1,
    7,
    42,
    "RTX 4090",
    "vllm 'org/model'",
    usd_h=0.36,
    cost_usd=0.0123,
    outcome="ready",
    phases=(Phase("created", AT, AT + 5), Phase("booting", AT + 5, AT + 65), Phase("ready", AT + 65, AT + 90)),
    gone=True,
)


def run_of(*tests: TestReport, instances: Sequence[InstanceReport] = (READY,), **more: object) -> RunReport:
    return RunReport("3f9c21ab", tests=tests, instances=tuple(instances), **{"over": True, **more})  # type: ignore[arg-type] # of tests


# --------------------------------------------------------------- annotations


def parsed(command: str) -> tuple[str, dict[str, str], str]:
    """A command as GitHub's runner reads it."""
    assert command.isprintable()
    found = re.fullmatch(r"::(\w+) (.*?)::(.*)", command)
    assert found is not None
    name, properties, data = found.groups()

    def plain(text: str, codes: str) -> str:
        for character in codes:
            text = text.replace(f"%{ord(character):02X}", character)
        return text.replace("%25", "%")

    pairs = (each.split("=", 1) for each in properties.split(","))
    return name, {key: plain(value, "\r\n:,") for key, value in pairs}, plain(data, "\r\n")


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=80), st.sampled_from(FOREIGN))
def test_no_text_of_others_ends_a_command_or_begins_one(some: str, other: str) -> None:
    told = f"{some}{other}%0A%25::error::,title=x"
    command = Annotation(Level.WARNING, told, f"{told}\nmore", "tests/a,b:c.py", 7).command()
    name, properties, data = parsed(command)
    assert (name, properties["file"], properties["line"]) == ("warning", "tests/a,b:c.py", "7")
    assert set(properties) == {"file", "line", "title"}
    assert data.endswith("\nmore")


@pytest.mark.parametrize(
    ("test", "level"),
    [
        (judged("infra_fatal"), Level.WARNING),
        (judged("runtime_lost"), Level.WARNING),
        (judged("infra_fatal", outcome="skipped"), Level.NOTICE),
        (judged("workload_fatal"), Level.ERROR),
        (judged("incompatible"), Level.ERROR),
        (judged("own_fault"), Level.ERROR),
        (judged("unknown", outcome="failed"), Level.ERROR),
        (judged("of_a_later_version"), Level.ERROR),
        (OWN, Level.ERROR),
    ],
    ids=lambda given: str(given.verdict) if isinstance(given, TestReport) else given,
)
def test_a_hosts_fault_is_no_error(test: TestReport, level: Level) -> None:
    (found,) = chosen(troubled(run_of(test)), [], {test.nodeid: ("tests/test_it.py", 12)})
    assert (found.level, found.file, found.line) == (level, "tests/test_it.py", 12)
    assert (found.title.startswith("Not the test's fault")) == (level is not Level.ERROR)
    if test.verdict is not None:
        assert "evidence: a line that decided\nwhat to do: do this now" in found.message
        assert "whose fault: " in found.message


def test_every_class_has_words_for_whose_fault_it_is() -> None:
    for each in set(FailureClass) - {FailureClass.READY}:
        (found,) = chosen([judged(each.value)], [], {})
        assert "whose fault: unknown" not in found.message or each is FailureClass.UNKNOWN
        assert ";" not in found.message.splitlines()[1]


def test_github_shows_ten_of_a_level_and_so_the_most_important_are_the_first() -> None:
    tests = [judged("infra_fatal", f"t::machine{n}") for n in range(25)]
    tests += [judged("workload_fatal", f"t::workload{n}") for n in range(9)]
    found = chosen(troubled(run_of(*tests)), [RESISTS, KEPT], {})
    of_level = {level: [each for each in found if each.level is level] for level in Level}
    assert {level: len(given) for level, given in of_level.items()} == {
        Level.ERROR: MOST_OF_A_LEVEL,
        Level.WARNING: MOST_OF_A_LEVEL,
        Level.NOTICE: 1,
    }
    assert "vastgpu destroy 9" in of_level[Level.ERROR][0].message
    assert "more" not in of_level[Level.ERROR][-1].title, "ten are ten"
    assert of_level[Level.WARNING][-1].title == "vastgpu: 16 more"
    assert of_level[Level.NOTICE][0].message.startswith("KEPT: instance 4711 until 08:00:00 UTC on 15 Jan")


# ------------------------------------------------------------------- summary


def test_the_section_says_whose_fault_it_was_and_what_to_do() -> None:
    text = summary(run_of(judged("infra_fatal"), OWN, total_usd=0.0123, budget_usd=5.0), [])
    lines = text.splitlines()
    assert lines[0] == "## pytest-vastgpu: 1 test failed, 1 test without a result by a host's fault"
    assert "1 instance, **0.0123 USD** of at most 5.00 USD, needed by 2 tests; run `3f9c21ab`." in lines
    own = f"| `test_it.py::test_own` | failed | {blame('')} | - | `assert 1 == 2` | - |"
    assert own in lines, "what no host explains comes first"
    assert (
        "| `test_it.py::test_it` | error | the machine's | `infra_fatal: a_reason` | `a line that decided` "
        "| `do this now` |" in lines
    )
    assert "| 7 | 42 | `RTX 4090` | 0.360 | 1 min 5 s | 0.0123 | `vllm 'org/model'` | `ready` |" in lines


@pytest.mark.parametrize(
    ("run", "headline"),
    [
        (run_of(TestReport("t::a", "passed"), TestReport("t::b", "xfailed")), "2 tests passed"),
        (run_of(judged("runtime_lost"), judged("infra_fatal")), "2 tests without a result by a host's fault"),
        (run_of(judged("own_fault"), instances=()), "1 test failed"),
        (run_of(instances=()), "no test got an instance"),
        (run_of(TestReport("t::a", "passed"), TestReport("t::b")), "1 test passed, 1 test without a result"),
        (run_of(TestReport("t::a", "skipped")), "1 test without a result"),
        (run_of(TestReport("t::a"), exit_status=2), "1 test without a result, the run was interrupted"),
        (run_of(OWN, over=False), "1 test failed, the run was broken off"),
        (run_of(OWN, over=False, running=True), "1 test failed"),
    ],
)
def test_the_headline_is_what_a_reader_wants_to_know_first(run: RunReport, headline: str) -> None:
    assert summary(run, []).splitlines()[0] == f"## pytest-vastgpu: {headline}"


def test_what_is_alive_is_bold_and_at_the_top_with_the_command_that_ends_it() -> None:
    found = read(summary(run_of(OWN), [RESISTS, KEPT]))
    assert found.tags[:5] == ["h2", "ul", "li", "strong", "code"]
    assert found.codes[0].startswith("STILL RUNNING: instance 9 could not be destroyed (the market says `no` | @oct")
    assert found.codes[1:4:2] == ["vastgpu destroy 9", "vastgpu destroy 4711"]
    assert found.codes[2].startswith("KEPT: instance 4711 until 08:00:00 UTC on 15 Jan, at 0.360 USD/h (0.1800 USD)")


@pytest.mark.parametrize(
    ("instance", "outcome"),
    [
        (READY, "`ready`"),
        (replace(READY, gone=False), "`ready` **not seen to be gone**"),
        (replace(READY, gone=False, kept_until=AT), "`ready` **kept**"),
    ],
)
def test_an_instances_row_says_whether_it_is_gone(instance: InstanceReport, outcome: str) -> None:
    (row,) = [line for line in summary(run_of(OWN, instances=[instance]), []).splitlines() if line.startswith("| 7 ")]
    assert row.endswith(f"| {outcome} |")


def test_play_money_is_called_so() -> None:
    assert "**0.5000 USD** of play money, " in summary(run_of(OWN, total_usd=0.5, budget_usd=5.0, play_money=True), [])


@pytest.mark.parametrize("room", [1 << 20, 200_000, 50_000, 5_000, 1_000])
def test_it_has_room_and_says_how_much_is_left_out(room: int) -> None:
    tests = [judged("infra_fatal", f"test_it.py::test_it[{'é|' * 200}{n}]") for n in range(500)]
    text = summary(run_of(*tests, instances=[READY] * 300), [RESISTS], room)
    assert 0 < len(text.encode()) < room
    rows = text.count("`infra_fatal: a_reason`")
    assert rows <= 200
    assert f"**{500 - rows} more tests left out here: the log has them**" in text
    assert "vastgpu destroy 9" in text
    assert set(read(text.replace("<details>", "").replace("</details>", "")).tags) >= {"h2", "strong", "code"}


def test_where_there_is_no_room_there_is_no_section() -> None:
    assert summary(run_of(OWN), [], 50) == ""


def test_a_run_in_which_nothing_of_ours_happened_has_nothing_to_show() -> None:
    assert not worth_telling(run_of(instances=()), [])
    assert worth_telling(run_of(OWN, instances=()), [])
    assert worth_telling(run_of(), [])
    assert worth_telling(run_of(instances=()), [KEPT])
