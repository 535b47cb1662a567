"""Decides after a failed attempt, or a refused create, whether to try another offer. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum

from pytest_vastgpu.diagnosis.lines import kind
from pytest_vastgpu.errors import OfferRefused
from pytest_vastgpu.model import Attempt
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Offer
from pytest_vastgpu.model import State
from pytest_vastgpu.supervisor.rental.self_check import DARK_FROM_HERE

_STOPS = frozenset({FailureClass.WORKLOAD_FATAL, FailureClass.OWN_FAULT})
"""Classes that every other host would fail with, too."""


SAME_REFUSALS = 3
"""After this many creates in a row that are refused in the same words, the reason is what we ask for."""
_BY_THE_HOST = re.compile(r"black.?list|block.?list|\bbanned\b|\bby (?:the|this|its) (?:host|owner|provider)\b", re.I)
"""Words that name the host as the one who refuses."""


class NextStep(StrEnum):
    """What to do after a failed attempt."""

    NEXT_OFFER = "next offer"
    STOP = "stop"


def after_failure(attempts: Sequence[Attempt], limit: int) -> NextStep:
    """Whether to try another offer.

    A fault of the workload stops at once, and so does our own. Two failures leave the fault open: the server ends for
    an unknown reason, and neither the machine nor the market's SSH proxy answers. Each is tried on another machine. If
    it happens there again, the first is the workload's fault and the second is our network's.

    :param attempts: All attempts of this workload in this run; the last one failed.
    """
    newest = attempts[-1]
    verdict = newest.verdict
    if verdict is None or len(attempts) >= limit:
        return NextStep.STOP
    unexplained = verdict.failure_class is FailureClass.UNKNOWN and newest.failed_in is State.WARMING
    if unexplained or verdict.reason == DARK_FROM_HERE:
        same = {a.offer.machine_id for a in attempts if a.verdict and a.verdict.reason == verdict.reason}
        return NextStep.STOP if len(same) > 1 else NextStep.NEXT_OFFER
    return NextStep.STOP if verdict.failure_class in _STOPS else NextStep.NEXT_OFFER


@dataclass
class Refusals:
    """The creates of a workload that the market has refused, with what that says of the offers that are left.

    A host that has blacklisted the account is not asked again. Other refusals leave the reason open. Offers of
    other hosts are tried first then, so that a reason of one host does not look like one of the request.
    """

    _unwilling: set[int] = field(default_factory=set)
    """Hosts that refuse the account, by their own words."""
    _hosts: set[int] = field(default_factory=set)
    """Hosts of refused offers."""
    _words: list[str] = field(default_factory=list)
    """The market's words, oldest first, without those of unwilling hosts."""
    _last: str = ""

    def add(self, offer: Offer, refused: OfferRefused) -> None:
        """Add a refused create."""
        self._last = refused.words
        self._hosts.add(offer.host_id)
        if _BY_THE_HOST.search(refused.words):
            self._unwilling.add(offer.host_id)
        else:
            self._words.append(refused.words)

    def sort(self, offers: Sequence[Offer]) -> list[Offer]:
        """The offers that are worth a try, in the given order; those of hosts that have not refused come first."""
        willing = [offer for offer in offers if offer.host_id not in self._unwilling]
        return sorted(willing, key=lambda offer: offer.host_id in self._hosts)

    @property
    def for_the_request(self) -> bool:
        """Whether every other offer would be refused, too. Words that differ in numbers only are the same."""
        newest = self._words[-SAME_REFUSALS:]
        return len(newest) == SAME_REFUSALS and len({kind(words) for words in newest}) == 1

    def told(self) -> str:
        """What happened, in a sentence for people; empty where nothing was refused."""
        if self.for_the_request:
            return (
                f"the market has refused {SAME_REFUSALS} offers in a row in the same words, so the reason is what is "
                f"asked for: {self._last}; change the workload or the option that these words name"
            )
        if not self._last:
            return ""
        return f"offers that could be tried were refused by the market or their hosts; the last refusal: {self._last}"
