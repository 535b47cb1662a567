"""The protocol of a provider, which rents out instances, in values of this project.

There is one provider, :mod:`pytest_vastgpu.providers.vast`, for Vast.ai and for the local market alike. Its field
names, status words, paths and filters stay there.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum
from types import TracebackType
from typing import Protocol

from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.ssh.address import SshAddress


class Phase(StrEnum):
    """State of an instance that the provider lists."""

    STARTING = "starting"
    """The provider prepares it, or reports nothing that decides on another phase."""
    RUNNING = "running"
    NOT_STARTED = "not started"
    """The provider does not intend to start it."""
    OFFLINE = "offline"
    """Its host does not report to the provider."""
    ENDED = "ended"
    """Its container no longer runs."""


@dataclass(frozen=True)
class InstanceStatus:
    """A provider's report on an instance at one moment. Strings are stripped; absent ones are empty."""

    id: int
    label: str
    machine_id: int
    host_id: int
    phase: Phase
    state: str
    """The provider's own word for the phase, for people."""
    explanation: str
    """The provider's own fields that decided :attr:`phase`, for people."""
    message: str
    """The host's status text: its progress, or why it fails."""
    ssh: tuple[SshAddress, ...]
    """Addresses of its SSH server, the best first; empty while unknown."""
    published: Mapping[int, str]
    """``host:port`` by the container's TCP port. Empty while unknown."""
    price_usd_h: float
    start_date: float
    """Epoch seconds; 0 while unknown."""
    disk_usage_gb: float = -1.0
    """Disk in use; -1 while unknown."""
    gpu_name: str = ""
    incredible: str = ""
    """Why its reported price cannot be true, in words; the price is then 0."""


@dataclass(frozen=True)
class MarketWait:
    """A call that waits because of the market's limits."""

    what: str
    """The kind of call, in words: ``search``."""
    seconds: float
    """How long it waits."""
    interval_s: float = 0.0
    """Seconds that the market requires between two such calls; 0: it has refused one as too early (429)."""

    def __str__(self) -> str:
        return self.with_left(self.seconds)

    def with_left(self, left_s: float) -> str:
        """The wait in a sentence.

        :param left_s: Seconds that are left of it.
        """
        if self.interval_s:
            return f"the market allows one {self.what} every {self.interval_s:g} s: waiting {left_s:.0f} s"
        return f"the market asks to wait {left_s:.0f} s with the next {self.what} (429)"


@dataclass(frozen=True)
class Account:
    """The account of the API key, and its credit."""

    user_id: int
    email: str
    credit_usd: float


@dataclass(frozen=True)
class AccountKey:
    """An SSH key that the account has a record of, for new instances."""

    id: int
    public_line: str
    """As in ``authorized_keys``."""


@dataclass(frozen=True)
class CreateRequest:
    """How to rent an offer: on demand and running. An instance that cannot start is not left behind stopped."""

    image: str
    disk_gb: float
    label: str
    """Unique, so that it finds the instance of a create whose answer was lost."""
    onstart: str = ""
    """Shell script that the container runs at each start, at most about 4 KB."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    image_login: Secret | None = None
    """Login at the image's registry, as in :mod:`pytest_vastgpu.core.image_login`."""
    ports: tuple[int, ...] = ()
    """TCP ports of the container to publish, besides the SSH port."""


@dataclass(frozen=True)
class SelfDestruct:
    """How a container destroys its own instance: by HTTP, with a key that the provider gives to each container."""

    url: str
    """URL of all instances, as seen from one; append the id and a slash. GET shows the instance, DELETE destroys it."""
    key_variable: str
    """Environment variable of the container that holds the key, which is sent as a bearer token."""
    id_variable: str
    """Environment variable that holds the instance's id."""
    prepare: str
    """Shell text that prepares the provider's images for plain SSH sessions."""


class Provider(Protocol):
    """Rents out instances. Thread-safe.

    It repeats calls that may be repeated, and waits out rate limits, so that an exception means that a short wait did
    not help. Every method raises :class:`~pytest_vastgpu.errors.MarketError`, whose subclasses say what happened; each
    method names those that are special to it.
    """

    @property
    def self_destruct(self) -> SelfDestruct:
        """How a container destroys its own instance."""
        ...

    def __enter__(self) -> Provider: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Close all connections."""
        ...

    def account(self) -> Account:
        """The account of the API key, and its credit."""
        ...

    def search(self, query: OfferQuery) -> Sequence[Offer]:
        """Offers, cheapest first. Callers must check them, since the market may return others than the query asks for.

        :raises SearchQuotaExceeded: at once, since waiting seconds would not help.
        """
        ...

    def create(self, offer_id: int, request: CreateRequest) -> int:
        """Rent an offer; returns the id of the new instance.

        The request is never sent again once the market may have carried it out. Where the answer is lost, the provider
        looks the label up.

        :raises OfferGone: the offer is taken; nothing is left behind.
        :raises OfferRefused: this offer is not rented out to us; nothing is left behind.
        :raises NoCredit: the account cannot pay.
        :raises NotSent: the market cannot have carried the request out.
        :raises CreateUnsettled: an instance with this label may exist.
        :raises MarketUnreachable: the answer was lost, and no instance has the label (yet).
        :raises MarketAnswerInvalid: likewise.
        """
        ...

    def show(self, instance_id: int) -> InstanceStatus | None:
        """The state of an instance now; None where it is gone.

        One such answer may be a gap: callers ask twice, or look into the list as well.
        """
        ...

    def list_instances(self, label: str | None = None) -> Sequence[InstanceStatus]:
        """All instances of the account, or those with exactly this label."""
        ...

    def destroy(self, instance_id: int) -> None:
        """Ask for an instance to be destroyed; success also where it is gone already.

        The provider may report success too early: call :meth:`show` until the instance is gone.
        """
        ...

    def attach_key(self, instance_id: int, public_key: str) -> None:
        """Authorize an SSH key on an instance; success also where it already is. Takes effect within minutes.

        The account may get a record of the key, which stays.

        :param public_key: One line as in ``authorized_keys``.
        """
        ...

    def account_keys(self) -> Sequence[AccountKey]:
        """The SSH keys that the account has a record of."""
        ...

    def delete_account_key(self, key_id: int) -> None:
        """Remove the account's record of a key; success also where there is none. Instances keep the key."""
        ...

    def logs(self, instance_id: int, tail: int) -> str:
        """The last lines of the container's log."""
        ...
