"""How long is waited for what, in seconds, as one value that is passed to the code that waits.

The defaults are what others who rent these hosts found necessary: keys spread for up to four minutes, sshd comes up
90 s after ``running``, heartbeats have gaps of a minute, and a healthy host's status text may stand still for ten.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Time limits of a run. Tests hand over shorter ones."""

    vanished_grace_s: float = 15.0
    """After create, the provider's list may not show the instance yet."""
    boot_still_s: float = 600.0
    """A boot that made progress may show nothing for so long: the host unpacks a large layer."""
    boot_lifeless_s: float = 300.0
    """A boot that never made progress is given up after that."""
    market_silence_s: float = 300.0
    """The market may be unreachable that long without costing a healthy instance."""
    offline_grace_s: float = 60.0
    """``offline`` and ``unknown`` may be a gap in the heartbeat."""
    refused_grace_s: float = 300.0
    """Refused is a host that answers: its sshd is still being installed or started."""
    black_hole_s: float = 60.0
    """A host all of whose ports time out that long does not get better."""
    key_grace_s: float = 240.0
    """A key takes up to four minutes to reach every place it must be in."""
    key_attach_again_s: float = 20.0
    """Refused that long, the key is attached once more."""
    connect_s: float = 10.0
    """For one try to connect by SSH."""
    arm_within_s: float = 5.0
    """The dead man's switch starts before SSH lets us in, or soon after. Later it counts as absent."""
    evidence_s: float = 6.0
    """For all evidence of a failed attempt together; what is later is noted as missing."""
    close_within_s: float = 240.0
    """How long the end of a run waits until everything is destroyed and seen to be gone."""
    look_least_s: float = 0.5
    """Between two looks at the market: no instance is there sooner. The interval that the market asks for is longer,
    and kept by the throttle."""
    look_most_s: float = 5.0
    """Half of the 10 s between two looks that Vast's documentation proposes."""
    price_look_s: float = 60.0
    """Between two looks at the prices of instances that are in use, one call for all of them. A raise counts from the
    look before it on, so it costs at most this long at a price that was not seen."""
    refused_key_s: float = 0.5
    """After a refused key, doubled with each: the key is on its way, and each try may be held against us."""
    refused_key_most_s: float = 5.0
    """What OpenSSH (from 9.8 on) holds a refused login against its source for, by default: tried no more often than
    that, we are never shut out for having tried too often."""
    destroy_within_s: float = 180.0
    """How long a destroy is tried. Gone within 5 to 7 s is usual; outages and rate limits pass within minutes."""
    destroy_pause_s: float = 1.0
    """Between two looks whether it is gone, and before the first repetition."""
    recovery_pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
    """Between two looks at what a dead run has left; the last one again and again."""
    recovery_round_s: float = 20.0
    """How long one instance of a dead run is tried before the others have their turn."""
    market_pause_s: float = 0.5
    """Before the first repetition of a call that the market did not answer; doubled with each."""
    rate_limits: bool = True
    """Whether calls are spaced as the market asks for; off only for a local market that enforces no intervals."""
    hook_told_s: float = 60.0
    """A hook of a conftest file or an adapter that has not answered for that long is reported."""


DEFAULTS = Timeouts()
"""What every run has that is not told otherwise."""
