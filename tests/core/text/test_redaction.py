from __future__ import annotations

import base64
import json
import os
from html import escape
from typing import Any
from urllib.parse import quote
from urllib.parse import quote_plus

import pytest

from pytest_vastgpu.core.text.redaction import Redactor
from pytest_vastgpu.model import Workload

VALUE = "s3cr3t/+&'value\\7"
ENVIRONMENT = (
    ("HF_TOKEN", "abc"),
    ("MODE", "on"),
    ("PLACE", "somewhere private"),
    ("TOKENIZERS_PARALLELISM", "false"),
    ("CACHE", "/root/.cache/models"),
    ("MAX_TOKENS", "2048"),
    ("USE_KEYS", "on"),
    ("PASSWORD", "90125"),
)


@pytest.fixture
def without() -> Redactor:
    redactor = Redactor()
    redactor.add_workload(Workload("vllm", env=ENVIRONMENT))
    redactor.add("account", "a1b2c3")
    redactor.add("value", VALUE)
    return redactor


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HF_TOKEN abc, MODE on", "HF_TOKEN <HF_TOKEN>, MODE on"),
        ("read somewhere private", "read <PLACE>"),
        ("key a1b2c3", "key <account>"),
        ("2048 tokens on, 90125", "2048 tokens on, <PASSWORD>"),
        ("false, in /root/.cache/models", "false, in /root/.cache/models"),
        ("Authorization: Bearer s3cr3t!", "Authorization: Bearer <removed>"),
        ("use hf_0123456789xyz now", "use <removed> now"),
        ("vllm serve m --api-key topsecret --port 1", "vllm serve m --api-key <removed> --port 1"),
        ("mysql --password topsecret -v", "mysql --password <removed> -v"),
        ("it takes --token t0p and --secret s3c", "it takes --token <removed> and --secret <removed>"),
        ("args: {'api_key': ['topsecret'], 'port': 1}", "args: {'api_key': ['<removed>'], 'port': 1}"),
        ('{"api_key": "topsecret"}', '{"api_key": "<removed>"}'),
        ("VLLM_API_KEY=topsecret", "VLLM_API_KEY=<removed>"),
        ("CONTAINER_API_KEY=" + "0f" * 32, "CONTAINER_API_KEY=<removed>"),
        ("it says " + "0f" * 32 + " now", "it says <removed> now"),
        ("python@sha256:" + "0f" * 32, "python@sha256:" + "0f" * 32),
        ("at postgres://me:hunter2@db/x", "at postgres://<removed>@db/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest", "<removed>\nrest"),
        ("max_tokens 16, 5 tokens/s", "max_tokens 16, 5 tokens/s"),
    ],
)
def test_secrets_are_removed_and_nothing_else(without: Redactor, text: str, shown: str) -> None:
    assert without(text) == shown


@pytest.mark.parametrize(
    "written",
    [
        quote(VALUE),
        quote(VALUE, safe=""),
        quote(VALUE, safe="").lower(),
        quote_plus(VALUE),
        json.dumps(VALUE),
        repr(VALUE),
        escape(VALUE),
        VALUE.encode().hex(),
        *(base64.b64encode(f"{before}{VALUE}{after}".encode()).decode() for before in ("", "a", "ab") for after in "-"),
        base64.urlsafe_b64encode(f"user:{VALUE}".encode()).decode(),
    ],
)
def test_a_secret_is_known_however_it_is_written(without: Redactor, written: str) -> None:
    assert "<value>" in without(f"before {written} after")


def test_a_secret_that_is_part_of_another_gives_nothing_of_it_away() -> None:
    redactor = Redactor()
    redactor.add("short", "abc")
    redactor.add("long", "abcdef")
    assert redactor("abcdef") == "<long>"


def test_long_secrets_of_a_command_are_known_and_words_that_any_text_has_are_not() -> None:
    redactor = Redactor()
    redactor.add_command("bench --password 'correct horse' --api-key test")
    redactor.add_long("Authorization", "test")
    assert redactor("a test of correct horse") == "a test of <--password>"


def test_each_line_of_a_private_key_is_secret_by_itself() -> None:
    lines = ["AAAAB3NzaC1yc2EAAAADAQABAAABgQC7", "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFy"]
    redactor = Redactor()
    redactor.add("SSH key", "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END"]))
    assert redactor(f"log: {lines[1]}") == "log: <SSH key>"


@pytest.mark.parametrize(
    "workload",
    [
        Workload("vllm", args=("--api-key", "correct horse", "--port", "1")),
        Workload("vllm", args=("--hf-token=correct horse",)),
        Workload("command", command="MY_SECRET='correct horse' exec python3 server.py --key-size 5"),
        Workload("command", command="exec server --password 'correct horse' --verbose"),
        Workload("command", command="PASSWORD=correct exec server 'horse"),
        Workload("command", command="serve", setup="mytool login --password 'correct horse' --verbose"),
        Workload("command", command="serve", setup="PASSWORD=correct mytool login 'horse"),
    ],
)
def test_secrets_of_arguments_and_of_the_commands_are_known(workload: Workload) -> None:
    redactor = Redactor()
    redactor.add_workload(workload)
    shown = redactor("it said: correct horse, 5 --verbose on port 1")
    assert "correct" not in shown
    assert shown.endswith("5 --verbose on port 1")


def test_a_variable_is_looked_up_whenever_a_text_is(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor()
    redactor.add_variable("VAST_API_KEY")
    monkeypatch.setenv("VAST_API_KEY", "a1b2c3d4/+e5")
    assert redactor("key a1b2c3d4/+e5, a1b2c3d4%2F%2Be5") == "key <VAST_API_KEY>, <VAST_API_KEY>"
    monkeypatch.delenv("VAST_API_KEY")
    assert redactor("key a1b2c3d4/+e5") == "key a1b2c3d4/+e5"


def test_a_variable_may_be_added_while_another_thread_looks_through_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor()
    redactor.add_variable("ONE")

    class Environment(dict[str, str]):
        def get(self, *asked: Any) -> Any:
            redactor.add_variable("ANOTHER")
            return super().get(*asked)

    monkeypatch.setattr(os, "environ", Environment(ONE="the first secret", ANOTHER="the second secret"))
    assert redactor("the first secret") == "<ONE>"
    assert redactor("the second secret") == "<ANOTHER>"
