"""What this project needs of a place that rents out instances, in values of its own.

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

from pytest_vastgpu.model import Offer
from pytest_vastgpu.selection.offer_query import OfferQuery
from pytest_vastgpu.ssh.address import SshAddress


class Phase(StrEnum):
    """What a provider says of an instance that it lists."""

    STARTING = "starting"
    """It is being prepared, or the provider says nothing that decides."""
    RUNNING = "running"
    NOT_STARTED = "not started"
    """The provider does not intend to start it."""
    OFFLINE = "offline"
    """Its host does not report."""
    ENDED = "ended"
    """Its container is no longer up."""


@dataclass(frozen=True)
class InstanceStatus:
    """What a provider says of an instance at one moment. Strings are stripped; absent ones are empty."""

    id: int
    label: str
    machine_id: int
    host_id: int
    phase: Phase
    state: str
    """The provider's own word for it, for people."""
    explanation: str
    """The provider's own fields that decided :attr:`phase`, for people."""
    message: str
    """The text that the host reports: how far it is, or why it fails."""
    ssh: tuple[SshAddress, ...]
    """Where its SSH server is reached, the best first; empty while unknown."""
    published: Mapping[int, str]
    """``host:port`` by the container's TCP port. Empty while unknown."""
    price_usd_h: float
    start_date: float
    """Epoch seconds; 0 while unknown."""
    disk_usage_gb: float = -1.0
    """Disk in use; -1 while unknown."""
    gpu_name: str = ""
    incredible: str = ""
    """What it says of its price and cannot be true, in words; the price is 0 then."""


@dataclass(frozen=True)
class Account:
    """Who the API key belongs to, and what can be spent."""

    user_id: int
    email: str
    credit_usd: float


@dataclass(frozen=True)
class CreateRequest:
    """What to rent an offer with. Always on demand, running, and never left behind stopped where it cannot start."""

    image: str
    disk_gb: float
    label: str
    """Unique: a create whose answer is lost is settled by it."""
    onstart: str = ""
    """Shell script that the container runs at each start, at most about 4 KB."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[int, ...] = ()
    """TCP ports of the container to publish, besides that of SSH."""


@dataclass(frozen=True)
class SelfDestruct:
    """How a container ends its own instance: by HTTP, with a key that the provider gives to each container."""

    url: str
    """Of all instances, as it is reached from one; the instance's id and a slash follow. GET looks, DELETE destroys."""
    key_variable: str
    """Environment variable of the container that holds the key, which is sent as a bearer token."""
    id_variable: str
    """Environment variable that holds the instance's id."""
    prepare: str
    """Shell text that makes the provider's images fit for plain SSH sessions."""


class Provider(Protocol):
    """Rents out instances. Threads may share one.

    Calls that may be repeated are, and every call waits out a rate limit; so an exception means that waiting a little
    did not help. Every method raises :class:`~pytest_vastgpu.errors.MarketError`; what it means is in the subclasses,
    and special ones are named with the method.
    """

    @property
    def self_destruct(self) -> SelfDestruct:
        """How a container ends its own instance."""
        ...

    def __enter__(self) -> Provider: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Close all connections."""
        ...

    def account(self) -> Account:
        """Who the key belongs to, and the credit."""
        ...

    def search(self, query: OfferQuery) -> Sequence[Offer]:
        """Offers, the cheapest first. They may be others than was asked for: they are checked again.

        :raises SearchQuotaExceeded: at once, since waiting seconds would not help.
        """
        ...

    def create(self, offer_id: int, request: CreateRequest) -> int:
        """Rent an offer; the id of the new instance.

        It is never sent again once it may have been carried out: where the answer is lost, the label is looked up.

        :raises OfferGone: somebody else was quicker; nothing is left behind.
        :raises NoCredit: the account cannot pay.
        :raises NotSent: it cannot have been carried out.
        :raises CreateUnsettled: an instance with this label may exist.
        :raises MarketUnreachable: the answer was lost, and no instance has the label (yet).
        :raises MarketAnswerInvalid: likewise.
        """
        ...

    def show(self, instance_id: int) -> InstanceStatus | None:
        """What is said of an instance now; None where it is gone."""
        ...

    def list_instances(self, label: str | None = None) -> Sequence[InstanceStatus]:
        """All instances of the account, or those with exactly this label."""
        ...

    def destroy(self, instance_id: int) -> None:
        """Ask for an instance to be destroyed; success also where it is gone already.

        A provider may say yes too early: :meth:`show` it until it is gone.
        """
        ...

    def attach_key(self, instance_id: int, public_key: str) -> None:
        """Let an SSH key into an instance; success also where it is attached already. It takes effect within minutes.

        :param public_key: One line as in ``authorized_keys``.
        """
        ...

    def logs(self, instance_id: int, tail: int) -> str:
        """The last lines of the container's log."""
        ...
