"""Checks of the faults of servers: the start script starts a server, and writes its log and exit code to files."""

from __future__ import annotations

from typing import Any

from tests.support.local.scene import Scene
from tests.support.local.scene import check
from tests.support.looks import until

START = "cd; vllm serve some/model > log 2>&1; echo $? > exit_code"
SERVE = "cd; python3 -m http.server 8000 --bind 127.0.0.1 > log 2>&1; echo $? > exit_code"
REAL = {"program": "python3", "argument": "http.server", "after_s": 0.2}


def ask(scene: Scene, row: dict[str, Any], path: str, body: str = "") -> str:
    """Return the server's answer and then its HTTP status; 000 if there is no answer within two seconds."""
    data = f"--data '{body}'" if body else ""
    return scene.ssh(row, f"curl -s -m 2 -w '%{{http_code}}' {data} http://127.0.0.1:8000{path}").stdout


def ended(scene: Scene, row: dict[str, Any]) -> tuple[str, str]:
    """Wait for the server's end; return its exit code and last line."""
    until(lambda: scene.ssh(row, "cat exit_code").stdout, lambda text: text.strip() != "")
    code, _, log = scene.ssh(row, "cat exit_code; tail -n 1 log").stdout.partition("\n")
    return code, log.strip()


@check("server_crash", stage="capturing", says="uncorrectable_ecc")
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    assert ended(scene, row) == ("1", "RuntimeError: CUDA error: uncorrectable ECC error encountered")
    assert "Loading safetensors" in scene.ssh(row, "cat log").stdout


@check("server_hangs", stage="loading")
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    until(lambda: scene.ssh(row, "tail -n 1 log").stdout, lambda text: "Loading safetensors" in text)
    assert scene.ssh(row, "cat exit_code").returncode == 1


@check("server_other_model", model="some/other")
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    until(lambda: ask(scene, row, "/v1/models"), lambda text: '"some/other"' in text)
    assert ask(scene, row, "/v1/completions", '{"model": "some/model"}').endswith("404")
    assert ask(scene, row, "/v1/completions", '{"model": "some/other"}').endswith("200")


@check("server_ready_too_early", for_s=5.0)
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    until(lambda: ask(scene, row, "/v1/models"), lambda text: text.endswith("200") and '"some/model"' in text)
    completion = '{"model": "some/model"}'
    assert ask(scene, row, "/v1/completions", completion).endswith("503")
    until(lambda: ask(scene, row, "/v1/completions", completion), lambda text: text.endswith("200"))


@check("server_answers", status=410)
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    until(lambda: ask(scene, row, "/health"), lambda text: text.endswith("410"))
    assert ask(scene, row, "/v1/completions", '{"model": "some/model"}').endswith("410")


@check("server_other_port", instead=8123)
def _(scene: Scene) -> None:
    row = scene.running(onstart=START)
    there = "curl -s -m 2 -w '%{http_code}' http://127.0.0.1:8123/health"
    until(lambda: scene.ssh(row, there).stdout, lambda text: text.endswith("200"))
    assert ask(scene, row, "/health") == "000"


@check("server_dies", says="killed", **REAL)
def _(scene: Scene) -> None:
    row = scene.running(onstart=SERVE)
    assert ended(scene, row) == ("137", "Killed")
    assert ask(scene, row, "/") == "000"


@check("server_freezes", **REAL)
def _(scene: Scene) -> None:
    row = scene.running(onstart=SERVE)
    until(lambda: scene.ssh(row, "ps -e -o stat=,args= | grep 'http[.]server'").stdout, lambda text: "\nT" in text)
    assert ask(scene, row, "/") == "000"
    assert scene.ssh(row, "cat exit_code").returncode == 1
