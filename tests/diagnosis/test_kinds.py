"""The names of servers: one home, many spellings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pytest_vastgpu.cli.classify_stream import classify_stream
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.diagnosis.kinds import ANY
from pytest_vastgpu.diagnosis.kinds import KINDS
from pytest_vastgpu.diagnosis.kinds import kind_of
from pytest_vastgpu.diagnosis.rules.ruleset import RULES
from pytest_vastgpu.model import HOST
from pytest_vastgpu.servers import registry
from pytest_vastgpu.servers.http_server import HttpServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "servers.md"
BEGINS = "INFO:     Application startup complete.\n"
"""From SGLang the start goes on after this line."""


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("vllm", "vllm"),
        ("llamacpp", "llama.cpp"),
        ("Llama-CPP", "llama.cpp"),
        ("llama-server", "llama.cpp"),
        ("tritonserver", "triton"),
        ("text-generation-inference", "tgi"),
        ("TensorRT_LLM", "trtllm"),
        ("trtllm-serve", "trtllm"),
        ("transformers serve", "transformers"),
        ("openai_server", ANY),
        ("", ANY),
        ("my-own", "my-own"),
    ],
)
def test_a_server_is_known_by_what_people_call_it(said: str, kind: str) -> None:
    assert kind_of(said) == kind


def test_rules_and_adapters_use_the_kinds_of_the_list() -> None:
    kinds = {kind for rule in RULES for kind in rule.servers}
    kinds |= {adapter.kind for adapter, _ in registry.adapters([]) if isinstance(adapter, HttpServer) and adapter.kind}
    assert kinds <= KINDS.keys()
    servers = {adapter.name for adapter, _ in registry.adapters([])} - {HOST}
    assert {kind_of(name) for name in servers} <= KINDS.keys()


@pytest.mark.parametrize(
    ("server", "told"), [("SGLang", "warmup"), ("sgl", "warmup"), ("any", "ready"), ("vllm", "ready")]
)
def test_the_command_takes_any_spelling(
    server: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(BEGINS))
    assert main(["classify", "--json", "--server", server]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == told


def test_the_help_lists_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["classify", "--help"])
    told = capsys.readouterr().out.replace(",", " ").split()
    assert set(KINDS) <= set(told)


def test_the_document_lists_every_kind() -> None:
    section = DOCUMENT.read_text().partition("## Whose fault a failure is")[2]
    assert [kind for kind in KINDS if f"`{kind}`" not in section] == []


def test_a_server_that_is_not_listed_is_data_of_a_line_and_no_error() -> None:
    out = io.StringIO()
    lines = [json.dumps({"text": BEGINS, "server": server}) for server in ("my-own", "SGL")]
    assert classify_stream(io.StringIO("\n".join(lines)), out, jsonl=True) == 0
    assert [json.loads(line)["class"] for line in out.getvalue().splitlines()] == ["ready", "warmup"]
