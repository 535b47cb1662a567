"""The page of a run's measurements: what its pictures show, that they are well drawn, and that nothing in it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.measuring import measurement
from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import exact
from pytest_vastgpu.measuring.load import http_load
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import to_text
from pytest_vastgpu.reporting.measurement_page import STYLE
from pytest_vastgpu.reporting.measurement_page import page
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.pictures import against
from pytest_vastgpu.reporting.pictures import distribution
from pytest_vastgpu.reporting.pictures import over_commits
from pytest_vastgpu.reporting.pictures import over_load
from pytest_vastgpu.reporting.pictures import with_shown_history
from pytest_vastgpu.reporting.svg import WIDTH
from tests.support.driven import asked
from tests.support.measured import LOAD
from tests.support.measured import hostile
from tests.support.measured import judged
from tests.support.measured import kept
from tests.support.measured import measured
from tests.support.measured import times

HTTP = http_load("/")


class Tags(HTMLParser):
    """Everything in a page that is not text: tags with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.urls: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.urls += [name for name, _ in attrs if name in {"src", "href", "data", "action", "srcset"}]


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - this package has written it


def texts(picture: str) -> list[str]:
    """The words in a picture, and what its points say."""
    return [each.text or "" for each in parsed(picture).iter() if each.tag in {"text", "title"}]


def places(picture: str) -> Iterator[tuple[float, float]]:
    """Every place in a picture."""
    for each in parsed(picture).iter():
        for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
            if x in each.attrib:
                yield float(each.attrib[x]), float(each.attrib[y])
        for pair in each.attrib.get("points", "").split():
            left, _, right = pair.partition(",")
            yield float(left), float(right)


def well_drawn(picture: str) -> None:
    """All is within the picture, and no label touches another of its line."""
    svg = parsed(picture).find("svg")
    assert svg is not None
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(picture))
    lines: dict[str, list[tuple[float, float]]] = {}
    for each in svg.iter("text"):
        long = 6.2 * len(each.text or "")
        start = float(each.attrib["x"]) - long * {"start": 0, "middle": 0.5, "end": 1}[each.attrib["text-anchor"]]
        assert start >= -2
        assert start + long <= width + 4, each.text
        lines.setdefault(each.attrib["y"], []).append((start, start + long))
    for spans in lines.values():
        spans.sort()
        assert all(end <= start + 1 for (_, end), (start, _) in pairwise(spans))


def test_the_page_has_the_four_pictures_and_every_number() -> None:
    found = page("vastgpu", ["run ab12"], kept())
    captions = re.findall("<figcaption>(.*?)</figcaption>", found)
    assert {re.sub(r"\W.*", "", caption) for caption in captions} == {"How", "Output", "Slowdown"}
    assert any("over requests at a time" in caption for caption in captions)
    assert any("over commits" in caption for caption in captions)
    cells = re.sub("<td[^>]*>", "<td>", found)
    assert "<td>output throughput</td><td>1,974 tokens/s</td><td>1,913 to 2,036</td>" in cells
    assert "<td>-6.0 %</td><td>-7.5 % to -4.5 %</td><td>+5.0 %</td><td>improvement</td>" in cells
    assert "errors: 3 x HTTP 500" in found


def test_every_picture_is_well_drawn() -> None:
    pictures = re.findall("<figure>.*?</figure>", page("vastgpu", [], kept()))
    assert len(pictures) == 9
    for each in pictures:
        well_drawn(each)


def test_the_page_needs_no_script_and_no_network() -> None:
    found = page("vastgpu", [], kept())
    tags = Tags(found)
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
    assert not [name for _, names in tags.found for name in names if name.startswith("on")]
    assert tags.urls == []
    assert "url(" not in found
    assert "@import" not in found
    assert "default-src 'none'" in found


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'</title></style><svg onload=x>", "-->", "&lt;"],
)
def test_text_of_others_stays_text(text: str) -> None:
    with_it, without = page(f"v{text}", [text], hostile(text)), page("vx", ["x"], hostile("x"))
    assert Tags(with_it).found == Tags(without).found
    assert Tags(with_it).urls == []
    assert with_it.count("alert(1)") == 0 or "<script" not in with_it


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_the_ground_in_light_and_in_dark(scheme: str) -> None:
    colours = {
        name: (light, dark)[scheme == "dark"]
        for name, light, dark in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
    }
    assert colours.keys() >= {
        *(finding.value for finding in Finding),
        "ink",
        "faint",
        *(f"series{at}" for at in range(4)),
    }
    ground = colours.pop("ground")
    colours.pop("rule")
    for name, colour in colours.items():
        assert contrast(colour, ground) >= 4.5, name  # WCAG 2, level AA


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_the_latency_picture_shows_which_part_took_how_long() -> None:
    found = replace(measured().measurement, quantiles={"ttft": times(0.02, 1.0), "e2e": times(1.0, 0.3)})
    picture = distribution(found)
    assert {"● TTFT", "● end to end"} <= set(texts(picture))
    for line in parsed(picture).iter("polyline"):
        places_of = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert len(places_of) == 101
        assert places_of == sorted(places_of, key=lambda place: (place[0], -place[1]))
    assert distribution(replace(found, quantiles={})) == distribution(replace(found, quantiles={"ttft": ()})) == ""


def test_the_latency_picture_marks_the_numbers_of_the_table_and_no_others() -> None:
    found = measured().measurement
    figures = {name: each for name, each in found.figures.items() if name != "e2e_p50"}
    told = {text for text in texts(distribution(replace(found, figures=figures))) if re.search(r" p\d\d: ", text)}
    assert told == {f"TTFT p50: {figures['ttft_p50']}", f"TTFT p99: {figures['ttft_p99']}"}
    bare = distribution(replace(found, figures={}))
    assert "<circle" not in bare
    assert "<polyline" in bare


def test_marks_are_on_the_curve_also_where_requests_failed_or_began_beside_the_measured_seconds() -> None:
    beside = [asked(at / 20, 9.0) for at in (*range(-40, 0), *range(200, 240))]
    requests = [asked(at / 20, 0.1 + at * 37 % 100 / 1000, error="refused" * (at % 10 == 9)) for at in range(200)]
    picture = distribution(measurement.of(HTTP, 10.0, [*beside, *requests]))
    (line,) = parsed(picture).iter("polyline")
    curve = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    marks = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in parsed(picture).iter("circle")]
    assert marks
    for x, y in marks:
        assert min(abs(x - left) + abs(y - top) for left, top in curve) < 5
    assert max(x for x, _ in curve) > 0.9 * WIDTH


def test_throughput_is_drawn_over_concurrency_where_nothing_else_differs() -> None:
    def at(concurrency: int, path: str = LOAD.path) -> Measured:
        return measured(replace(LOAD, concurrency=concurrency, path=path), 100.0 * concurrency)

    assert over_load([at(1), at(1)]) == []
    assert over_load([at(1), at(2, path="/other")]) == []
    assert over_load([at(1), replace(at(2), gpu="H100")]) == []
    (picture,) = over_load([at(4), at(1), at(2)])
    assert [text for text in texts(picture) if "requests/s" in text or "tokens/s" in text][1:] == [
        "1: 1,600 tokens/s (1,550 to 1,650)",
        "2: 3,200 tokens/s (3,100 to 3,300)",
        "4: 6,400 tokens/s (6,200 to 6,600)",
    ]
    heights = [float(each.attrib["cy"]) for each in parsed(picture).iter("circle")]
    assert heights == sorted(heights, reverse=True)


def test_throughput_of_open_loops_is_drawn_over_their_rate() -> None:
    records = [measured(replace(LOAD, concurrency=0, rate=rate), rate) for rate in (2.0, 4.0)]
    closed = [measured(replace(LOAD, concurrency=many), many) for many in (2, 4)]
    rates, many = sorted(over_load([*records, *closed]), key=lambda picture: "at a time" in picture)
    assert "Output throughput over requests sent a second: vllm" in rates
    assert "Output throughput over requests at a time: vllm" in many


def test_one_metric_is_drawn_over_commits_with_this_run_as_the_last() -> None:
    picture = over_commits(measured(commits=3))
    assert [text for text in texts(picture) if "(" in text] == [
        "0bcdef012345, 2026-11-01T08:00:00Z, machine 40: 1,974 tokens/s (1,913 to 2,036)",
        "1bcdef012345, 2026-11-02T08:00:00Z, machine 41: 1,955 tokens/s (1,894 to 2,016)",
        "2bcdef012345, 2026-11-03T08:00:00Z, machine 42: 1,935 tokens/s (1,874 to 1,995)",
        "this run, machine 42: 1,974 tokens/s (1,913 to 2,036)",
    ]
    assert "now" in texts(picture)
    uncommitted = replace(measured(commits=1).history[0], commit="", machine_id=0)
    assert "2026-11-01" in texts(over_commits(replace(measured(), history=(uncommitted,))))
    well_drawn(over_commits(measured(commits=100)))
    assert "now" in texts(over_commits(measured(commits=100)))
    assert over_commits(measured()) == ""


def test_a_report_carries_no_more_of_the_history_than_the_picture_shows() -> None:
    record = measured(commits=130)
    slim = with_shown_history(record)
    assert [each.commit for each in slim.history] == [each.commit for each in record.history[30:]]
    assert {metric for each in slim.history for metric in each.figures} == {"output_throughput"}
    assert over_commits(slim) == over_commits(replace(record, history=record.history[30:]))
    assert len(to_text(slim)) < 60_000


def test_a_against_b_shows_each_interval_between_no_difference_and_the_gate() -> None:
    found = [judged("throughput", Finding.REGRESSION, 0.08, 0.02), judged("goodput", Finding.NOISE, 0.0, 0.01)]
    picture = against(found)
    by_kind = {each.attrib["class"]: each.attrib for each in parsed(picture).iter("line")}
    zero, gate = float(by_kind["zero"]["x1"]), float(by_kind["gate"]["x1"])
    low, high = (float(by_kind["regression interval"][edge]) for edge in ("x1", "x2"))
    assert zero < gate < low < high
    assert float(by_kind["noise interval"]["x1"]) < zero < float(by_kind["noise interval"]["x2"]) < gate
    assert "throughput: +8.0 % (+6.0 to +10.0), gate +5.0 %" in texts(picture)
    assert "machine 12: +7.3 %" in texts(picture)
    again = replace(found[0], hosts={4711: 0.073}, places={4711: "machine 12 once more"})
    assert "machine 12 once more: +7.3 %" in texts(against([again]))
    assert {"throughput: regression", "goodput: noise"} <= set(texts(picture))
    assert against([Judged("goodput", 0.05, Finding.HARDWARE, 0, 0, 0, 1, 0)]) == ""


NUMBERS = st.one_of(st.floats(0, 1e9), st.just(math.inf), st.just(math.nan), st.floats(0, 1e-9))


@settings(max_examples=25)
@given(
    unit=st.sampled_from(["s", "", "1/s"]),
    numbers=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6),
)
def test_whatever_the_numbers_are_no_picture_leaves_its_frame(
    unit: str, numbers: list[tuple[float, float, float]]
) -> None:
    figures = [Figure(value, unit, low, high) for value, low, high in numbers]
    record = measured(commits=len(figures))
    history = [replace(past, figures={"e2e_p50": each}) for past, each in zip(record.history, figures, strict=True)]
    found = replace(
        record.measurement,
        figures={"e2e_p50": figures[0], "requests": exact(10), "errors": exact(len(numbers))},
        quantiles={"e2e": sorted(filter(math.isfinite, (value for value, _, _ in numbers)))},
    )
    record = replace(record, measurement=found, history=history)
    results = [
        replace(judged("e2e_p50", Finding.NOISE, value, 0.1), low=low, high=high) for value, low, high in numbers
    ]
    for picture in filter(None, [over_commits(record), distribution(found), against(results)]):
        assert all(0 <= x <= WIDTH and 0 <= y <= 2000 for x, y in places(picture)), picture
    page("v", [], Kept([("t", record)], []))
