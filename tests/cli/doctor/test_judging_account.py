"""What is made of what a market said: tables, without asking one."""

from __future__ import annotations

import ssl
from dataclasses import replace

import httpx
import pytest

from pytest_vastgpu.cli.doctor import account
from pytest_vastgpu.cli.doctor import key
from pytest_vastgpu.cli.doctor import market
from pytest_vastgpu.cli.doctor import network
from pytest_vastgpu.cli.doctor.market import Greeting
from pytest_vastgpu.cli.doctor.pending import NoAnswer
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.settings import DEFAULT_URL
from tests.cli.doctor.words import said

REFUSED = BadApiKey("look at the account: Invalid user key", status=401)
NO_SCOPE = NotAuthorized("search: not authorized", status=403)
AWAY = MarketUnreachable("no answer")
SILENT = NoAnswer("no answer within 4.5 s")
SCOPES = {
    "search": "misc",
    "list": "instance_read",
    "account": "user_read",
    "keys": "user_read",
    "create": "instance_write",
    "delete_key": "user_write",
}


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "asked", "vendors_file", "in_ci", "url", "level", "words"),
    [
        (None, "", "", False, "", "warning", ["VAST_API_KEY is not set", "local market", "manage-keys"]),
        ("", "auto", "", False, "", "warning", ["VAST_API_KEY is empty"]),
        (" \n", "", "", True, "", "warning", ["a secret that this job is not given"]),
        (None, "vast", "", False, "", "problem", ["VAST_BACKEND=vast asks for Vast.ai", "export VAST_API_KEY="]),
        (None, "local", "", False, "", "ok", ["not needed"]),
        ("k", "local", "", False, "", "ok", ["not needed"]),
        (None, "", "", False, "http://m", "warning", ["VAST_URL is not used without it"]),
        (None, "", "~/.vast_api_key", False, "", "warning", ['export VAST_API_KEY="$(cat ~/.vast_api_key)"']),
    ],
)
def test_no_key(
    raw: str | None, asked: str, vendors_file: str, in_ci: bool, url: str, level: str, words: list[str]
) -> None:
    finding = key.no_key(raw, asked, vendors_file, in_ci=in_ci, url=url)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("0123\n4567", "a line break"),
        ("0123 4567", "a blank"),
        ('"01234567"', "quotes"),
        ("0123\x1b4567", "a control character"),
        ("0123\x7f4567", "a control character"),
        ("0123é4567", "a character beyond ASCII"),
    ],
)
def test_a_key_with_characters_that_no_key_has(raw: str, word: str) -> None:
    finding = key.odd_key(raw)
    assert finding is not None
    assert finding.level == "problem"
    assert word in finding.text
    assert f"({len(raw)} characters)" in finding.text
    assert "0123" not in said(finding)


@pytest.mark.parametrize("raw", ["0123abcd", " 0123abcd\n"])
def test_a_key_without_such_characters(raw: str) -> None:
    assert key.odd_key(raw) is None


@pytest.mark.parametrize(
    ("answers", "raw", "level", "word"),
    [
        ([1, [], [], []], "k", "ok", "accepted"),
        ([NO_SCOPE, AWAY, AWAY, AWAY], "k", "ok", "accepted"),
        ([REFUSED, AWAY, SILENT, AWAY], "k", "problem", "Invalid user key"),
        ([AWAY, SILENT, AWAY, AWAY], "k", "warning", "not known"),
        ([1, [], [], []], " k\n", "warning", "around the key"),
    ],
)
def test_what_the_market_says_to_a_key(answers: list[object], raw: str, level: str, word: str) -> None:
    finding = key.judge_key(answers, raw)
    assert (finding.level, word in finding.text) == (level, True)


@pytest.mark.parametrize(
    ("lacking", "level", "words"),
    [
        ({}, "ok", ["misc, instance_read, user_read;", "instance_write and user_write are not tried"]),
        ({"search": NO_SCOPE}, "problem", ["lacks misc (search offers)"]),
        ({"list": NO_SCOPE, "account": NO_SCOPE}, "problem", ["instance_read (list instances)", "user_read"]),
        ({"account": NO_SCOPE, "keys": NO_SCOPE}, "warning", ["user_read (look at credit)", "do without"]),
        ({"search": RateLimited("search: too frequent")}, "warning", ["search offers: search: too frequent"]),
        (dict.fromkeys(("search", "list", "account", "keys"), AWAY), "warning", ["not known"]),
    ],
)
def test_scopes(lacking: dict[str, Exception], level: str, words: list[str]) -> None:
    answers: dict[str, object] = {"search": [], "list": [], "account": 1, "keys": []}
    finding = key.judge_scopes({**answers, **lacking}, SCOPES)
    assert finding.level == level
    assert [word for word in words if word not in finding.text] == []


# --- account, network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credit", "level", "remedy"),
    [
        (1.0, "ok", ""),
        (0.99, "warning", "add credit at https"),
        (0.01, "warning", "add credit at https"),
        (0.0, "problem", "add credit at https"),
        (-3.0, "problem", "add credit at https"),
        (NO_SCOPE, "ok", ""),
        (AWAY, "warning", "see key and market"),
        (SILENT, "warning", "see key and market"),
        (RateLimited("too frequent"), "warning", "billing"),
    ],
)
def test_credit_against_a_budget_of_5_usd(credit: float | Exception, level: str, remedy: str) -> None:
    finding = account.judge_credit(credit, 5.0)
    assert (finding.level, remedy in finding.remedy) == (level, True)
    assert bool(remedy) == bool(finding.remedy)


def test_little_credit_is_a_budget_to_lower() -> None:
    assert account.judge_credit(0.4, 5.0).command == "export VAST_BUDGET=0.40"


@pytest.mark.parametrize(
    ("ahead_s", "level", "word"),
    [
        (0.2, "ok", "to 1 s"),
        (-29.0, "ok", "to 29 s"),
        (31.0, "warning", "31 s ahead of"),
        (-31.0, "warning", "31 s behind"),
        (301.0, "problem", "301 s ahead of"),
        (-86400.0, "problem", "86400 s behind"),
        (None, "ok", "not compared"),
    ],
)
def test_the_clock(ahead_s: float | None, level: str, word: str) -> None:
    finding = network.judge_clock(ahead_s, "set it")
    assert finding.level == level
    assert word in finding.text
    assert finding.command == ("" if level == "ok" else "set it")


@pytest.mark.parametrize(
    ("date", "age", "now", "ahead_s"),
    [
        ("Thu, 01 Jan 1970 00:01:40 GMT", "", 100.0, 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "", 70.0, -30.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "20", 120.0, 0.0),
        ("", "", 100.0, None),
        ("yesterday", "", 100.0, None),
    ],
)
def test_the_date_of_an_answer(date: str, age: str, now: float, ahead_s: float | None) -> None:
    assert market.ahead(date, age, now) == ahead_s


@pytest.mark.parametrize(
    ("system", "release", "word"),
    [
        ("Linux", "6.8.0-generic", "timedatectl"),
        ("Linux", "5.15.153.1-microsoft-standard-WSL2", "wsl.exe"),
        ("Darwin", "23.4.0", "sntp"),
    ],
)
def test_what_sets_a_clock(system: str, release: str, word: str) -> None:
    assert word in network.clock_command(system, release)


def of_a_certificate() -> Exception:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError()
    return error


@pytest.mark.parametrize(
    ("answer", "url", "level", "words"),
    [
        (Greeting(0.2, 0.0), DEFAULT_URL, "ok", ["Vast.ai answers"]),
        (Greeting(0.2, 0.0), "http://m", "ok", ["http://m (VAST_URL) answers"]),
        (httpx.ConnectError("refused"), DEFAULT_URL, "problem", ["Vast.ai: refused", "export HTTPS_PROXY="]),
        (SILENT, DEFAULT_URL, "problem", ["no answer within 4.5 s"]),
        (of_a_certificate(), DEFAULT_URL, "problem", ["SSL_CERT_FILE", "clock"]),
        (ImportError("socksio"), DEFAULT_URL, "problem", ["see proxies"]),
        (ConfigurationError("VAST_URL: 'x' is not a URL"), "x", "problem", ["unset VAST_URL"]),
        (MarketAnswerInvalid("account: not JSON"), "http://m", "problem", ["is this a market?", "unset VAST_URL"]),
    ],
)
def test_the_market(answer: Greeting | Exception, url: str, level: str, words: list[str]) -> None:
    finding = network.judge_market(answer, url)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


def test_a_market_behind_a_proxy() -> None:
    finding = network.judge_market(httpx.ConnectError("refused"), DEFAULT_URL, "http://p:3128")
    assert finding.text == "Vast.ai, through the proxy http://p:3128: refused"
    assert finding.command == f"curl -I {DEFAULT_URL}"


def test_what_runs_have_left() -> None:
    assert account.judge_left([]).level == "ok"
    finding = account.judge_left(["instance 7: its run is over", "instance 8: its run is over"])
    assert said(finding).startswith("warning: instance 7: its run is over, and 1 more")
    assert finding.command == "vastgpu reap --no-dry-run"


# --- what is warm -----------------------------------------------------------------------------------------------------


def test_what_is_warm() -> None:
    one = Warm("a label", 7, "vllm 'org/model'", 0.36, 1790000600.0, 600.0, 725.0, 90.0)
    two = replace(one, instance_id=8, price_usd_h=0.1, until=1790000900.0)
    found = account.judge_warm("/home/me/project", [one])
    assert (found.level, found.command) == ("ok", "")
    assert found.text.startswith("instance 7 is warm for /home/me/project until ")
    assert found.text.endswith(", at 0.360 USD/h (`vastgpu down` ends that)")
    assert "2 instances are warm" in account.judge_warm("/p", [one, two]).text
    assert "at 0.460 USD/h" in account.judge_warm("/p", [one, two]).text
