from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
import time

import pytest

from pytest_vastgpu.cli import main
from pytest_vastgpu.lifecycle.home import open_client
from pytest_vastgpu.lifecycle.ledger import make_label
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.market.client import CreateRequest


@pytest.mark.usefixtures("unthrottled")
def test_ls_and_destroy_look_after_what_is_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalMarket({"market": {"rate_limits": False}, "machines": [{"count": 3}]}) as market:
        monkeypatch.setenv("VAST_URL", market.url)
        monkeypatch.setenv("VAST_API_KEY", market.api_key)
        assert main(["ls"]) == 0
        assert capsys.readouterr().out == "no instance of pytest-vastgpu is alive\n"
        label = make_label("abcd1234", 1, time.time() + 3600)
        with open_client(market.url, market.api_key) as client:
            offers = client.search({"limit": 3})
            ours = client.create(offers[0].id, CreateRequest("image", 10, label))
            foreign = client.create(offers[1].id, CreateRequest("image", 10, "somebody-elses"))
        assert main(["ls"]) == 0
        listed = capsys.readouterr().out
        assert re.match(
            rf"{ours}  \w+  machine \d+ .* \(0 min\)  .* USD/h, .* run abcd1234 .*  must be gone in 60 min\n$", listed
        )
        assert main(["destroy", label]) == 0
        assert capsys.readouterr().out == f"instance {ours} is gone\n"
        assert main(["destroy", str(ours)]) == 0, "idempotent"
        assert main(["destroy", label]) == 0
        assert "no instance carries the label" in capsys.readouterr().out
        assert main(["destroy", "somebody-elses"]) == 1
        assert "neither an instance's id nor a label" in capsys.readouterr().err
        assert [row["id"] for row in market.status()["alive"]] == [foreign]


@pytest.mark.parametrize("arguments", [["ls"], ["destroy", "1"]])
def test_without_a_key_it_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "vastgpu: VAST_API_KEY is not set: set it to the key of the account to look at\n"
    )


def test_classify_reads_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("vllm: error: unrecognized arguments: --foo\n"))
    assert main(["classify", "--server", "vllm", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["class"], verdict["reason"]) == ("workload_fatal", "bad_cli_argument")


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["local", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"vastgpu: port {port} on 127.0.0.1 cannot be used")
    assert error.count("\n") == 1


def test_the_command_is_also_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_vastgpu", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("classify", "hosts", "ls", "destroy", "local"):
        assert name in done.stdout


def test_serving_without_the_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_vastgpu.local.embed.find_spec", lambda name: None)
    assert main(["local"]) == 1
    assert "install them with pip install 'pytest-vastgpu[local]'" in capsys.readouterr().err
