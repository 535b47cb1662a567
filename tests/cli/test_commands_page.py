"""``docs/commands.md`` says what the commands do."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import pytest

from pytest_vastgpu.cli import instance_list
from pytest_vastgpu.cli import run_list
from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import parser
from pytest_vastgpu.cli.run_records import RunRecord
from pytest_vastgpu.core.ledger_record import Record
from tests.cli.test_ls import ours

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


def test_it_tells_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]


@pytest.mark.parametrize(
    "document",
    [
        instance_list.document(ours(), time.time()),
        run_list.document(RunRecord(Path("runs/abcd1234"), Record(), alive=False, readable=True, started_at=0.0), 0.0),
    ],
    ids=["ls", "runs"],
)
def test_it_names_every_key_of_a_document(document: dict[str, object]) -> None:
    assert [name for name in document if f"`{name}`" not in PAGE] == []


def test_it_names_every_command() -> None:
    [commands] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert [name for name in commands.choices if f"`vastgpu {name}" not in PAGE] == []


def test_its_tables_have_the_columns_that_are_printed() -> None:
    shown = [tuple(re.split(r"  +", line)) for line in PAGE.splitlines() if line.startswith("id   ")]
    assert shown == [instance_list.HEADER, run_list.HEADER]
