"""What a person sees of a wait, in a terminal."""

from __future__ import annotations

import os
import re
import sys

import pytest

from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import serving_once
from tests.support.screen import Screen
from tests.support.screen import run_on_screen

pytestmark = pytest.mark.slow

BOOTS_S = 6
"""A wait is shown after half of it."""
TESTS = (
    WORKLOAD
    + """
def test_one(): pass
def test_two(): pass
def test_three(vast_instance): pass
def test_four(): pass
"""
)
SHOWN = re.compile(r"vastgpu: (?:waiting )?(\d+) s.*, \d+\.\d{4} USD, |vastgpu: waiting (\d+) s for command ")
DOTS = re.compile(r"\.{4} +\[100%\]")


def watched(pytester: pytest.Pytester, columns: int, *options: str, **environ: str) -> tuple[Screen, list[list[str]]]:
    """The screen at the end, and all screens before on which a wait was shown. It ends once it has changed in place."""
    screen, waits = Screen(columns), []
    pytester.makepyfile(test_it=TESTS)
    seen = pytester.path / "seen"
    pytester.path.joinpath("server.py").write_text(serving_once(seen))
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *options]

    def look(screen: Screen) -> None:
        if any(SHOWN.match(row) for row in screen.rows):
            waits.append(screen.rows)
        if len({rows[-1] for rows in waits}) > 1:
            seen.touch()

    environ = {**os.environ, "TERM": "xterm-256color", **environ}
    assert run_on_screen(command, screen, environ, look) == pytest.ExitCode.OK
    return screen, waits


@pytest.fixture
def boots_slowly(rent_from: RentFrom) -> None:
    rent_from({"machines": [{"stages": {"loading_s": BOOTS_S}}]})


@pytest.mark.usefixtures("boots_slowly")
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}], ids=["colour", "no colour"])
def test_pytest_s_own_line_stays_whole_above_the_wait(
    pytester: pytest.Pytester, columns: int, environ: dict[str, str]
) -> None:
    screen, waits = watched(pytester, columns, "-q", **environ)
    assert len(waits) >= 2, "it changes in place"
    for rows in waits:
        assert rows[-2] == ".."
        assert SHOWN.match(rows[-1])
        assert sum(bool(SHOWN.match(row)) for row in rows) == 1
    assert sum(bool(DOTS.fullmatch(row)) for row in screen.everything) == 1
    assert not any(SHOWN.match(row) for row in screen.everything)


@pytest.mark.usefixtures("boots_slowly")
@pytest.mark.parametrize("options", [["-n4"], ["-n4", "-v"], ["-v"], ["-s"], ["--no-header"]], ids=" ".join)
def test_nothing_of_a_wait_is_left_between_the_lines(pytester: pytest.Pytester, options: list[str]) -> None:
    screen, waits = watched(pytester, 80, *options)
    assert len(waits) >= 2
    assert all(SHOWN.match(rows[-1]) for rows in waits)
    whole = screen.everything
    assert not any(SHOWN.match(row) for row in whole)
    if "-v" in options:
        for name in ("one", "two", "three", "four"):
            assert sum(f"test_it.py::test_{name}" in row and "PASSED" in row for row in whole) == 1


@pytest.mark.usefixtures("boots_slowly")
@pytest.mark.parametrize("option", ["-qq", "-pno:terminal"])
def test_who_wants_silence_has_it(pytester: pytest.Pytester, option: str) -> None:
    pytester.path.joinpath("seen").touch()  # nothing will be
    _, waits = watched(pytester, 80, option)
    assert waits == []


def test_without_a_terminal_a_line_comes_after_half_a_minute_from_the_controller(
    pytester: pytest.Pytester, rent_from: RentFrom
) -> None:
    rent_from({"machines": [{"stages": {"loading_s": 40}}]})
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=4)
    (line,) = [line for line in result.outlines if line.startswith("vastgpu: waiting")]
    assert re.fullmatch(
        r"vastgpu: waiting 3\d s for command '.+' on instance \d+ \(.+\): .+; boot budget 15 min, 14 min \d+ s left; "
        r"0\.\d{4} USD so far",
        line,
    )
