"""A look at ourselves, before a machine is blamed for what was seen from here only."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.providers.base import Provider
from pytest_vastgpu.ssh.address import SshAddress
from pytest_vastgpu.ssh.base import Connector
from pytest_vastgpu.supervisor.rental.policy import BLACK_HOLE

DARK_FROM_HERE = "ssh_dark_from_here"
_BLAMING = frozenset({FailureClass.INFRA_FATAL, FailureClass.RUNTIME_LOST})


@dataclass(frozen=True)
class SelfCheck:
    """What is known of our own side."""

    market_answers: bool = True
    """False: our network is down, or the API is; from here nobody can tell which."""
    key_works: bool = True
    credit_usd: float | None = None
    """None where it could not be asked."""
    said: str = ""
    """What went wrong with the question."""
    ssh_leaves: bool = False
    """Something has answered at a port like those of SSH: nothing here keeps such connections from leaving."""


def look(provider: Provider) -> SelfCheck:
    """Ask the market about our own account. Of SSH that says nothing."""
    try:
        return SelfCheck(credit_usd=provider.account().credit_usd)
    except (MarketUnreachable, MarketAnswerInvalid) as error:
        return SelfCheck(market_answers=False, said=str(error))
    except BadApiKey as error:
        return SelfCheck(key_works=False, said=str(error))
    except MarketError as error:
        return SelfCheck(said=str(error))


def proxy_answers(connector: Connector, proxy: SshAddress | None) -> bool:
    """Whether the market's SSH proxy answers us at all, be it with a refusal: no host can make it silent.

    Asked is the port after the instance's own, which stays the instance's: with other run types it is used for SSH.
    Whether Vast's proxies answer there was not tried. Where they do not, a black hole is taken for ours, which blames
    nobody.

    :param proxy: Where the instance is reached by way of the proxy; None where it is not.
    """
    return proxy is not None and proxy.port < 65_535 and connector.answers(proxy.host, proxy.port + 1)


def attribute_fault(verdict: Verdict, seen: SelfCheck) -> Verdict:
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
    if verdict.reason == BLACK_HOLE and not seen.ssh_leaves:
        return _ours(
            DARK_FROM_HERE,
            f"{verdict.evidence}; nor has any other address let this run in by SSH, and the market's proxy gives no "
            "answer at its other port either",
            "see that this machine's network lets connections to any TCP port out: SSH to rented machines needs it",
        )
    return verdict


def _ours(reason: str, evidence: str, remedy: str) -> Verdict:
    return Verdict(FailureClass.OWN_FAULT, reason, evidence, remedy)
