"""Checks our own side before a machine is blamed for what was seen from here only."""

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
from pytest_vastgpu.supervisor.rental.give_up import BLACK_HOLE

DARK_FROM_HERE = "ssh_dark_from_here"


@dataclass(frozen=True)
class SelfCheck:
    """State of our own side."""

    market_answers: bool = True
    """False: our network or the market's API is down; the two look the same from here."""
    key_works: bool = True
    credit_usd: float | None = None
    """None where the market did not say."""
    said: str = ""
    """The error, where the market gave no account."""
    ssh_leaves: bool = False
    """Whether a host has answered on a port like those of SSH, so that our network lets such connections out."""
    destroyed_by_user: bool = False
    """Whether the user has destroyed the instance with ``vastgpu destroy``."""


def look(provider: Provider) -> SelfCheck:
    """Ask the market about our account. This does not check SSH."""
    try:
        return SelfCheck(credit_usd=provider.account().credit_usd)
    except (MarketUnreachable, MarketAnswerInvalid) as error:
        return SelfCheck(market_answers=False, said=str(error))
    except BadApiKey as error:
        return SelfCheck(key_works=False, said=str(error))
    except MarketError as error:
        return SelfCheck(said=str(error))


def proxy_answers(connector: Connector, proxy: SshAddress | None) -> bool:
    """Whether the market's SSH proxy answers at all, even with a refusal. A host cannot make the proxy silent.

    This connects to the port after the instance's own port. That port belongs to the same instance: other run types use
    it for SSH. It is not verified that Vast's proxies answer there. Where they do not, a black hole counts as our own
    fault, and no machine is blamed.

    :param proxy: The instance's address at the proxy; None where it has none.
    """
    return proxy is not None and proxy.port < 65_535 and connector.answers(proxy.host, proxy.port + 1)


def attribute_fault(verdict: Verdict, seen: SelfCheck) -> Verdict:
    """Return the verdict, or one of our own fault where that explains the failure better than the machine. Pure."""
    if seen.destroyed_by_user:
        what = "you have destroyed it with `vastgpu destroy`"
        return _ours("destroyed_by_user", what, "run the test again: it gets another instance")
    if not verdict.failure_class.blames_machine:
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
