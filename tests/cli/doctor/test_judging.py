"""What is made of what was seen: tables, without looking at anything."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from pytest_vastgpu.cli.doctor import account
from pytest_vastgpu.cli.doctor import files
from pytest_vastgpu.cli.doctor import key
from pytest_vastgpu.cli.doctor import machine
from pytest_vastgpu.cli.doctor import market
from pytest_vastgpu.cli.doctor import network
from pytest_vastgpu.cli.doctor import packages
from pytest_vastgpu.cli.doctor import ssh
from pytest_vastgpu.cli.doctor import surroundings
from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import Level
from pytest_vastgpu.cli.doctor.market import Greeting
from pytest_vastgpu.cli.doctor.packages import Requirement
from pytest_vastgpu.cli.doctor.pending import NoAnswer
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.hostcheck.facts import Gpu
from pytest_vastgpu.hostcheck.facts import Holder
from pytest_vastgpu.hostcheck.facts import HostFacts
from pytest_vastgpu.local.container.isolation import Isolation
from pytest_vastgpu.settings import DEFAULT_URL
from pytest_vastgpu.ssh.address import SshAddress
from tests.support.vast import make_status

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


def said(finding: Finding) -> str:
    return f"{finding.level}: {finding.text} -> {finding.remedy} $ {finding.command}"


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


def test_what_runs_have_left() -> None:
    assert account.judge_left([]).level == "ok"
    finding = account.judge_left(["instance 7: its run is over", "instance 8: its run is over"])
    assert said(finding).startswith("warning: instance 7: its run is over, and 1 more")
    assert finding.command == "vastgpu reap --no-dry-run"


# --- SSH --------------------------------------------------------------------------------------------------------------

DIRECT = SshAddress("203.0.113.7", 40022, "direct")
PROXY = SshAddress("ssh7.vast.ai", 17044, "proxy")
USUAL = SshAddress("ssh5.vast.ai", 22022, "proxy")


@pytest.mark.parametrize(
    ("answered", "silent", "certain", "level", "words"),
    [
        (PROXY, [DIRECT], False, "ok", ["ssh7.vast.ai answers at port 17044"]),
        (None, [], False, "ok", ["not tried"]),
        (None, [USUAL], True, "warning", ["see market"]),
        (None, [PROXY, USUAL], False, "warning", ["ssh7.vast.ai:17044 and ssh5", "all TCP ports", "nc -vz ssh5"]),
    ],
)
def test_the_way_out(
    answered: SshAddress | None, silent: list[SshAddress], certain: bool, level: str, words: list[str]
) -> None:
    finding = ssh.judge_way_out(answered, silent, certain=certain)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


def test_addresses_of_living_instances_are_tried_first() -> None:
    direct = {"public_ipaddr": "203.0.113.7", "ports": {"22/tcp": 40022}}
    living = [
        make_status(id=number, ssh_host="ssh7.vast.ai", ssh_port=17000 + number, **direct) for number in (1, 2, 3)
    ]
    tried = ssh.to_try(living, USUAL)
    assert [(address.host, address.port) for address in tried] == [
        ("ssh7.vast.ai", 17001),
        ("ssh7.vast.ai", 17002),
        ("ssh5.vast.ai", 22022),
    ]
    assert len(ssh.to_try(living, None)) == 3
    assert ssh.to_try([], USUAL) == [USUAL]
    assert ssh.to_try([], None) == []


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warning"), (0o604, "warning")])
def test_the_mode_of_a_key(mode: int, level: str) -> None:
    finding = ssh.judge_mode(mode, "k (ssh-ed25519)", "/k")
    assert finding.level == level
    assert finding.command == ("" if level == "ok" else "chmod 600 /k")


def test_no_ssh_program_is_a_warning() -> None:
    assert ssh.judge_program("/usr/bin/ssh").level == "ok"
    assert "openssh-client" in ssh.judge_program(None).command


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (files.Place("/s/runs", free_mb=90_000), "ok", ["/s/runs (90.0 GB free)"]),
        (files.Place("/s/runs", free_mb=499), "warning", ["499 MB left"]),
        (files.Place("/s/runs", free_mb=19), "problem", ["19 MB left"]),
        (files.Place("/s/runs", there="/", error="Read-only file system"), "problem", ["/ cannot", "XDG_STATE_HOME"]),
        (files.Place("/s/runs", foreign="/s"), "problem", ["/s belongs to another user"]),
        (files.Place("/s/runs", open_to_all="/s"), "problem", ["everybody may write to /s", "chmod 700 /s"]),
    ],
)
def test_the_place_of_records(seen: files.Place, level: str, words: list[str]) -> None:
    finding = files.judge_place(seen)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


# --- this machine -----------------------------------------------------------------------------------------------------

NONE = Isolation("none", "this system allows no namespaces (EPERM)")


@pytest.mark.parametrize(
    ("found", "switches", "in_container", "level", "words"),
    [
        (Isolation("root"), {}, False, "ok", ["with root's rights"]),
        (Isolation("user"), {}, True, "ok", ["user namespace"]),
        (NONE, {}, True, "warning", ["cannot both serve port 8000", "--cap-add SYS_ADMIN"]),
        (NONE, {}, False, "warning", ["one instance at a time"]),
        (
            NONE,
            {"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "9"},
            False,
            "warning",
            ["sudo sysctl -w kernel.unprivileged_userns_clone=1"],
        ),
        (
            NONE,
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            False,
            "warning",
            ["sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
        ),
        (NONE, {"user.max_user_namespaces": "0"}, True, "warning", ["container's host", "max_user_namespaces=15000"]),
    ],
)
def test_namespaces(
    found: Isolation, switches: dict[str, str], in_container: bool, level: str, words: list[str]
) -> None:
    finding = machine.judge_namespaces(found, switches, in_container=in_container)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


FREE = Gpu("NVIDIA H100", 81_000, 500, "550.54")
FULL = Gpu("NVIDIA H100", 81_000, 60_000, "550.54")


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (HostFacts(), "ok", ["no GPU here; the local market rents this machine without one"]),
        (HostFacts(gpus=(FREE,), libcuda=True), "ok", ["NVIDIA H100 (80 GB free), driver 550.54"]),
        (
            HostFacts(gpus=(FREE, FULL), holders=(Holder(71, "python3", 59_000),)),
            "warning",
            ["60.0 GB are in use by process 71 (python3): 59.0 GB", "kill 71"],
        ),
        (HostFacts(gpus=(FULL,)), "warning", ["60.0 GB are in use", "$ nvidia-smi"]),
        (HostFacts(gpus=(FREE,), libcuda=False), "warning", ["no libcuda", "--gpus all"]),
        (HostFacts(smi_present=True, smi_exit_code=9, smi_text="mismatch"), "warning", ["nvidia-smi fails (mismatch)"]),
        (HostFacts(libcuda=True), "warning", ["no nvidia-smi"]),
        (HostFacts(device_nodes=1), "warning", ["no nvidia-smi"]),
    ],
)
def test_gpus(seen: HostFacts, level: str, words: list[str]) -> None:
    finding = machine.judge_gpus(seen)
    assert finding.level == level
    assert [word for word in words if word not in said(finding)] == []


# --- what is installed ------------------------------------------------------------------------------------------------

DECLARED = [Requirement("pytest", "8.4"), Requirement("httpx", "0.27"), Requirement("uvicorn", "0.34", "local")]
ALL = {"pytest-vastgpu": "0.1.0", "pytest": "9.2.0", "httpx": "0.28.1", "uvicorn": "0.34"}


@pytest.mark.parametrize(
    ("version", "least", "is_older"),
    [
        ("1.0", "1", False),
        ("1", "1.0.0", False),
        ("0.9.9", "1.0", True),
        ("10.0", "9.1", False),
        ("6.0.4rc1", "6.0.4", False),
        ("2!1.0", "1.5", True),
        ("", "0.1", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, least: str, is_older: bool) -> None:
    assert packages.older(version, least) == is_older


def test_requirements_of_another_form_are_no_silent_ones() -> None:
    assert packages.requirements(["a.b>=1.0", "c>=2; extra == 'local'"]) == [
        Requirement("a.b", "1.0"),
        Requirement("c", "2", "local"),
    ]
    with pytest.raises(ValueError, match="is not understood"):
        packages.requirements(["a~=1.0"])


def test_needed_packages() -> None:
    (good,) = packages.judge_needed(DECLARED, ALL)
    assert good.level == "ok"
    assert "pytest-vastgpu 0.1.0, pytest 9.2.0, Python 3." in good.text
    (bad,) = packages.judge_needed(DECLARED, {**ALL, "httpx": "0.26"} | {"pytest": "8.3.5"})
    assert bad.level == "problem"
    assert bad.text == "pytest 8.3.5 is older than 8.4; httpx 0.26 is older than 0.27"
    assert bad.command.endswith("-m pip install 'pytest>=8.4' 'httpx>=0.27'")
    (missing,) = packages.judge_needed(DECLARED, {"pytest": "9.2.0"})
    assert missing.text == "httpx is not installed"


@pytest.mark.parametrize(("used", "level"), [(True, "problem"), (False, "warning")])
def test_a_missing_local_market_is_a_problem_only_where_it_is_used(used: bool, level: str) -> None:
    (finding,) = packages.judge_local(DECLARED, {"pytest": "9"}, used=used)
    assert finding.level == level
    assert finding.text.startswith("uvicorn is not installed: there is no local market")
    assert finding.command.endswith("-m pip install 'pytest-vastgpu[local]'")
    (there,) = packages.judge_local(DECLARED, ALL, used=used)
    assert there.level == "ok"


@pytest.mark.parametrize(
    ("versions", "count"),
    [
        ({"pytest": "9.2.0", "pytest-forked": "1.7.5"}, 1),
        ({"pytest": "9.1", "pytest-forked": "1.7.5"}, 0),
        ({"pytest": "9.2.0"}, 0),
    ],
)
def test_other_plugins(versions: dict[str, str], count: int) -> None:
    found = packages.judge_limits(versions)
    assert len(found) == count
    assert all(each.level == "warning" and "--forked" in each.remedy for each in found)


def test_limits_are_those_of_the_page_about_other_plugins() -> None:
    page = (Path(__file__).parents[3] / "docs/other-plugins.md").read_text()
    assert [
        limit for limit in packages.LIMITS if limit.plugin not in page or f"pytest {limit.pytest}" not in page
    ] == []


# --- surroundings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "socks", "levels", "words"),
    [
        ({}, False, ["ok"], ["none"]),
        ({"HTTPS_PROXY": "http://p:3128"}, False, ["ok"], ["HTTPS_PROXY=http://p:3128", "SSH goes past"]),
        ({"HTTP_PROXY": "http://p:3128"}, False, ["warning"], ["export NO_PROXY=localhost,127.0.0.1"]),
        ({"http_proxy": "p:3128", "no_proxy": "x, 127.0.0.1"}, False, ["ok"], ["HTTP_PROXY=p:3128"]),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, False, ["ok"], []),
        ({"ALL_PROXY": "socks5://p:1080", "NO_PROXY": "*"}, True, ["ok"], []),
        ({"ALL_PROXY": "socks5://p:1080"}, False, ["problem", "warning"], ["pip install 'httpx[socks]'"]),
        ({"HTTPS_PROXY": "ftp://p"}, False, ["problem"], ["unset HTTPS_PROXY"]),
        ({"HTTPS_PROXY": "http://p:port"}, False, ["problem"], ["something that is no URL"]),
    ],
)
def test_proxies(environ: dict[str, str], socks: bool, levels: list[Level], words: list[str]) -> None:
    found = surroundings.judge_proxies(surroundings.proxies(environ), socks=socks)
    assert [each.level for each in found] == levels
    text = " ".join(map(said, found))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    "proxy",
    ["http://user:s3cr3t%21x@p.example:3128", "user:s3cr3t%21x@p.example:3128", "http://s3cr3t%21x@p.example:1"],
)
def test_the_login_of_a_proxy_is_not_shown(proxy: str) -> None:
    found = surroundings.judge_proxies({"http": proxy}, socks=False)
    assert "p.example" in " ".join(map(said, found))
    assert "s3cr3t" not in " ".join(map(said, found))
    surroundings.know(proxy)
    for shown in (proxy, "the password s3cr3t!x", "the password s3cr3t%21x"):
        assert "s3cr3t" not in KNOWN(shown), "nor in what a library says of it"


@pytest.mark.parametrize(
    ("environ", "levels", "words"),
    [
        ({}, ["ok"], ["none of VAST_* is set"]),
        ({"VAST_API_KEY": "k", "VAST_BUDGET": "2", "CI": "true"}, ["ok"], ["VAST_API_KEY, VAST_BUDGET", "in CI (CI)"]),
        ({"VAST_APIKEY": "k"}, ["warning"], ["VAST_APIKEY is none", "did you mean VAST_API_KEY?", "unset VAST_APIKEY"]),
        ({"VAST_BUDGT": "2"}, ["warning"], ["did you mean VAST_BUDGET?"]),
        ({"VAST_BUDGET": "two"}, ["problem"], ["VAST_BUDGET: 'two' is not a number"]),
        ({"VAST_BACKEND": "locl"}, ["problem"], ["VAST_BACKEND: 'locl'"]),
        ({"VAST_STRICTNESS": "", "VAST_TCP_PORT_22": "1"}, ["ok"], []),
    ],
)
def test_variables(environ: dict[str, str], levels: list[Level], words: list[str]) -> None:
    found = surroundings.judge_variables(environ)
    assert [each.level for each in found] == levels
    text = " ".join(map(said, found))
    assert [word for word in words if word not in text] == []


def test_the_value_of_an_unknown_variable_is_not_shown() -> None:
    assert "hush" not in " ".join(map(said, surroundings.judge_variables({"VAST_KEY": "hush-hush"})))


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, None),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, "warning"),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p vastgpu"}, None),
        ({"PYTEST_ADDOPTS": "-p no:vastgpu -q"}, "problem"),
        ({"PYTEST_ADDOPTS": "-n 4"}, None),
    ],
)
def test_whether_pytest_loads_the_plugin(environ: dict[str, str], level: str | None) -> None:
    assert [each.level for each in surroundings.judge_pytest(environ)] == ([level] if level else [])
