"""The page of a run as text: what it says first, that foreign text is text, and that it needs nothing else."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.page.timeline import LANES
from pytest_vastgpu.reporting.page.timeline import timeline
from pytest_vastgpu.reporting.page.words import Page
from pytest_vastgpu.reporting.run.reader import read_run
from pytest_vastgpu.reporting.run.report import InstanceReport
from pytest_vastgpu.reporting.run.report import Phase
from pytest_vastgpu.reporting.run.report import RunReport
from pytest_vastgpu.reporting.run.report import TestReport
from pytest_vastgpu.reporting.run.report import Used
from pytest_vastgpu.reporting.run.report import VerdictReport
from pytest_vastgpu.reporting.sentences import blame
from tests.support.measured import kept
from tests.support.measured import measured
from tests.support.reports import FOREIGN
from tests.support.reports import LOST
from tests.support.reports import run_report

pytest.importorskip("jinja2", exc_type=ImportError)
from pytest_vastgpu.reporting.page.render import panel
from pytest_vastgpu.reporting.page.render import render

VOID = {"meta", "br"}


class Seen(HTMLParser):
    """The elements of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_foreign_text_is_text() -> None:
    with_it, without = (Seen(render(run_report(12, 3, text))) for text in (FOREIGN, "plain"))
    assert [tag for tag, _ in with_it.tags] == [tag for tag, _ in without.tags]
    assert "document.title" in with_it.text
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in with_it.tags}
    own = Seen(panel(run_report(12, 3, FOREIGN), "report.html"))
    assert not {"script", "img"} & {tag for tag, _ in own.tags}


def test_nothing_is_loaded() -> None:
    page = Seen(render(run_report(12, 3)))
    assert page.open == []
    attributes = [(name, value) for _, attrs in page.tags for name, value in attrs.items()]
    assert {name for name, _ in attributes} & {"src", "onclick", "onload", "srcset"} == set()
    assert all(str(value).startswith("#") for name, value in attributes if name == "href")
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_link_leads_somewhere_and_headings_are_in_order() -> None:
    page = Seen(render(run_report(12, 3)))
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


READY = InstanceReport("l", id=4711, gone=True, phases=(Phase("ready", 10, 20),))
OWN = TestReport("tests/a.py::b", "failed", "call")
HOST = replace(OWN, verdict=VerdictReport("infra_fatal", "ssh_never_up", remedy="try another"), outcome="error")


@pytest.mark.parametrize(
    ("report", "state", "heading", "remedy"),
    [
        (RunReport("", over=True), "passed", "No test of this run needed an instance", "Nothing."),
        (
            RunReport("r", over=True, exit_status=2, tests=(OWN,)),
            "failed",
            "1 of 1 test failed, and the run was interrupted",
            "look at the test a.py::b",
        ),
        (RunReport("r", over=True, tests=(OWN,)), "failed", "1 of 1 test failed", "look at the test a.py::b"),
        (
            RunReport("r", over=True, instances=(READY,), tests=(HOST, OWN)),
            "failed",
            "2 of 2 tests failed",
            "try another",
        ),
        (RunReport("r", over=True, instances=(READY,)), "passed", "0 tests, none failed", "Nothing."),
        (RunReport("r", over=True, exit_status=2, instances=(READY,)), "failed", "The run was interrupted", "Nothing."),
        (
            RunReport("r", running=True, instances=(READY,)),
            "running",
            "The run goes on: 0 tests failed",
            "Nothing.",
        ),
        (
            RunReport("r", instances=(replace(READY, gone=False),)),
            "broken off",
            "The run was broken off: 0 tests had failed",
            "end what is alive: vastgpu destroy 4711",
        ),
    ],
)
def test_the_first_screen(report: RunReport, state: str, heading: str, remedy: str) -> None:
    page = Page(report)
    assert (page.state, page.heading, page.remedies[0]) == (state, heading, remedy)
    assert heading in render(report)


@pytest.mark.parametrize(
    ("instance", "outcome"),
    [
        (READY, "ready"),
        (replace(READY, gone=False), "ready, not seen to be gone"),
        (replace(READY, gone=False, kept_until=1.8e9), "ready, kept"),
    ],
)
def test_an_instances_row_says_whether_it_is_gone(instance: InstanceReport, outcome: str) -> None:
    assert f"<div>{outcome}</div>" in render(RunReport("r", over=True, instances=(replace(instance, outcome="ready"),)))


def test_whose_fault_it_was() -> None:
    page = Page(RunReport("r", tests=(HOST, OWN, OWN)))
    assert page.blame == [f"2 {blame('')}", "1 the machine's; it is remembered and not rented again for a while"]
    assert replace(HOST, verdict=VerdictReport("of_tomorrow")).blame == "unknown; nobody is blamed"


def test_the_timeline_has_a_lane_for_each_test_at_the_same_time() -> None:
    uses = tuple(Used(f"t{at}", 10 + at, 20) for at in range(3))
    (row,) = timeline(RunReport("r", instances=(replace(READY, tests=uses),))).rows
    assert len({bar.y for bar in row.bars if bar.kind == "use"}) == 3
    assert all(bar.x + bar.width <= 1000 for bar in row.bars)
    many = tuple(Used(f"t{at}", 10, 20) for at in range(50))
    (row,) = timeline(RunReport("r", instances=(replace(READY, tests=many),))).rows
    assert len({bar.y for bar in row.bars if bar.kind == "use"}) == LANES


def test_the_timeline_shows_steps_tests_their_waits_idle_time_losses_and_the_markets_limits() -> None:
    report = run_report(12, 5)
    drawn = timeline(report)
    lost = drawn.rows[4]
    assert {bar.kind.partition(" ")[0] for bar in lost.bars} == {"step", "use", "wait", "idle", "end"}
    assert {bar.kind for bar in lost.bars} >= {f"step {phase.name}" for phase in lost.instance.phases}
    assert [bar.title for bar in lost.bars if bar.kind == "end"] == [f"lost, {LOST}: 0.0 s, from 1 min 10 s on"]
    assert [bar.title for bar in drawn.pauses] == ["the market's limit for search: 2.0 s, from 1.0 s on"]
    page = Seen(render(report))
    labels = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "img"]
    assert labels[0] == "waits for the market's limits"
    assert len(labels) == 1 + len(report.instances)
    assert "GPU memory in use 50.0 s after the run began: 2000 of 24564 MiB" in page.text


def test_the_page_of_an_empty_directory(tmp_path: Path) -> None:
    assert "cannot be read" in render(read_run(tmp_path))


def test_measurements_are_on_the_page_or_it_says_that_they_cannot_be() -> None:
    report = replace(run_report(12, 3), measured=kept())
    page = Seen(render(report))
    assert "95 % interval" in page.text
    assert "GPU utilisation97.0 %" in page.text
    assert {"polyline", "circle"} & {tag for tag, _ in page.tags}, "it has pictures"
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    damaged = Kept([("t", replace(measured(), history=(3,)))])  # type: ignore[arg-type] # as no version writes it
    assert "cannot be drawn" in render(replace(report, measured=damaged))
