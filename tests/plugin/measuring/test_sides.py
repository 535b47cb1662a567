"""What both sides of a comparison are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.model import Workload
from pytest_vastgpu.plugin.measuring.sides import options
from pytest_vastgpu.plugin.measuring.sides import side_names

ONE = Workload("vllm", "org/model", args=("--threads", "1", "--quick"), env=(("LEVEL", "a"),))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ("", "")),
        ({"args": (*ONE.args, "--enforce-eager")}, ("", " (--enforce-eager)")),
        ({"args": ("--threads", "4", "--quick")}, (" (--threads 1)", " (--threads 4)")),
        ({"args": ("--quick", "--threads", "1")}, ("", " (args in another order)")),
        ({"gpus": 2}, (" (gpus=1)", " (gpus=2)")),
        ({"env": (("LEVEL", "s3cret"), ("MORE", "s3cret"))}, ("", " (other env LEVEL, MORE)")),
        ({"setup": "pip install s3cret"}, ("", " (other setup)")),
        ({"files": (("a", "/s3cret"),)}, ("", " (other files)")),
        ({"image_login": "-u me -p s3cret"}, ("", " (other image_login)")),
        ({"command": "s3cret"}, ("", " (other command)")),
    ],
)
def test_what_differs_is_in_the_names(changes: dict[str, Any], names: tuple[str, str]) -> None:
    found = side_names({"A": ONE, "B": replace(ONE, **changes)})
    assert found == {side: f"vllm 'org/model'{name}" for side, name in zip("AB", names, strict=True)}


def test_what_the_line_shows_is_not_said_twice() -> None:
    other = replace(ONE, model="org/other", args=())
    assert side_names({"A": ONE, "B": other}) == {
        "A": "vllm 'org/model' (--threads 1, --quick)",
        "B": "vllm 'org/other'",
    }


def test_a_known_secret_is_in_no_name() -> None:
    other = replace(ONE, args=("--api-key", "s3cret-value"))
    KNOWN.add_workload(other)
    assert "s3cret" not in side_names({"A": ONE, "B": other})["B"]


def test_an_option_keeps_its_values() -> None:
    assert options(["serve", "-x", "1", "2", "--flag", "--y=3"]) == ["serve", "-x 1 2", "--flag", "--y=3"]
