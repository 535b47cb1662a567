"""All time limits of a run, in seconds, as one value that is passed to the code that waits.

The defaults come from the experience of others who rent these hosts: keys take up to four minutes to spread, sshd is
up 90 s after ``running``, heartbeats have gaps of a minute, and a healthy host's status text may not change for ten.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Time limits of a run. Tests pass shorter ones."""

    vanished_grace_s: float = 15.0
    """After create, the provider's list may not show the instance yet."""
    boot_still_s: float = 600.0
    """A boot that made progress may show nothing for so long: the host unpacks a large layer."""
    boot_lifeless_s: float = 300.0
    """A boot that never made progress is given up after that."""
    market_silence_s: float = 300.0
    """The market may be unreachable that long without costing a healthy instance."""
    ports_grace_s: float = 60.0
    """A running instance's ports may be published that much later."""
    offline_grace_s: float = 60.0
    """``offline`` and ``unknown`` may be a gap in the heartbeat."""
    refused_grace_s: float = 300.0
    """A refused connection means that the host answers but its sshd is still being installed or started."""
    black_hole_s: float = 60.0
    """If all ports of a host time out for this long, the host does not recover."""
    key_grace_s: float = 240.0
    """A key takes up to four minutes to reach every place that needs it."""
    key_attach_again_s: float = 20.0
    """After this many seconds of refusals, the key is attached once more."""
    connect_s: float = 10.0
    """For one attempt to connect by SSH."""
    settled_s: float = 30.0
    """A server that shows nothing new for this long, and gives an answer that no start gives, has settled."""
    doubtful_s: float = 120.0
    """The same for an answer that a starting server may give."""
    stop_s: float = 10.0
    """For a server that is replaced, from SIGTERM to SIGKILL."""
    gpu_memory_s: float = 20.0
    """For the memory of a server that was stopped to be free again: drivers take some seconds."""
    arm_within_s: float = 5.0
    """The dead man's switch starts before SSH lets us in, or soon after. Later it counts as absent."""
    evidence_s: float = 6.0
    """For all evidence of a failed attempt together; what is later is noted as missing."""
    close_within_s: float = 240.0
    """How long the end of a run waits until everything is destroyed and seen to be gone."""
    account_key_s: float = 30.0
    """For taking our SSH key out of the account at the end of a run. What is later is left to a later sweep."""
    leave_s: float = 2.0
    """For a thread or a process that has been told to end, and that does nothing any more that matters. One that takes
    longer is left to itself."""
    call_off_s: float = 4.0
    """How long the end of a run lets bring-ups end by themselves before it gives back what they have rented."""
    answers_s: float = 20.0
    """For an answer of the supervisor to a call that it answers at once. One that is silent longer is given up."""
    told_every_s: float = 5.0
    """Between two lines about what giving back waits for."""
    fetch_still_s: float = 30.0
    """How long a host from which files are fetched may send nothing."""
    fetch_most_s: float = 900.0
    """For all files of a host that are fetched."""
    fetch_interrupted_s: float = 15.0
    """The same once a person has interrupted the run."""
    host_python_s: float = 120.0
    """For a Python on a host that runs tests to start."""
    host_python_told_s: float = 15.0
    """One that takes longer is waited for in public."""
    guard_within_s: float = 30.0
    """How long the end of a run waits for the guard of a supervisor that has died."""
    look_least_s: float = 0.05
    """Between two status queries to the market: an instance of a local market is ready so soon. The interval that
    Vast.ai requires is longer, and the throttle keeps it."""
    look_most_s: float = 5.0
    """Half of the 10 s between two status queries that Vast's documentation proposes."""
    price_look_s: float = 60.0
    """Between two queries of the prices of instances in use; one call covers all of them. A higher price counts from
    the query before it on, so this is the longest time for which an unseen price is billed."""
    refused_key_s: float = 0.5
    """After a refused key; each refusal doubles it: the key is still spreading, and the host may count each attempt."""
    refused_key_most_s: float = 5.0
    """By default OpenSSH (from 9.8 on) penalises a refused login's source for this long. With pauses of this length it
    never locks us out for too many attempts."""
    destroy_within_s: float = 180.0
    """Limit for retrying a destroy. Usually it takes 5 to 7 s; outages and rate limits pass within minutes."""
    destroy_pause_s: float = 1.0
    """Between two checks whether the instance is gone, and before the first retry."""
    recovery_pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
    """Between two checks of what a dead run has left; the last value repeats."""
    recovery_round_s: float = 20.0
    """Limit for one instance of a dead run before the others have their turn."""
    exchange_s: float = 30.0
    """For one exchange with the market, from the look-up of its name to the last byte of its answer."""
    create_insist_s: float = 3.0
    """A create on its way when the run ends is waited for that long: its answer saves a minute of looking for it."""
    market_pause_s: float = 0.5
    """Before the first retry of a call that the market did not answer; each retry doubles it."""
    rate_limits: bool = True
    """Whether calls keep the intervals that the market requires; off only in tests."""
    hook_told_s: float = 60.0
    """A conftest hook or an adapter that has not answered for this long is reported."""
    hook_within_s: float = 600.0
    """A conftest hook, or an adapter of a conftest file, that has not answered for this long has failed: a person may
    be looking at the process with a debugger."""
    adapter_within_s: float = 90.0
    """A process with the adapters of packages that has not answered for this long is started again: to judge the
    largest log takes seconds."""


DEFAULTS = Timeouts()
"""The limits of a run that sets no others."""
