"""What the doctor says of an account: through HTTP, at the local market and at worse ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_vastgpu.cli.doctor.command import CHECKS
from pytest_vastgpu.cli.doctor.command import diagnose
from pytest_vastgpu.cli.doctor.command import look_around
from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.main import main
from pytest_vastgpu.core.ledger_record import make_label
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.open import open_provider
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.ssh.keys import load_key
from tests.cli.doctor.conftest import market_whose_clock_is
from tests.support.limits import UNSPACED
from tests.support.looks import refusing
from tests.support.looks import until

SHORT = Timeouts(rate_limits=False, exchange_s=0.4)
OF_THE_MARKET = {"key", "scopes", "credit", "market", "left over", "ssh key", "ssh way out"}
UNHURRIED = {"market": {"rate_limits": False}}

Asked = Callable[..., dict[str, Finding]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the doctor finds at a market, by name; the last of several."""

    def ask(url: str, key: str, timeouts: Timeouts = UNSPACED) -> dict[str, Finding]:
        monkeypatch.setenv("VAST_URL", url)
        monkeypatch.setenv("VAST_API_KEY", key)
        checks = [check for check in CHECKS if check.name in OF_THE_MARKET]
        return {finding.name: finding for finding in diagnose(look_around(timeouts), checks)}

    return ask


def levels(found: dict[str, Finding], *names: str) -> list[str]:
    return [found[name].level.value for name in names]


def test_an_account_in_order(asked: Asked) -> None:
    with LocalMarket(UNHURRIED) as market:
        found = asked(market.url, market.api_key)
        calls = market.status()["calls"]
    assert levels(found, "key", "scopes", "credit", "market", "clock", "left over") == ["ok"] * 6
    assert found["key"].text == "VAST_API_KEY is accepted"
    assert found["credit"].text.startswith("100.00 USD")
    assert found["market"].text.startswith(f"{market.url} (VAST_URL) answers after")
    assert "not tried: this market has no proxy" in found["ssh way out"].text
    assert changing(calls) == [], "it only reads"


def changing(calls: Any) -> list[str]:
    """The kinds of calls that change something, of those that were made."""
    return [name for name in ("create", "destroy", "instance_keys", "delete_key") if name in json.dumps(calls)]


def test_a_key_that_the_market_does_not_know(asked: Asked) -> None:
    with LocalMarket(UNHURRIED) as market:
        found = asked(market.url, "0123456789abcdef")
    assert levels(found, "key", "scopes", "credit", "market") == ["problem", "warning", "warning", "ok"]
    assert "Invalid user key" in found["key"].text
    assert "left over" not in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("endpoint", "level", "word"),
    [
        ("search", "problem", "misc (search offers)"),
        ("list", "problem", "instance_read (list instances)"),
        ("account", "warning", "user_read (look at credit)"),
    ],
)
def test_a_key_without_a_scope(asked: Asked, endpoint: str, level: str, word: str) -> None:
    with LocalMarket({**UNHURRIED, "faults": [{"name": "not_authorized", "endpoint": endpoint}]}) as market:
        found = asked(market.url, market.api_key)
    assert levels(found, "key", "scopes", "market") == ["ok", level, "ok"]
    assert word in found["scopes"].text


@pytest.mark.slow
def test_credit_that_is_used_up(asked: Asked) -> None:
    fault = {"name": "account_says", "field": "credit", "says": "-0.5"}
    with LocalMarket({"market": {"rate_limits": False, "credit_usd": 0.5}}) as market:
        assert levels(asked(market.url, market.api_key), "credit") == ["warning"]
    with LocalMarket({**UNHURRIED, "faults": [fault]}) as market:
        found = asked(market.url, market.api_key)
    assert found["credit"].text == "-0.50 USD: nothing can be rented"


@pytest.mark.slow
def test_what_a_run_has_left_and_the_way_to_it(asked: Asked) -> None:
    with LocalMarket({**UNHURRIED, "machines": [{}]}) as market:
        with open_provider(market.url, market.api_key, timeouts=UNSPACED) as client:
            offer = client.search(OfferQuery((), 8.0, 1))[0]
            overdue = make_label("abcd1234", 1, time.time() - 3600)
            instance = client.create(offer.id, CreateRequest("image", 10, overdue))
            until(lambda: client.show(instance), lambda status: bool(status and status.ssh))
        found = asked(market.url, market.api_key)
        assert [row["id"] for row in market.status()["alive"]] == [instance], "it is told, not destroyed"
    assert levels(found, "left over", "ssh way out") == ["warning", "ok"]
    assert f"instance {instance}" in found["left over"].text
    assert found["left over"].command == "vastgpu reap --no-dry-run"
    assert found["ssh way out"].text.startswith("127.0.0.1 answers at port ")


@pytest.mark.slow
def test_whether_the_account_has_the_users_key(asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = load_key({}, tmp_path)
    pair.save(tmp_path / "key")
    monkeypatch.setenv("VAST_SSH_KEY_PATH", str(tmp_path / "key"))
    with LocalMarket(UNHURRIED) as market:
        assert "not in the account" in asked(market.url, market.api_key)["ssh key"].text
        httpx.post(
            f"{market.url}/api/v0/ssh/",
            json={"ssh_key": pair.public_line},
            headers={"Authorization": f"Bearer {market.api_key}"},
        ).raise_for_status()
        found = asked(market.url, market.api_key)["ssh key"]
    assert (found.level, found.text.endswith("in the account")) == ("ok", True)
    assert "not in" not in found.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ahead_s", "level", "word"),
    [(0.0, "ok", "agrees"), (100.0, "warning", "behind"), (-1000.0, "problem", "ahead of")],
)
def test_a_clock_that_differs_from_the_markets(asked: Asked, ahead_s: float, level: str, word: str) -> None:
    with market_whose_clock_is(ahead_s) as url:
        found = asked(url, "0123456789abcdef")
    assert (found["clock"].level, word in found["clock"].text) == (level, True)


def test_a_market_that_takes_every_call_and_answers_none(asked: Asked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = asked(url, "0123456789abcdef", SHORT)
    assert levels(found, "market", "key", "scopes", "credit") == ["problem", "warning", "warning", "warning"]
    assert "clock" not in found
    assert found["key"].remedy == "see market"


def test_a_market_that_is_not_there(asked: Asked) -> None:
    with refusing() as port:
        found = asked(f"http://127.0.0.1:{port}", "0123456789abcdef")
    assert levels(found, "market", "key") == ["problem", "warning"]
    assert "refused" in found["market"].text
    assert found["market"].command.startswith("export HTTPS_PROXY=")


@pytest.mark.parametrize(
    ("url", "key", "name", "word"),
    [
        ("http://127.0.0.1:1", "0123 4567", "key", "a blank"),
        ("ftp://nowhere", "01234567", "market", "is not an http or https URL"),
        ("http://me:hush-hush@127.0.0.1:1", "01234567", "market", "holds a user name or a password"),
    ],
)
def test_what_cannot_be_asked_at_all(asked: Asked, url: str, key: str, name: str, word: str) -> None:
    found = asked(url, key)
    assert (found[name].level, word in found[name].text) == ("problem", True)
    assert [each.name for each in found.values() if "VAST_API_KEY: " in each.text] == [], "once is enough"
    assert not [each for each in found.values() if "report this" in each.remedy]
    assert "hush-hush" not in " ".join(map(repr, found.values()))


@pytest.mark.slow
def test_something_else_than_a_market(asked: Asked) -> None:
    with LocalMarket({**UNHURRIED, "faults": [{"name": "bad_json", "times": 99}]}) as market:
        found = asked(market.url, market.api_key)
    assert levels(found, "market", "key", "credit") == ["problem", "warning", "warning"]
    assert "is this a market?" in found["market"].remedy


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_json_and_its_exit_code_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    assert {"versions", "key", "host cache", "namespaces"} <= {each["name"] for each in document["findings"]}
    assert not {"market", "clock"} & {each["name"] for each in document["findings"]}, "no key: nobody is asked"
    monkeypatch.setenv("VAST_BUDGET", "much")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "problem  variables" in out
    assert out.splitlines()[-1].startswith("1 problem, ")


@pytest.mark.slow
def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    monkeypatch.setenv("VAST_API_KEY", "5ecret-key-1")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:1/?api_key=5ecret-key-1")
    monkeypatch.setenv("VAST_IMAGE_LOGIN", "-u me -p 5ecret-login registry.example")
    monkeypatch.setenv("VAST_KEY", "5ecret-typo")
    monkeypatch.setenv("HTTP_PROXY", "http://me:5ecret-proxy@proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://5ecret-token@proxy.example:1080")
    (home / ".vast_api_key").write_text("5ecret-file")
    for words in (["doctor"], ["doctor", "--json"]):
        main(words, SHORT)
        shown = capsys.readouterr()
        assert "proxy.example" in shown.out
        assert "5ecret" not in shown.out + shown.err


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_vastgpu", "doctor", *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_environment_with_nothing_but_a_home_will_do(home: Path) -> None:
    done = run("--json", HOME=str(home))
    assert done.stderr == ""
    problems = [each for each in json.loads(done.stdout)["findings"] if each["level"] == "problem"]
    assert problems == []


@pytest.mark.slow
def test_a_missing_package_is_told_although_others_need_it(tmp_path: Path, home: Path) -> None:
    """What is missing cannot be imported, and its metadata are gone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata, sys\n"
        "for name in ('yaml', 'httpx', 'filelock', 'paramiko', 'platformdirs', 'cryptography'):\n"
        "    sys.modules[name] = None\n"
        "found = metadata.version\n"
        "def version(name):\n"
        "    if name.lower() in ('pyyaml', 'httpx'):\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.version = version\n"
    )
    done = run(HOME=str(home), PATH=os.environ["PATH"], PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "problem  versions" in done.stdout
    assert "-m pip install 'httpx>=0.27' 'pyyaml>=6.0.4'" in done.stdout
    assert "Traceback" not in done.stdout
