from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.supervisor.rental.server.state import LogPiece
from pytest_vastgpu.supervisor.rental.server.state import ProcessState
from pytest_vastgpu.supervisor.rental.server.state import ServerState
from pytest_vastgpu.supervisor.rental.server.state import ServerUpdate
from pytest_vastgpu.supervisor.rental.server.state import parse

PROBES = (Probe("answers", "curl"), Probe("gpu", "nvidia-smi"))
LIMIT = 1_000_000


def result(failure: ProbeFailure, code: int | None, stdout: str = "", stderr: str = "") -> ProbeResult:
    return ProbeResult("gpu", failure, code, stdout, stderr, 0.25)


@pytest.mark.parametrize(
    ("line", "news"),
    [
        ("log 17 0a00ff", LogPiece(17, b"\n\0\xff")),
        ("log 17 ", LogPiece(17, b"")),
        ("server alive", ProcessState(None)),
        ("server 0", ProcessState(0)),
        ("server 139", ProcessState(139)),
        ("server killed", ProcessState(137)),
        ("server 3 10.50 12.75", ProcessState(3, 2.25)),
        ("server 3 10.50", ProcessState(3)),
        ("server 3 10 nan", ProcessState(3)),
        ("server 3 12 10", ProcessState(3)),
        ("server 3 1 2 3", None),
        ("server 3 x 2", None),
        ("probe 2 0 25 c3a9ff ", result(ProbeFailure.NONE, 0, "é\ufffd")),
        ("probe 2 7 25  0a", result(ProbeFailure.COMMAND, 7, "", "\n")),
        ("probe 2 late 25 61 62", result(ProbeFailure.TIMEOUT, None, "a", "b")),
        ("", None),
        ("log", None),
        ("log 17", None),
        ("log 17 0", None),
        ("log x 00", None),
        ("server", None),
        ("server dead", None),
        ("probe 3 0 25  ", None),
        ("probe 2 0 25 ", None),
        ("probe 2 0 25 0", None),
        pytest.param(f"probe 2 0 {10**400}  ", None, id="a time that is none"),
        ("sleep: invalid number", None),
    ],
)
def test_what_a_line_says(line: str, news: ServerUpdate | None) -> None:
    assert parse(line, PROBES) == news


@given(st.text())
def test_no_line_is_a_surprise(line: str) -> None:
    parse(line, PROBES)


@given(st.text(), st.data())
def test_a_log_is_whole_however_it_was_cut(log: str, data: st.DataObject) -> None:
    whole = log.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    sight = ServerState(PROBES, LIMIT)
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        assert sight.offset == start
        sight.take(LogPiece(start, whole[start:end]))
    assert sight.observation(1.0).log == log


def test_the_newest_of_everything_is_seen() -> None:
    sight = ServerState(PROBES, LIMIT)
    first = sight.observation(0.0)
    assert {name: each.failure for name, each in first.probes.items()} == dict.fromkeys(
        ("answers", "gpu"), ProbeFailure.TRANSPORT
    )
    assert (first.log, first.exit_code, first.age_s) == ("", None, 0.0)
    old, new = result(ProbeFailure.COMMAND, 1), result(ProbeFailure.NONE, 0)
    for news in (old, LogPiece(0, b"one\n"), new, ProcessState(None), ProcessState(3)):
        sight.take(news)
    assert sight.observation(2.0) == Observation({**first.probes, "gpu": new}, "one\n", 3, 2.0)
    assert first.probes["gpu"] != new


def test_a_gap_in_the_log_is_seen() -> None:
    sight = ServerState(PROBES, LIMIT)
    sight.take(LogPiece(0, b"start"))
    sight.take(LogPiece(105, b"end"))
    assert sight.observation(1.0).log == "start\n[... 100 bytes left out ...]\nend"
    assert sight.offset == 108


def test_of_a_log_without_end_start_and_end_are_kept() -> None:
    sight = ServerState(PROBES, 1000)
    for number in range(100):
        sight.take(LogPiece(sight.offset, f"{number:04}".encode() * 25))
    log = sight.observation(1.0).log
    assert log.startswith("0000")
    assert log.endswith("0099")
    assert len(log) < 1100


@pytest.mark.parametrize("offset", ["-1", "9" * 30, "9" * 5000, "nan"])
def test_a_place_that_no_file_has_is_no_news(offset: str) -> None:
    assert parse(f"log {offset} 41", ()) is None


def test_how_long_nothing_new_was_seen() -> None:
    probes = (Probe("answers", "ask", 1.0, port=8000), Probe("gpu", "smi", 1.0))
    sight = ServerState(probes, LIMIT)

    def still(age_s: float, *news: ServerUpdate) -> float:
        for each in news:
            sight.take(each)
        return sight.observation(age_s).still_s

    assert still(1.0, LogPiece(0, b"loading 1 of 9\n")) == 0.0
    assert still(31.0, LogPiece(15, b"loading 2 of 9\n")) == 30.0, "numbers make nothing new"
    assert sight.observation(61.0, watched=False).still_s == 30.0, "of a server that nobody watches nothing is known"
    assert still(91.0, result(ProbeFailure.NONE, 0)) == 90.0, "a GPU that is there is no news of the server"
    answer = ProbeResult("answers", ProbeFailure.NONE, 0, "@@ health 503", "", 0.1)
    assert still(121.0, answer) == 0.0
    assert still(151.0, answer, LogPiece(30, b"loaded\n")) == 0.0


def test_what_of_the_log_is_told_twice_is_kept_once() -> None:
    sight = ServerState(PROBES, LIMIT)
    for piece in (LogPiece(0, b"one\ntwo\n"), LogPiece(4, b"two\nthree\n"), LogPiece(0, b"one\n")):
        sight.take(piece)
    assert (sight.observation(1.0).log, sight.offset) == ("one\ntwo\nthree\n", 14)
