"""What a run says of its measurements: the words, the terminal, the JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.measuring.comparing.comparison import Finding
from pytest_vastgpu.measuring.comparing.comparison import Judged
from pytest_vastgpu.measuring.figures import Figure
from pytest_vastgpu.measuring.figures import amount
from pytest_vastgpu.measuring.load import Kind
from pytest_vastgpu.measuring.load import Load
from pytest_vastgpu.measuring.record import Compared
from pytest_vastgpu.measuring.record import Measured
from pytest_vastgpu.measuring.record import from_json
from pytest_vastgpu.reporting.measured_words import in_short
from pytest_vastgpu.reporting.measured_words import load_line
from pytest_vastgpu.reporting.measured_words import metric_name
from pytest_vastgpu.reporting.measured_words import slowdown
from pytest_vastgpu.reporting.measurements import Kept
from pytest_vastgpu.reporting.measurements import compared_lines
from pytest_vastgpu.reporting.measurements import document
from pytest_vastgpu.reporting.measurements import measured_lines
from tests.support.measured import COMPARED
from tests.support.measured import LOAD
from tests.support.measured import hostile
from tests.support.measured import kept
from tests.support.measured import measured


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0000012, "s", "1.20 µs"),
        (0.0123, "s", "12.3 ms"),
        (1.234, "s", "1.23 s"),
        (0.0, "s", "0 s"),
        (123.4, "1/s", "123 requests/s"),
        (12345.6, "tokens/s", "12,346 tokens/s"),
        (1234, "", "1,234"),
        (0.00012345, "USD", "0.000123 USD"),
        (math.nan, "s", "not known"),
        (math.inf, "", "∞"),
        (-0.25, "tokens/s", "-0.250 tokens/s"),
    ],
)
def test_a_number_has_the_digits_that_count_and_a_unit_that_suits_it(value: float, unit: str, words: str) -> None:
    assert amount(value, unit) == words


def test_an_interval_has_the_unit_of_its_value_and_what_is_exact_has_none() -> None:
    assert in_short(Figure(0.9, "s", 0.81, 0.95)) == "900 ms ±10 %"
    assert in_short(Figure(4.0, "1/s", 1.0, 14.0)) == "4.00 ±250 %"
    assert in_short(Figure(9.5, "1/s", 9.5, 9.5)) == "9.50"


def test_metrics_and_loads_are_said_in_the_words_of_the_field() -> None:
    assert metric_name("ttft_p50") == "TTFT p50"
    assert metric_name("e2e_p99") == "end to end p99"
    assert load_line(LOAD) == "completions, 4 at a time, SLO TTFT ≤ 200 ms"
    assert load_line(replace(LOAD, concurrency=0, rate=2.5, slo={})) == "completions, 2.5 a second at random times"
    assert load_line(Load(Kind.COMMAND, "make bench", concurrency=1)) == "shell 'make bench', 1 at a time"


def test_a_measurement_is_a_block_with_a_line_for_each_telling_number() -> None:
    record = replace(measured(), notes=("slower than baseline 'main': an A/B would settle it",))
    assert measured_lines([("test_it.py::test_it", record)], 80) == [
        "test               test_it.py::test_it",
        "load               completions, 4 at a time, SLO TTFT ≤ 200 ms, for 10 s",
        "on                 vllm 'org/model', RTX 4090, machine 42",
        "throughput         123 requests/s (120 to 127)",
        "output throughput  1,974 tokens/s (1,913 to 2,036)",
        "TTFT p50           12.3 ms (12.0 to 12.7)",
        "end to end p50     1.23 s (1.20 to 1.27)",
        "TTFT p99           45.6 ms (41.0 to 58.0)",
        "GPU memory peak    8,123 MiB",
        "errors             3 x HTTP 500",
        "test_it.py::test_it: a piece of the stream has 2.1 tokens",
        "test_it.py::test_it: slower than baseline 'main': an A/B would settle it",
    ]


def test_a_number_that_others_have_and_this_one_lacks_has_the_reason_in_its_place() -> None:
    record = measured()
    figures = {metric: each for metric, each in record.measurement.figures.items() if metric != "ttft_p99"}
    missing = {"ttft_p99": "45 are too few, about 500 are needed: measure for 90 s"}
    lacking = replace(record, measurement=replace(record.measurement, figures=figures, missing=missing))
    lines = measured_lines([("one", record), ("two", lacking)], 80)
    assert "TTFT p99           not known: 45 are too few, about 500 are needed: measure for 90 s" in lines
    _, *rows = measured_lines([("one", record), *[("two", lacking)] * 3], 200)
    assert "45.6 ms" in rows[0]
    assert "  -  " in rows[1]


def test_verbose_output_has_every_number() -> None:
    lines = measured_lines([("test_it.py::test_it", measured())], 80, all_metrics=True)
    names = {metric_name(metric) for metric in measured().measurement.figures}
    assert names <= {line.partition("  ")[0] for line in lines}


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_many_measurements_have_a_row_each_that_fits_the_terminal(width: int) -> None:
    found = kept().measured
    header, *rows = measured_lines(found, width)[: len(found) + 1]
    assert [row.partition(" ")[0] for row in rows] == [test for test, _ in found]
    assert max(map(len, [header, *rows])) <= width
    assert "requests/s" in header
    assert "123 ±3 %" in rows[0]


def test_a_comparison_has_a_line_for_each_metric_with_its_finding() -> None:
    assert compared_lines("test_it.py::test_it", COMPARED) == [
        ("test_it.py::test_it: vllm 'org/model' (other args) (candidate) against vllm 'org/model' (baseline)", ""),
        (
            "completions, 4 at a time, SLO TTFT ≤ 200 ms; RTX 4090; "
            "6 rounds on machine 12, 6 rounds on machine 14; 9 min 2 s, 0.1200 USD",
            "",
        ),
        ("metric             slowdown   95 % interval      gate     finding       could be seen", ""),
        ("throughput         +8.0 %     +6.0 % to +10.0 %  +5.0 %   regression    from +2.1 %", Finding.REGRESSION),
        ("output throughput  -6.0 %     -7.5 % to -4.5 %   +5.0 %   improvement   from +2.1 %", Finding.IMPROVEMENT),
        ("TTFT p50           +0.4 %     -2.6 % to +3.4 %   +10.0 %  noise         from +2.1 %", Finding.NOISE),
        ("end to end p99     +5.0 %     -4.0 % to +14.0 %  +10.0 %  inconclusive  from +2.1 %", Finding.INCONCLUSIVE),
        ("  no value in 1 of 12 rounds", Finding.INCONCLUSIVE),
        ("goodput            not known                     +5.0 %   hardware", Finding.HARDWARE),
        ("  machine 14 throttled: power cap", Finding.HARDWARE),
        ("20 rounds a host on 2 hosts would settle what is open, for about 0.70 USD", ""),
    ]


def test_a_ratio_without_measure_fills_no_line() -> None:
    wild = Judged("throughput", 0.05, Finding.INCONCLUSIVE, 1e300, -1e300, 1e305, 0.5, 1e300, rounds=6)
    assert all(len(line) < 150 for line, _ in compared_lines("t", replace(COMPARED, judged=(wild,))))
    assert slowdown(wild) == "+1e+302 % (-1e+302 to +1e+307)"
    assert in_short(Figure(1e-300, "1/s", 0, 1.0)) == "0.000000000 ±1e+302 %"
    assert slowdown(COMPARED.judged[0]) == "+8.0 % (+6.0 to +10.0)"


def test_the_json_has_every_number_and_is_json_for_all_programs() -> None:
    given = replace(COMPARED, judged=(replace(COMPARED.judged[0], resolves=math.inf),))
    found = document({"run": "ab12"}, Kept([("a", measured(commits=2))], [("b", given)]))
    read = json.loads(json.dumps(found), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (read["version"], read["run"]) == (1, "ab12")
    assert [each["test"] for key in ("measurements", "comparisons") for each in read[key]] == ["a", "b"]
    assert from_json(Measured, read["measurements"][0]) == measured(commits=2)
    assert from_json(Compared, read["comparisons"][0]) == given
    throughput = read["measurements"][0]["measurement"]["figures"]["throughput"]
    assert throughput.keys() >= {"value", "unit", "low", "high"}


def test_foreign_text_steers_no_terminal_and_betrays_no_secret() -> None:
    KNOWN.add("token", "s3cr3t-t0k3n")
    found = hostile("\x1b[31m\n::error::s3cr3t-t0k3n\u202e")
    for many in (found.measured[:1], found.measured):
        for verbose in (False, True):
            lines = [
                *measured_lines(many, 400, all_metrics=verbose),
                *(line for each in found.compared for line, _ in compared_lines(*each)),
            ]
            text = "\n".join(lines)
            assert len(lines) > 20
            assert not {"\x1b", "\u202e"} & set(text)
            assert "s3cr3t" not in text
            assert not any(line.lstrip().startswith("::") for line in text.splitlines())
