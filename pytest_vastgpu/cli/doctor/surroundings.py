"""Checks of environment variables: proxies, variables of this package, and those that keep pytest from loading it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from collections.abc import Sequence
from urllib.parse import unquote
from urllib.parse import urlsplit

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.core import environment
from pytest_vastgpu.core.text.nearest import did_you_mean
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import LONG_VALUE_CHARS
from pytest_vastgpu.core.text.redaction import looks_secret
from pytest_vastgpu.settings import OPTIONS

_PROXIES = ("http", "https", "all")
_SCHEMES = {"http", "https"}
_SOCKS = {"socks4", "socks5", "socks5h"}
_LOOPBACK = "127.0.0.1"
_HERE = {_LOOPBACK, "localhost", "::1"}
"""Hosts for which the market's client uses no proxy."""
_EXEMPT = "export NO_PROXY=localhost,127.0.0.1"
_OURS = frozenset(
    {
        environment.API_KEY,
        environment.URL,
        environment.SSH_KEY_PATH,
        environment.IMAGE_LOGIN,
        environment.HOST_CACHE,
        *(option.variable for option in OPTIONS),
    }
)
_VENDORS = ("VAST_CONTAINERLABEL", "VAST_LOG_LEVEL", "VAST_TCP_PORT_", "VAST_UDP_PORT_")
"""Beginnings of variables that Vast.ai sets in its containers, or that its command line reads."""


# --- proxies ----------------------------------------------------------------------------------------------------------


def check_proxies(now: Situation) -> Sequence[Finding]:
    """Which proxies HTTP goes through."""
    set_ = proxies(now.environ)
    for value in set_.values():
        know(value)
    return judge_proxies(set_, socks=importlib.util.find_spec("socksio") is not None)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies by scheme, and ``no`` for the exemptions. A name in lower case wins, as in all clients. Pure."""
    found = {}
    for scheme in (*_PROXIES, "no"):
        name = f"{scheme}_proxy"
        if value := environ.get(name) or environ.get(name.upper()):
            found[scheme] = value
    return found


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """The proxy through which a market is asked, without its login; empty: directly. Pure."""
    set_ = proxies(environ)
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2].partition(":")[0]
    proxy = set_.get(scheme) or set_.get("all", "")
    if not proxy or host in _HERE or _is_exempt(host, set_.get("no", "")):
        return ""
    return shown(proxy)


def _is_exempt(host: str, exemptions: str) -> bool:
    names = [name.strip().lstrip(".") for name in exemptions.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


def know(proxy: str) -> None:
    """Have the login of a proxy hidden in all that is shown."""
    login, at, _ = proxy.rpartition("@")
    if at:
        user, _, password = login.rpartition("://")[2].partition(":")
        # A token may stand in the place of the user. A short name is none, and occurs in other words.
        secret = password or (user if len(user) >= LONG_VALUE_CHARS else "")
        KNOWN.add("proxy login", secret)
        KNOWN.add("proxy login", unquote(secret))


def shown(proxy: str) -> str:
    """A proxy without its login. Pure."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        return "something that is no URL"
    return (f"{parts.scheme}://" if parts.scheme else "") + host + (f":{port}" if port else "")


def judge_proxies(set_: Mapping[str, str], *, socks: bool) -> list[Finding]:
    """Judge the proxies. Pure, with one finding at least.

    :param set_: As :func:`proxies` gives them.
    :param socks: Whether httpx can use SOCKS proxies.
    """
    used = {scheme: set_[scheme] for scheme in _PROXIES if scheme in set_}
    if not used:
        return [ok("proxies", "none")]
    names = ", ".join(f"{scheme.upper()}_PROXY={shown(value)}" for scheme, value in used.items())
    found = []
    for scheme, value in used.items():
        kind = value.partition("://")[0].lower() if "://" in value else "http"
        if kind in _SOCKS and not socks:
            text = f"{scheme.upper()}_PROXY={shown(value)}: httpx lacks the package for such proxies"
            found.append(problem("proxies", text, "install it", "pip install 'httpx[socks]'"))
        elif kind not in _SCHEMES | _SOCKS or shown(value).startswith("something"):
            text = f"{scheme.upper()}_PROXY={shown(value)}: not the URL of a proxy"
            remedy = "set it to a URL such as http://proxy.example:3128"
            found.append(problem("proxies", text, remedy, f"unset {scheme.upper()}_PROXY {scheme}_proxy"))
    if not _is_exempt(_LOOPBACK, set_.get("no", "")) and {"http", "all"} & used.keys():
        text = f"{names}: a proxy would get what your tests send to an endpoint, which is at {_LOOPBACK}"
        found.append(warning("proxies", text, "exempt this machine", _EXEMPT))
    return found or [ok("proxies", f"{names}: for HTTP to the market; SSH goes past them")]


# --- variables of this package ----------------------------------------------------------------------------------------


def check_variables(now: Situation) -> Sequence[Finding]:
    """Variables that nobody reads, and values that no option takes."""
    return judge_variables(now.environ)


def judge_variables(environ: Mapping[str, str]) -> list[Finding]:
    """Judge the variables that begin with ``VAST_``. Pure, with one finding at least."""
    names = sorted(name for name, value in environ.items() if name.startswith("VAST_") and value)
    unknown = [name for name in names if name not in _OURS and not name.startswith(_VENDORS)]
    found = [
        warning(
            "variables",
            f"{name} is none that a run reads{did_you_mean(name, _OURS)}",
            "correct or remove it",
            f"unset {name}",
        )
        for name in unknown
    ]
    for option in OPTIONS:
        if text := environ.get(option.variable, ""):
            try:
                option.parse(text.strip())
            except ValueError as wrong:
                value = "its value" if looks_secret(option.variable) else repr(text)
                said = f"{option.variable}: {value} is not {wrong}"
                found.append(problem("variables", said, "correct or remove it", f"unset {option.variable}"))
    used = [name for name in names if name in _OURS]
    ci = next((name for name in ("GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "CIRCLECI", "CI") if environ.get(name)), "")
    text = f"set: {', '.join(used)}" if used else "none of VAST_* is set"
    return found or [ok("variables", text + (f"; in CI ({ci})" if ci else ""))]


# --- pytest -----------------------------------------------------------------------------------------------------------


def check_pytest(now: Situation) -> Sequence[Finding]:
    """Whether pytest loads this plugin."""
    return judge_pytest(now.environ)


def judge_pytest(environ: Mapping[str, str]) -> list[Finding]:
    """Judge what the environment tells pytest; nothing, where it loads plugins as usual. Pure."""
    options = environ.get("PYTEST_ADDOPTS", "").split()
    named = "vastgpu" in environ.get("PYTEST_PLUGINS", "") or "vastgpu" in options
    if environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD") and not named:
        text = "PYTEST_DISABLE_PLUGIN_AUTOLOAD is set: pytest does not load this plugin"
        return [warning("pytest", text, "unset it, or name the plugin", "pytest -p vastgpu …")]
    if "no:vastgpu" in options or "-pno:vastgpu" in options:
        text = "PYTEST_ADDOPTS has -p no:vastgpu: pytest does not load this plugin"
        return [problem("pytest", text, "take it out", "unset PYTEST_ADDOPTS")]
    return []
