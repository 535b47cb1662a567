"""SGLang and Ollama through the plugin, SSH and the local market: stand-ins for both programs, not the real ones."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tests.behaviour.conftest import RentFrom
from tests.support import ollama_stand_in
from tests.support import sglang_stand_in

CONFTEST = """
import pytest
from pytest_vastgpu import {name}

@pytest.fixture
def vast_workload():
    return {name}("tiny", env={env!r}, gpus=0, disk_gb=8, image_gb=0)
"""
ASK = """
import httpx

def test_it(vast_instance):
    path, body = {request!r}
    answer = httpx.post(vast_instance.endpoint + path, headers=vast_instance.headers, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert {text!r} in answer.text
    refused = httpx.post(vast_instance.endpoint + path, json=body, timeout=60)
    assert refused.status_code == {without_key}
    listed = vast_instance.run("cat /proc/[0-9]*/cmdline | tr '\\\\0' ' '").stdout
    assert "serve" in listed
    assert vast_instance.api_key not in listed
    assert vast_instance.api_key.isalnum()  # one that begins with "-" would be taken for an option
"""


def write_suite(
    pytester: pytest.Pytester, name: str, request: tuple[str, object], *, text: str, without_key: int, does: str = ""
) -> None:
    """A suite that rents for the stand-in of this name, which goes before the real program in the PATH."""
    programs = {"ollama": ("ollama", ollama_stand_in), "sglang": ("python3", sglang_stand_in)}
    program, module = programs[name]
    folder = pytester.path / "programs"
    folder.mkdir()
    here, real = (shlex.quote(str(path)) for path in (module.__file__, sys.executable))
    (folder / program).write_text(
        f'#!/bin/sh\nif [ "$2" = sglang.launch_server ]; then shift 2; exec {real} {here} "$@"; fi\n'
        + (f'exec {real} {here} "$@"\n' if program == "ollama" else f'exec {real} "$@"\n')
    )
    (folder / program).chmod(0o755)
    env = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "STAND_IN": does}
    pytester.makeconftest(CONFTEST.format(name=name, env=env))
    pytester.makepyfile(ASK.format(request=request, text=text, without_key=without_key))


OLLAMA = ("/api/generate", {"model": "tiny", "prompt": "The sky is", "stream": False})
SGLANG = ("/v1/completions", {"model": "tiny", "prompt": "The sky is", "max_tokens": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "request_", "text", "without_key"),
    [("sglang", SGLANG, " blue", 401), pytest.param("ollama", OLLAMA, "The sky is", 200, marks=pytest.mark.slow)],
)
def test_it_becomes_ready_and_answers_and_its_key_is_in_no_process_list(
    pytester: pytest.Pytester,
    rent_from: RentFrom,
    host_cache: Path,
    name: str,
    request_: tuple[str, object],
    text: str,
    without_key: int,
) -> None:
    rent_from({"this_machine": True})
    write_suite(pytester, name, request_, text=text, without_key=without_key)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*: ready after *"])


@pytest.mark.slow
def test_a_pull_that_fails_ends_the_run_with_its_message_and_blames_no_machine(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path
) -> None:
    market = rent_from({"this_machine": True})
    write_suite(pytester, "ollama", OLLAMA, text="", without_key=200, does="missing")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*failed while warming: workload_fatal: *", "*Error: pull model manifest: file does not exist*"]
    )
    assert len(market.status()["ended"]) == 1
