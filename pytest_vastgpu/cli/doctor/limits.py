"""Time limits of the checks: none of them may wait for ever."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.core.timeouts import Timeouts

_NETWORK_S = 3.0
_LOOK_S = 5.0
_CALL = 1.5
"""Time limit of a call with its repetition, in exchanges."""


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds. The whole ends after the longest of the sums that follow one another."""

    exchange_s: float = _NETWORK_S
    """For one exchange with the market, from the look-up of its name on."""
    answer_s: float = _NETWORK_S
    """For an address of SSH to answer."""
    look_s: float = _LOOK_S
    """For anything else: a file system, a driver."""

    @classmethod
    def of(cls, timeouts: Timeouts) -> Limits:
        """The limits, none longer than a run's own for an exchange with the market."""
        network_s = min(timeouts.exchange_s, _NETWORK_S)
        return cls(exchange_s=network_s, answer_s=network_s)

    @property
    def call_s(self) -> float:
        """For a call of the market's API, with its repetition."""
        return _CALL * self.exchange_s

    @property
    def whole_s(self) -> float:
        """After this everything is over: the market's answers, and what is asked once they are there."""
        return self.call_s + max(self.look_s, self.answer_s)
