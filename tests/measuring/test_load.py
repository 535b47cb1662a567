from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from typing import cast

import pytest

from pytest_vastgpu import ConfigurationError
from pytest_vastgpu import Load
from pytest_vastgpu import chat
from pytest_vastgpu import completions
from pytest_vastgpu import http_load
from pytest_vastgpu import kserve
from pytest_vastgpu import shell

INPUT = {"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}


def test_completions_stream_and_ask_for_the_servers_own_count_of_tokens() -> None:
    load = completions("Tell {n}", model="org/model", max_tokens=8, ignore_eos=True)
    assert (load.path, load.method, load.streams) == ("/v1/completions", "POST", True)
    assert load.body == {
        "model": "org/model",
        "prompt": "Tell {n}",
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_a_chat_takes_a_sentence_or_all_messages() -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert chat("Hi", model="m").body["messages"] == [{"role": "user", "content": "Hi"}]
    assert chat(messages, model="m").body["messages"] == messages
    assert chat(model="m").path == "/v1/chat/completions"


def test_an_answer_as_a_whole_is_no_stream_and_has_no_options_of_one() -> None:
    load = completions(model="m", stream=False)
    assert (load.streams, "stream_options" in load.body) == (False, False)


@pytest.mark.parametrize(
    "made",
    [
        functools.partial(completions, model="m"),
        functools.partial(chat, model="m"),
        functools.partial(kserve, "m", [INPUT]),
        functools.partial(http_load, "/"),
        functools.partial(shell, "true"),
    ],
)
def test_every_load_takes_the_same_pace(made: Callable[..., Load]) -> None:
    pace = {"rate": 2.0, "warmup_s": 1.0, "timeout_s": 9.0, "slo": {"e2e": 1.0}, "seed": 3, "most_errors": 0.5}
    load = made(**pace)
    assert {name: getattr(load, name) for name in pace} == pace
    assert not set(load.body) & set(pace)
    assert made(concurrency=4).concurrency == 4
    assert made().warmup_s == Load(load.kind, "/").warmup_s


def test_a_kserve_load_infers_by_model_and_version() -> None:
    load = kserve("a/b", [INPUT], version="3")
    assert (load.path, load.body) == ("/v2/models/a%2Fb/versions/3/infer", {"inputs": [INPUT]})
    assert kserve("add", [INPUT]).path == "/v2/models/add/infer"


def test_an_http_load_gets_without_a_body_and_posts_one() -> None:
    assert http_load("/health").method == "GET"
    assert (http_load("/p", {"n": 1}).method, http_load("/p", {"n": 1}).body) == ("POST", {"n": 1})
    assert (http_load("/p", "<x/>", method="PUT").text, http_load("/p", "<x/>", method="PUT").method) == ("<x/>", "PUT")


@pytest.mark.parametrize(
    ("load", "pace"),
    [
        (shell("true"), (1, 0.0)),
        (shell("true", rate=2.0), (0, 2.0)),
        (shell("true", concurrency=3), (3, 0.0)),
        (completions(model="m"), (1, 0.0)),
        (completions(model="m", rate=2.0), (0, 2.0)),
    ],
)
def test_a_load_is_a_closed_or_an_open_loop(load: Load, pace: tuple[int, float]) -> None:
    assert (load.concurrency, load.rate) == pace


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: completions(model=""), "model is empty"),
        (lambda: completions(model="m", concurrency=2, rate=1.0), "concurrency=2 and rate=1; give one of them"),
        (lambda: completions(model="m", concurrency=-1), "concurrency=-1"),
        (lambda: completions(model="m", concurrency=100_000), "from 1 to 1024"),
        (lambda: completions(model="m", rate=float("nan")), "rate=nan"),
        (lambda: completions(model="m", warmup_s=float("inf")), "warmup_s=inf"),
        (lambda: completions(model="m", timeout_s=0), "timeout_s=0"),
        (lambda: completions(model="m", slo={"ttfb": 1.0}), "slo has 'ttfb'"),
        (lambda: completions(model="m", slo={"ttft": 0}), "give seconds for ttft, tpot, e2e"),
        (lambda: completions(model="m", most_errors=2), "most_errors=2"),
        (lambda: completions(model="m", driver="wrk"), "give one of 'vllm bench serve', 'guidellm', 'aiperf'"),
        (lambda: completions(model="m", concurency=4), "is 'concurrency' meant?"),
        (lambda: completions(model="m", temperature=float("nan")), "its body is no JSON"),
        (lambda: completions(model="m", stop={"a"}), "its body is no JSON"),
        (lambda: shell("nvidia-smi", driver="aiperf"), "asks OpenAI-compatible servers only"),
        (lambda: http_load("/", headers={"X-Key": "a\nb"}), "headers has 'X-Key'"),
        (lambda: http_load("/", headers={"X A:": "a"}), "headers has 'X A:', which is no name of a header"),
        (lambda: http_load("/", headers={"X-Key": "—"}), "headers has 'X-Key' with a value that is no line"),
        (lambda: http_load("/", headers=cast("Any", ["X-Key"])), "headers=['X-Key']; give a dict"),
        (lambda: http_load("/", method="GE T"), "method='GE T' is no method of HTTP"),
        (lambda: http_load("/", "\ud800"), "body='\\ud800' is no text that can be sent"),
        (lambda: http_load(cast("str", 5)), "path=5 is no text"),
        (lambda: shell("echo \ud800"), "is no text that can be sent"),
        (lambda: shell("echo \0"), "the command contains a null character"),
        (lambda: kserve("\ud800", [INPUT]), "load kserve: model='\\ud800'; give the model"),
        (lambda: kserve("", [INPUT]), "load kserve: model=''"),
        (lambda: kserve("add", [INPUT], version=cast("str", 3)), "load kserve: version=3; give the version"),
        (lambda: shell("true", seed=cast("int", [1])), "seed=[1]; give a whole number"),
        (lambda: shell("true", seed=cast("int", None)), "seed=None; give a whole number"),
        (lambda: shell("true", slo=cast("Any", [1])), "slo=[1]; give a dict"),
        (lambda: shell("true", slo={"ttft": 1}), "slo has 'ttft', which no answer of this load has"),
        (lambda: completions(model="m", stream=False, slo={"tpot": 1}), "slo has 'tpot', which no answer of"),
        (lambda: shell("true", rate=0), "rate=0 asks nothing; give concurrency=1 or more, or rate= above 0"),
        (lambda: shell("true", concurrency=0), "concurrency=0 asks nothing"),
        (lambda: shell("true", concurrency=0, rate=0.0), "concurrency=0 and rate=0.0 asks nothing"),
        (lambda: shell("true", concurrency=cast("int", None)), "concurrency=None asks nothing"),
        (lambda: shell("  "), "the command is empty"),
        (lambda: http_load("health"), "path='health' is no path"),
        (lambda: http_load("/a b"), "path='/a b' is no path"),
        (lambda: kserve("add", [INPUT], warmup_s=-1), "warmup_s=-1"),
    ],
)
def test_what_no_load_can_have_is_said_in_a_line(make: Callable[[], Load], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert said in str(caught.value)
    assert str(caught.value).startswith("load ")
    assert "\n" not in str(caught.value)
