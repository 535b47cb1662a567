"""Every exception that this package raises deliberately.

::

    VastGpuError
    ├── ConfigurationError        a value the user gave is wrong; nothing was rented
    │   ├── SshKeyError           the SSH private key cannot be used
    │   └── WorkloadInvalid       a field of a workload can never be carried out
    ├── MarketError               the market did not do what it was asked; never a host's fault
    │   ├── MarketUnreachable     no answer: refused, timed out, reset, DNS
    │   ├── MarketAnswerInvalid   an answer that is not what the API documents: truncated, not JSON, 5xx
    │   ├── BadApiKey             401 or 404 with ``auth_error``
    │   ├── NotAuthorized         403: the key lacks a scope
    │   ├── NoCredit              no credit, no billing, or a spend rate limit
    │   ├── RequestRejected       400: the request itself is wrong
    │   ├── RateLimited           429, still so after all waiting
    │   ├── SearchQuotaExceeded   429: no more searches today
    │   ├── OfferGone             another account was quicker
    │   ├── OfferRefused          this offer is not rented out to us, for a reason of its host or of the request
    │   └── CreateUnsettled       a create after which an instance may exist that no caller was given
    ├── NoOffers                  nothing on the market is admitted by the policy
    ├── NoRoom                    tests hold as many instances as may be alive at once, and none comes free
    ├── BudgetSpent               renting one more instance could exceed the budget
    ├── HostCacheError            the host cache cannot be read or written
    ├── ProvisioningFailed        no instance became ready; carries a verdict for each attempt
    ├── MeasurementFailed         there is no number that means something
    │   └── LoadNotRun            the load did not run, or its result did not come back: nothing is known of the server
    ├── HostsLost                 hosts failed by their own fault while they were measured
    ├── HookFailed                a hook or an adapter of a conftest file or plugin raised an exception
    ├── SupervisorGone            the process that owns the rented instances has ended, or was never reached
    └── LocalMarketError          the local market cannot do what it was asked
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.model import Attempt


class VastGpuError(Exception):
    """Base of all; its text says what happened, with the value, and what to do now.

    The text can include text of others, so it is made safe to show: without secrets and control characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(sanitize.block(message))

    @property
    def machines_failed(self) -> bool:
        """Whether machines failed by their own fault, which says nothing about workload or tests."""
        return False


class ConfigurationError(VastGpuError):
    """A value from the user is wrong. One line; raised before anything is rented."""


class WorkloadInvalid(ConfigurationError):
    """A field of a workload has a value that no machine could run: a name, a number or a text."""


class SshKeyError(ConfigurationError):
    """The SSH private key is missing, unreadable, protected by a passphrase or of an unknown kind."""


class MarketError(VastGpuError):
    """The market did not do what it was asked. No failure is ever recorded against a host for it.

    :param message: What happened and what to do.
    :param status: The HTTP status, or None when there was no answer.
    :param code: The API's own error code (``no_such_ask`` …), or an empty string.
    """

    status: int | None
    code: str

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class MarketUnreachable(MarketError):
    """No answer from the market: connection refused, timed out, reset, or a name that does not resolve."""


class NotSent(MarketUnreachable):
    """The connection could not be made: the market cannot have seen the request."""


class MarketAnswerInvalid(MarketError):
    """The market answered with a server error or with something that is not the documented JSON."""


class BadApiKey(MarketError):
    """The API key is wrong or expired. The API says so with 401, or with 404 and ``auth_error``."""


class NotAuthorized(MarketError):
    """The API key is right but lacks a scope that the call needs."""


class NoCredit(MarketError):
    """The account has no credit, no billing information, or is limited in its spend rate."""


class RequestRejected(MarketError):
    """The API rejected the request as malformed: a repetition would not help."""


class RateLimited(MarketError):
    """The API still answers 429 after all waiting.

    :param retry_after_s: Seconds that the API asked us to wait, or None if it did not say.
    """

    retry_after_s: float | None

    def __init__(self, message: str, *, retry_after_s: float | None = None, status: int = 429, code: str = "") -> None:
        super().__init__(message, status=status, code=code)
        self.retry_after_s = retry_after_s


class SearchQuotaExceeded(RateLimited):
    """The account's daily quota of search result rows is spent; waiting seconds will not help."""


class OfferGone(MarketError):
    """The offer was taken or withdrawn between search and create. No machine is at fault: take the next offer."""


class OfferRefused(MarketError):
    """The market does not rent this offer out to us, and nothing was created. The reason may be the offer's, as where
    its host has blacklisted the account, or the request's: then other offers are refused in the same words.

    :param words: The market's answer, without the offer's number in front.
    """

    words: str

    def __init__(self, message: str, *, words: str, status: int | None = None, code: str = "") -> None:
        super().__init__(message, status=status, code=code)
        self.words = words


class CreateUnsettled(MarketError):
    """A create after which an instance may exist that no caller was given. Either its answer was lost and its label
    could not be looked up, or it was refused and left an instance behind that could not be destroyed.

    :param label: The unique label to look for.
    :param instance_id: The id of the instance left behind; None if it is not known.
    """

    label: str
    instance_id: int | None

    def __init__(self, message: str, *, label: str, instance_id: int | None = None, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.label = label
        self.instance_id = instance_id


class NoOffers(VastGpuError):
    """No offer is admitted. The text counts what each condition removed, and names the nearest relaxation."""


class NoRoom(VastGpuError):
    """Tests that wait themselves hold as many instances as may be alive at once, so none comes free."""


class BudgetSpent(VastGpuError):
    """Renting one more instance could exceed the budget."""


class HostCacheError(VastGpuError):
    """The host cache can be neither read nor set aside, or cannot be written."""


class ProvisioningFailed(VastGpuError):
    """No instance became ready.

    :param attempts: All attempts in order, each with its verdict.
    """

    attempts: tuple[Attempt, ...]

    def __init__(self, message: str, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)

    @property
    def machines_failed(self) -> bool:
        """Whether every attempted machine failed by its own fault."""
        classes = {attempt.verdict.failure_class for attempt in self.attempts if attempt.verdict}
        return bool(self.attempts) and all(each.blames_machine for each in classes)


class LocalMarketError(VastGpuError):
    """The local market cannot start or cannot do what it was asked."""


class MeasurementFailed(VastGpuError):
    """There is no number that means something: the server failed under the load, or the load did not run."""


class LoadNotRun(MeasurementFailed):
    """The load did not run on the instance, or its result did not come back: the connection broke. It says
    nothing of the server.
    """


class HostsLost(VastGpuError):
    """Hosts failed by their own fault while they were measured, and no further one is rented."""

    @property
    def machines_failed(self) -> bool:
        return True


class HookFailed(VastGpuError):
    """A hook or an adapter of a conftest file or plugin raised an exception; the text has its traceback."""


class SupervisorGone(VastGpuError):
    """The process that owns the rented instances has ended, or its connection has. The text has the end of its log."""
