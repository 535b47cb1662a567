"""Checks of the way to the market, and of this machine's clock, which is compared with the market's."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Sequence

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.key import odd_key
from pytest_vastgpu.cli.doctor.market import Greeting
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.cli.doctor.surroundings import proxy_for
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.settings import DEFAULT_URL

WARN_S = 30.0
WRONG_S = 300.0
"""A clock that is wrong by more seconds than these is warned of, or a problem."""


def check_market(now: Situation) -> Sequence[Finding]:
    """Whether the market answers, and what its clock says."""
    if now.market is None:
        return []
    answer = now.market.greeting.outcome()
    asked = now.market.account.outcome()
    if isinstance(asked, MarketAnswerInvalid | ConfigurationError) and not odd_key(now.key):
        answer = asked  # what is there is no market, or nothing that can be asked
    found = [judge_market(answer, now.url, proxy_for(now.url, now.environ))]
    if isinstance(answer, Greeting):
        found.append(judge_clock(answer.ahead_s, clock_command(platform.system(), platform.release())))
    return found


def judge_market(answer: Greeting | Exception, url: str, proxy: str = "") -> Finding:
    """Judge whether a market answers. Pure.

    :param proxy: Through which it is asked, without a login; empty: directly.
    """
    place = "Vast.ai" if url == DEFAULT_URL else f"{url} (VAST_URL)"
    if isinstance(answer, Greeting):
        return ok("market", f"{place} answers after {answer.seconds:.2f} s")
    if isinstance(answer, ConfigurationError):
        return problem("market", str(answer), "correct it, or rent at Vast.ai", "unset VAST_URL")
    text = f"{place}{f', through the proxy {proxy}' if proxy else ''}: {answer}"
    if isinstance(answer, MarketAnswerInvalid):
        remedy = "is this a market? Otherwise see its status page, or what proxy is between"
        return problem("market", text, remedy, "" if url == DEFAULT_URL else "unset VAST_URL")
    if _is_of_a_certificate(answer):
        remedy = "see that the clock is right; where a proxy replaces certificates, name its authority's file"
        return problem("market", text, remedy, "export SSL_CERT_FILE=/path/to/authority.pem")
    if isinstance(answer, ImportError | ValueError):
        return problem("market", text, "see proxies")
    if proxy:
        return problem("market", text, "see that the proxy works, and lets this host through", f"curl -I {url}")
    remedy = "see that this machine reaches it; behind a proxy, set"
    return problem("market", text, remedy, "export HTTPS_PROXY=http://proxy.example:3128")


def _is_of_a_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def clock_command(system: str, release: str) -> str:
    """What sets the clock of such a system. Pure.

    :param system: As :func:`platform.system` says.
    :param release: The kernel's release.
    """
    if system == "Darwin":
        return "sudo sntp -sS time.apple.com"
    if "microsoft" in release.lower():
        return "wsl.exe --shutdown"
    return "sudo timedatectl set-ntp true    # in a container: on its host"


def judge_clock(ahead_s: float | None, command: str) -> Finding:
    """Judge a clock. Pure.

    :param ahead_s: Seconds by which it is ahead of the market's; None if the market does not say.
    :param command: What sets it right on this system.
    """
    if ahead_s is None:
        return ok("clock", "not compared: the market's answer has no date")
    text = f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the market's"
    remedy = "set it right, or ends of life, certificates and bans are wrong"
    if abs(ahead_s) > WRONG_S:
        return problem("clock", text, remedy, command)
    if abs(ahead_s) > WARN_S:
        return warning("clock", text, remedy, command)
    return ok("clock", f"agrees with the market's to {max(1.0, abs(ahead_s)):.0f} s")
