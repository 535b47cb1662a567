"""llama.cpp's own server, on CPU, through the plugin and the local market: whose fault its real failures are.

The server is that of the wheel ``xllamacpp``, which the extra ``dev`` installs; the model is made on the spot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.servers.llamacpp import LlamaCppAdapter
from tests.behaviour import conftest as renting
from tests.behaviour.real_servers import SYSTEM_PATH
from tests.behaviour.real_servers import assert_nobody_blamed
from tests.behaviour.real_servers import conftest
from tests.behaviour.real_servers import hold_port
from tests.support import tiny_gguf

pytest.importorskip("xllamacpp", reason="there is no wheel of llama.cpp's server for this machine")

RentFrom = Callable[[dict[str, Any]], LocalMarket]

ASKS = """
import httpx

def ask(instance, headers):
    return httpx.post(
        instance.endpoint + "/v1/completions",
        headers=headers,
        json={"model": MODEL, "prompt": "The cheapest machine", "max_tokens": 4, "temperature": 0},
        timeout=60,
    )
"""
ENV = {"PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}"}
QUICK = ("--threads", "1")
"""Two threads wait for each other by turns of the processor, which takes seconds where others use it, too."""


def write_suite(
    pytester: pytest.Pytester, model: Path, tests: str, args: tuple[str, ...] = (), before: str = "", gpus: int = 0
) -> None:
    workload = (
        f"llamacpp({str(model)!r}, *{(*QUICK, *args)!r}, gpus={gpus}, disk_gb=8, cuda=12.4, warmup_s=60, env={ENV!r})"
    )
    pytester.makeconftest(conftest(LlamaCppAdapter, workload, before))
    pytester.makepyfile(f"MODEL = {model.stem!r}\n{ASKS}{tests}")


def good(place: Path) -> Path:
    return tiny_gguf.write(place / "tiny.gguf")


def truncated(place: Path) -> Path:
    model = good(place)
    os.truncate(model, model.stat().st_size // 2)
    return model


def no_gguf(place: Path) -> Path:
    """In the image, where it is not looked at before."""
    model = place / "model.bin"
    model.write_bytes(b"PK\3\4" + bytes(1000))
    return model


def unknown_architecture(place: Path) -> Path:
    model = good(place)
    content = model.read_bytes()
    model.write_bytes(content.replace(b"llama", b"lamma", 1))
    return model


def test_a_good_start_serves_and_a_server_killed_in_a_test_leaves_its_failure_to_the_test(
    pytester: pytest.Pytester, rent_from: RentFrom, host_cache: Path, tmp_path: Path
) -> None:
    rent_from({"this_machine": True})
    write_suite(
        pytester,
        good(tmp_path),
        """
def test_1_answers(vast_instance):
    answer = ask(vast_instance, vast_instance.headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert ask(vast_instance, {}).status_code == 401
    assert vast_instance.api_key not in vast_instance.run("cat /proc/[0-9]*/cmdline").stdout

def test_2_loses_its_server(vast_instance):
    killed = vast_instance.run("kill -9 $(pgrep -f '[p]ython3 - --host')")
    assert killed.ok, killed
    assert ask(vast_instance, vast_instance.headers).status_code == 200
""",
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*: ready after *(llamacpp 'tiny')*"])
    result.stdout.fnmatch_lines(
        ["*the server ended with exit code 137 (signal 9, SIGKILL) at *", "*vastgpu server log (*"]
    )
    assert [machine.successes for machine in renting.known(host_cache).values()] == [1]
    assert_nobody_blamed(host_cache)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_model", "more", "verdict"),
    [
        pytest.param(truncated, {}, "workload_fatal: model_file_truncated", id="truncated"),
        pytest.param(no_gguf, {}, "workload_fatal: not_a_model_file", id="no GGUF", marks=pytest.mark.slow),
        pytest.param(
            lambda place: place / "nowhere",
            {},
            "workload_fatal: model_path_invalid",
            id="missing",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            unknown_architecture, {}, "workload_fatal: unknown_architecture", id="architecture", marks=pytest.mark.slow
        ),
        pytest.param(
            good,
            {"args": ("--no-such-flag",)},
            "workload_fatal: bad_cli_argument",
            id="argument",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            good, {"before": hold_port(8080)}, "workload_fatal: address_in_use", id="port taken", marks=pytest.mark.slow
        ),
        pytest.param(good, {"gpus": 1}, "workload_fatal: built_without_gpu", id="no CUDA", marks=pytest.mark.slow),
    ],
)
def test_a_start_that_fails_gets_its_verdict_and_blames_no_machine(
    pytester: pytest.Pytester,
    rent_from: RentFrom,
    host_cache: Path,
    tmp_path: Path,
    make_model: Callable[[Path], Path],
    more: dict[str, Any],
    verdict: str,
) -> None:
    market = rent_from({"machines": [{"price_usd_h": 0.2}]} if more.get("gpus") else {"this_machine": True})
    write_suite(pytester, make_model(tmp_path), "def test_it(vast_instance): pass", **more)
    result = pytester.runpytest_inprocess("--vast-attempts=1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*failed while warming: {verdict}*", "*whose fault: *", "*what to do: *"])
    assert len(market.status()["ended"]) == 1
    assert_nobody_blamed(host_cache)


@pytest.mark.slow
def test_a_model_that_takes_long_to_load_shows_how_far_it_is(
    pytester: pytest.Pytester, rent_from: RentFrom, tmp_path: Path
) -> None:
    rent_from({"this_machine": True})
    # Half a gigabyte of zeros, each of which is looked at: seconds in which the server answers 503.
    model = tiny_gguf.write(tmp_path / "large.bin", embedding=2048, feed_forward=8192, zeros=True)
    write_suite(pytester, model, "def test_it(vast_instance): pass", args=("--check-tensors",))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*warming: weights*", "*: ready after *"])


@pytest.mark.slow
def test_it_is_measured_token_by_token_and_as_a_whole(
    pytester: pytest.Pytester, rent_from: RentFrom, tmp_path: Path
) -> None:
    rent_from({"this_machine": True})
    write_suite(
        pytester,
        good(tmp_path),
        """
import pytest
from pytest_vastgpu import MeasurementFailed, chat, completions, http_load

PACE = {"max_tokens": 8, "concurrency": 2, "warmup_s": 0.5, "ignore_eos": True}

@pytest.mark.parametrize("load", [completions(model=MODEL, **PACE), chat(model=MODEL, **PACE)])
def test_stream(vast_instance, load):
    seen = vast_instance.measure(load, seconds=5)
    tokens = seen["output_throughput"].value / seen["throughput"].value
    assert 4 < tokens < 16  # about the eight that were asked for: a request may lie half in the time that counts
    assert not any("does not tell how many tokens" in note for note in seen.notes)
    assert seen["errors"].value == 0

def test_whole(vast_instance):
    seen = vast_instance.measure(completions(model=MODEL, stream=False, **PACE), seconds=5)
    assert seen["output_throughput"].value > 0
    with pytest.raises(MeasurementFailed, match="there is no ttft_p50"):
        seen["ttft_p50"]

def test_no_such_path(vast_instance):
    with pytest.raises(MeasurementFailed, match="HTTP 404"):
        vast_instance.measure(http_load("/v1/nothing", {"a": 1}, warmup_s=0.1), seconds=0.5)
""",
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=4)
