from __future__ import annotations

import io
import json
from typing import TextIO

import pytest

from pytest_vastgpu.cli.doctor import report
from pytest_vastgpu.cli.doctor.command import takes_colour
from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.core.text.redaction import KNOWN

LONG = "a word " * 30
FINDINGS = [
    ok("key", "accepted"),
    warning("proxies", LONG, LONG, "export NO_PROXY=" + "127.0.0.1," * 10),
    problem("market", "no answer", "see the network"),
]


def test_words_are_aligned_and_wrapped_and_commands_are_whole() -> None:
    lines = report.as_text(FINDINGS).splitlines()
    assert lines[0] == "ok       key      accepted"
    assert lines[1].startswith("warning  proxies  a word a word")
    assert lines[-3:-1] == ["problem  market   no answer", "                  -> see the network"]
    assert lines[-1] == "1 problem, 1 warning, 1 ok"
    command = [line for line in lines if "NO_PROXY" in line]
    assert [line.strip() for line in command] == ["export NO_PROXY=" + "127.0.0.1," * 10]
    assert all(len(line) <= 80 for line in lines if line not in command)
    assert all(line[:18].isspace() for line in lines[2:-3]), "what goes on stands below what it goes on from"


@pytest.mark.parametrize(("width", "longest"), [(60, 60), (200, 80), (1, 40)])
def test_a_terminal_may_be_narrower(width: int, longest: int) -> None:
    lines = report.as_text([*FINDINGS[2:], ok("key", LONG)], width=width).splitlines()
    assert longest - 10 < max(map(len, lines)) <= longest


def test_colour_is_extra() -> None:
    coloured = report.as_text(FINDINGS, colour=True)
    assert coloured != report.as_text(FINDINGS)
    for code in ("32", "33", "31;1", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == report.as_text(FINDINGS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_is_for_terminals_whose_user_wants_it(stream: TextIO, environ: dict[str, str], colour: bool) -> None:
    assert takes_colour(stream, environ) == colour


def test_as_json() -> None:
    document = json.loads(report.as_json(FINDINGS))
    assert document["version"] == 1
    assert [(each["name"], each["level"]) for each in document["findings"]] == [
        ("key", "ok"),
        ("proxies", "warning"),
        ("market", "problem"),
    ]
    assert document["findings"][1]["command"].startswith("export NO_PROXY")
    assert document["findings"][2]["remedy"] == "see the network"


@pytest.mark.parametrize(
    ("findings", "code"),
    [(FINDINGS[:1], 0), (FINDINGS[:2], 0), (FINDINGS, 1), (FINDINGS[2:], 1)],
)
def test_only_a_problem_is_an_exit_code(findings: list[Finding], code: int) -> None:
    assert report.exit_code(findings) == code


@pytest.mark.parametrize("write", [report.as_text, report.as_json])
def test_what_others_said_is_made_safe(write: object) -> None:
    KNOWN.add("VAST_API_KEY", "k3y-of-the-account")
    said = problem("market", "\x1b[2Jno k3y-of-the-account", "\x07k3y-of-the-account", "echo k3y-of-the-account\x1b[0m")
    assert callable(write)
    text = write([said])
    assert "k3y" not in text
    assert "\x1b" not in text
    assert "\x07" not in text
