"""Checks of the API key: whether there is one, whether it is accepted, and which scopes it has."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.core import environment
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NotAuthorized

_KEYS_PAGE = "https://cloud.vast.ai/manage-keys/"
_SET_KEY = "export VAST_API_KEY='<your key>'"
VENDORS_KEY_FILES = (".config/vastai/vast_api_key", ".vast_api_key")
"""Relative to the home directory; Vast's own command line reads them, a run does not."""


# --- the key ----------------------------------------------------------------------------------------------------------


def check_key(now: Situation) -> Sequence[Finding]:
    """Whether there is a key, and the market accepts it."""
    if now.market is None:
        raw = now.environ.get(environment.API_KEY)
        asked = now.environ.get("VAST_BACKEND", "").strip()
        found = next((f"~/{name}" for name in VENDORS_KEY_FILES if (now.home / name).is_file()), "")
        return [no_key(raw, asked, found, in_ci=now.in_ci, url=environment.market_url(now.environ))]
    if odd := odd_key(now.key):
        return [odd]
    calls = (now.market.account, now.market.instances, now.market.offers, now.market.keys)
    return [judge_key([call.outcome() for call in calls], now.key)]


def no_key(raw: str | None, asked: str, vendors_file: str, *, in_ci: bool, url: str) -> Finding:
    """The finding where a run uses no key. Pure.

    :param asked: The value of ``VAST_BACKEND``.
    :param vendors_file: Where the vendor's command line has a key; empty if it has none.
    """
    if asked == "local":
        return ok("key", "not needed: VAST_BACKEND=local rents this machine from the local market")
    state = "VAST_API_KEY is not set" if raw is None else "VAST_API_KEY is empty"
    if in_ci:
        state += " (a secret that this job is not given, as on pull requests of forks?)"
    if url:
        state += "; VAST_URL is not used without it"
    if vendors_file:
        remedy = f"the key of Vast's command line is in {vendors_file}; runs read the variable only"
        command = f'export VAST_API_KEY="$(cat {vendors_file})"'
    else:
        remedy, command = f"to rent at Vast.ai, make a key at {_KEYS_PAGE}", _SET_KEY
    if asked == "vast":
        return problem("key", f"{state}, but VAST_BACKEND=vast asks for Vast.ai", remedy, command)
    return warning("key", f"{state}: runs rent this machine from the local market, for play money", remedy, command)


def odd_key(raw: str) -> Finding | None:
    """The finding for a key with characters that no key has; None for any other. Pure."""
    key = raw.strip()
    kinds = {
        "a line break": any(sign in key for sign in "\r\n"),
        "a blank": any(sign in key for sign in " \t"),
        "quotes": any(sign in key for sign in "\"'`"),
        "a control character": any(not sign.isprintable() and sign not in "\r\n\t" for sign in key if sign.isascii()),
        "a character beyond ASCII": not key.isascii(),
    }
    if odd := [kind for kind, there in kinds.items() if there]:
        text = f"VAST_API_KEY has {' and '.join(odd)} in it ({len(key)} characters), which no key has"
        return problem("key", text, "set it to the key alone", _SET_KEY)
    return None


def judge_key(answers: Sequence[object], raw: str) -> Finding:
    """Judge what the market says to a key. Pure.

    :param answers: Results and exceptions of calls with the key.
    """
    refused = [answer for answer in answers if isinstance(answer, BadApiKey)]
    if refused:
        return problem("key", f"the market does not accept it: {refused[0]}", f"make one at {_KEYS_PAGE}", _SET_KEY)
    if not any(_answered(answer) for answer in answers):
        return warning("key", "VAST_API_KEY is set; whether it is right is not known", "see market")
    if raw != raw.strip():
        return warning(
            "key",
            "accepted, though VAST_API_KEY has blanks or a line break around the key; other clients may fail",
            "set it to the key alone",
            _SET_KEY,
        )
    return ok("key", "VAST_API_KEY is accepted")


def _answered(answer: object) -> bool:
    return isinstance(answer, NotAuthorized | NoCredit) or not isinstance(answer, Exception)


# --- its scopes -------------------------------------------------------------------------------------------------------


def check_scopes(now: Situation) -> Sequence[Finding]:
    """Which calls of a run the key may not make."""
    if now.market is None:
        return []
    answers = {
        "search": now.market.offers.outcome(),
        "list": now.market.instances.outcome(),
        "account": now.market.account.outcome(),
        "keys": now.market.keys.outcome(),
    }
    from pytest_vastgpu.providers.open import scope_of

    scopes = {call: scope_of(call) for call in (*answers, "create", "delete_key")}
    return [judge_scopes(answers, scopes)]


_CALLS = {"search": "search offers", "list": "list instances", "account": "look at credit", "keys": "list SSH keys"}
_NEEDED = {"search", "list"}


def judge_scopes(answers: Mapping[str, object], scopes: Mapping[str, str]) -> Finding:
    """Judge which calls are refused. Calls that change something are not tried. Pure.

    :param answers: Results and exceptions by call, as in :data:`_CALLS`.
    :param scopes: Scopes by call; also for ``create`` and ``delete_key``.
    """
    lacking = [call for call, answer in answers.items() if isinstance(answer, NotAuthorized)]
    said = ", ".join(f"{scopes[call]} ({_CALLS[call]})" for call in lacking)
    first = f"{scopes['create']} and {scopes['delete_key']} are not tried, since they change something"
    if _NEEDED & {*lacking}:
        return problem("scopes", f"the key lacks {said}", f"make a key with this scope at {_KEYS_PAGE}", _SET_KEY)
    if lacking:
        return warning(
            "scopes",
            f"the key lacks {said}; runs do without, but do not see that credit runs out. {first}",
            f"make a key with this scope at {_KEYS_PAGE}",
            _SET_KEY,
        )
    if all(isinstance(answer, Exception) for answer in answers.values()):
        return warning("scopes", "not known", "see key and market")
    if wrong := [f"{_CALLS[call]}: {answer}" for call, answer in answers.items() if isinstance(answer, Exception)]:
        return warning("scopes", "; ".join(wrong), "try again in a minute")
    works = ", ".join(dict.fromkeys(scopes[call] for call in answers))
    return ok("scopes", f"{works}; {first}")
