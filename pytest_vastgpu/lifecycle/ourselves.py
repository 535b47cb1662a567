"""A look at ourselves, before a machine is blamed for what was seen from here only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict

if TYPE_CHECKING:
    from pytest_vastgpu.market.client import MarketClient

_BLAMING = frozenset({FailureClass.INFRA_FATAL, FailureClass.RUNTIME_LOST})


@dataclass(frozen=True)
class SelfLook:
    """What one question about our own account tells of our side."""

    market_answers: bool = True
    """False: our network is down, or the API is; from here nobody can tell which."""
    key_works: bool = True
    credit_usd: float | None = None
    """None where it could not be asked."""
    said: str = ""
    """What went wrong with the question."""


def look(client: MarketClient) -> SelfLook:
    """Ask the market about our own account."""
    try:
        return SelfLook(credit_usd=client.account().credit_usd)
    except (MarketUnreachable, MarketAnswerInvalid) as error:
        return SelfLook(market_answers=False, said=str(error))
    except BadApiKey as error:
        return SelfLook(key_works=False, said=str(error))
    except MarketError as error:
        return SelfLook(said=str(error))


def fair(verdict: Verdict, seen: SelfLook) -> Verdict:
    """The verdict, or ours where a machine would be blamed although our own side explains what was seen. Pure."""
    if verdict.failure_class not in _BLAMING:
        return verdict
    if not seen.market_answers:
        return _ours(
            "market_silent_too",
            f"{verdict.reason} ({verdict.evidence}), but the market gives no answer either: {seen.said}",
            "check this machine's network and the market's status page, then run again",
        )
    if not seen.key_works:
        return _ours("api_key_refused", seen.said, "set VAST_API_KEY to a key that is valid until the run is over")
    if seen.credit_usd is not None and seen.credit_usd <= 0:
        return _ours(
            "credit_used_up",
            f"{verdict.reason} ({verdict.evidence}); the account's credit is {seen.credit_usd:.2f} USD, and the market "
            "stops the instances of such an account",
            "add credit, then run again",
        )
    return verdict


def _ours(reason: str, evidence: str, remedy: str) -> Verdict:
    return Verdict(FailureClass.OWN_FAULT, reason, evidence, remedy)
