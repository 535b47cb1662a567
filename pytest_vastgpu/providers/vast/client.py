"""The Vast REST API as typed calls. Every failure raises a :class:`~pytest_vastgpu.errors.MarketError`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import CreateUnsettled
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import OfferRefused
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.model import Offer
from pytest_vastgpu.providers.base import Account
from pytest_vastgpu.providers.base import AccountKey
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import SelfDestruct
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.providers.vast.search_body import search_body
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.transport import ApiRequest
from pytest_vastgpu.providers.vast.transport import Transport
from pytest_vastgpu.selection.offer_query import OfferQuery

SETTLE_PAUSES_S = (0.0, 1.0, 2.0, 4.0)
"""Pauses before each check of the outcome of a call that its answer does not show: the market's lists may lag."""

LEAST_DISK_GB = 8.0
"""Vast refuses an instance with a smaller disk."""
PREPARE = """\
touch ~/.no_auto_tmux
mkdir -p ~/.ssh && chmod 700 ~/.ssh && touch ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys
"""
"""Keeps Vast's login from wrapping commands in tmux, and repairs file modes that make sshd refuse valid keys."""

_PAGE = 25  # the largest page of the API
_MAX_PAGES = 400
_LOG_PAUSE_S = 0.3  # pause and number of tries as in the vendor's own client
_LOG_TRIES = 30


def create_body(request: CreateRequest) -> dict[str, object]:
    """The body of a create. The API takes published ports as Docker flags in the environment."""
    return {
        "image": request.image,
        **({} if request.image_login is None else {"image_login": request.image_login.reveal()}),
        "disk": max(request.disk_gb, LEAST_DISK_GB),
        "label": request.label,
        "onstart": request.onstart,
        "env": {**request.env, **{f"-p {port}:{port}": "1" for port in request.ports}},
        "runtype": "ssh_direct",
        "target_state": "running",
        "cancel_unavail": True,
    }


def self_destruct(base_url: str) -> SelfDestruct:
    """Vast's self-destruct: the container's key can start, stop and destroy its instance, and nothing else."""
    url = f"{base_url.rstrip('/')}/api/v0/instances/"
    return SelfDestruct(url, "CONTAINER_API_KEY", "CONTAINER_ID", PREPARE)


class MarketClient:
    """Client of Vast.ai, or of a server with the same API: a :class:`~pytest_vastgpu.providers.base.Provider`.

    It repeats calls that may be repeated when the market is unreachable or answers with a server error, and waits out
    rate limits, so that an exception means that a short wait did not help. Every method raises
    :class:`MarketUnreachable`, :class:`MarketAnswerInvalid`, :class:`BadApiKey`, :class:`NotAuthorized`,
    :class:`RateLimited` or :class:`RequestRejected`; each method names further ones.

    :param base_url: ``https://console.vast.ai``, or the URL of another market.
    :param api_key: Goes into the Authorization header and nowhere else.
    :param timeout_s: Limit of one exchange, from the look-up of the market's name to the answer's last byte.
    :param wait: Waits for a number of seconds. Its exceptions pass through, so that it can cancel a call.
    :param cancel: Ends every call with :class:`~pytest_vastgpu.core.clock.Cancelled` when it is cancelled.
    :param insist_s: Seconds for which a create that is cancelled, and was sent, is still waited for: without its
        answer, it takes a minute to be sure that it has rented nothing.
    :param observer: Called after every exchange.
    :param first_pause_s: Seconds before the first repetition of a call; doubled with each.
    :raises ConfigurationError: if the URL or the key cannot be used at all.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Secret,
        throttle: Throttle,
        *,
        timeout_s: float = Timeouts.exchange_s,
        wait: Callable[[float], None] = time.sleep,
        cancel: CancelToken | None = None,
        insist_s: float = Timeouts.create_insist_s,
        observer: Callable[[ApiRequest], None] | None = None,
        first_pause_s: float = Timeouts.market_pause_s,
    ) -> None:
        KNOWN.add(API_KEY, Secret.of(api_key).reveal().strip())
        self._transport = Transport(
            base_url,
            Secret.of(api_key),
            throttle,
            timeout_s=timeout_s,
            wait=wait,
            cancel=cancel or CancelToken(),
            insist_s=insist_s,
            observer=observer,
            first_pause_s=first_pause_s,
        )
        self._wait = wait
        self.base_url = base_url

    def __enter__(self) -> MarketClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    @property
    def self_destruct(self) -> SelfDestruct:
        """See :class:`Provider`."""
        return self_destruct(self.base_url)

    def search(self, query: OfferQuery) -> list[Offer]:
        """See :class:`Provider`."""
        body = search_body(query)
        return schema.offers(self._transport.call("POST", "search", "/api/v0/bundles/", doing="search", body=body))

    def create(self, offer_id: int, request: CreateRequest) -> int:
        """Rent an offer; returns the id of the new instance.

        The request is never sent again once it may have reached the market. Where the answer is lost, the client looks
        the label up. An exception from ``wait`` during that leaves the outcome open, like :class:`CreateUnsettled`.

        :raises OfferGone: the offer is taken; nothing is left behind.
        :raises OfferRefused: this offer is not rented out to us; nothing is left behind.
        :raises NoCredit: the account cannot pay.
        :raises CreateUnsettled: an instance with this label may exist and the market does not answer, or a refused
            create has left an instance that could not be destroyed.
        :raises MarketUnreachable: also where the answer was lost and no instance has the label.
        """
        doing = f"create from offer {offer_id}"
        path = f"/api/v0/asks/{offer_id}/"
        try:
            body = self._transport.call("PUT", "create", path, doing=doing, body=create_body(request), repeatable=False)
        except NotSent:
            raise
        except (RequestRejected, NotAuthorized) as refused:
            raise _of_the_offer(refused, doing) from refused
        except (MarketUnreachable, MarketAnswerInvalid) as lost:
            return self._settle(request.label, lost, doing)
        instance_id: Any = body.get("new_contract")
        if not schema.is_id(instance_id):
            if body.get("success") is False:
                raise _of_the_offer(schema.refusal(200, body, "", doing=doing), doing)
            no_id = MarketAnswerInvalid(f"{doing}: the answer has no id of an instance")
            return self._settle(request.label, no_id, doing)
        if body.get("success") is False:
            raise self._withdraw(instance_id, request, schema.refusal(200, body, "", doing=doing))
        return int(instance_id)

    def show(self, instance_id: int) -> InstanceStatus | None:
        """The state of an instance now; None where it is gone.

        One such answer may be a gap: callers ask twice, or look into the list as well.
        """
        doing = f"show of instance {instance_id}"
        try:
            body = self._transport.call("GET", "show", f"/api/v0/instances/{instance_id}/", doing=doing)
            schema.require_success(body, doing=doing)
        except MarketError as refused:
            if schema.says_gone(refused):
                return None
            raise
        return schema.one_instance(body)

    def list_instances(self, label: str | None = None) -> list[InstanceStatus]:
        """All instances of the account, or those with exactly this label."""
        found: list[InstanceStatus] = []
        params = {
            "limit": str(_PAGE),
            "order_by": json.dumps([{"col": "id", "dir": "asc"}]),
            "select_filters": json.dumps({} if label is None else {"label": {"eq": label}}),
        }
        for _ in range(_MAX_PAGES):
            body = self._transport.call("GET", "list", "/api/v1/instances/", doing="list of instances", params=params)
            schema.require_success(body, doing="list of instances")
            page, token = schema.instances(body)
            # Checked again: if the market ignored the filter, the caller would destroy other instances as ours.
            found += [status for status in page if label is None or status.label == label]
            if not token or token == params.get("after_token"):
                return found
            params["after_token"] = token
        raise MarketAnswerInvalid(f"list of instances: it does not end after {_MAX_PAGES} pages")

    def destroy(self, instance_id: int) -> None:
        """Ask for an instance to be destroyed; success also where it is gone already.

        The market sometimes reports success too early: to be sure, call :meth:`show` until it is gone.
        """
        doing = f"destroy of instance {instance_id}"
        try:
            body = self._transport.call("DELETE", "destroy", f"/api/v0/instances/{instance_id}/", doing=doing, body={})
            schema.require_success(body, doing=doing)
        except MarketError as refused:
            if not schema.says_gone(refused):
                raise

    def attach_key(self, instance_id: int, public_key: str) -> None:
        """Authorize an SSH key on an instance; success also where it already is. Takes effect within minutes.

        :param public_key: One line as in ``authorized_keys``.
        """
        doing = f"attach of an SSH key to instance {instance_id}"
        path = f"/api/v0/instances/{instance_id}/ssh/"
        body = self._transport.call("POST", "attach_key", path, doing=doing, body={"ssh_key": public_key})
        # The API has no code for this refusal, which answers a second attach.
        if "already associated" not in str(body.get("msg")):
            schema.require_success(body, doing=doing)

    def account_keys(self) -> list[AccountKey]:
        """The SSH keys that the account has a record of."""
        try:
            body = self._transport.call("GET", "keys", "/api/v0/ssh/", doing="list of the account's SSH keys")
        except RequestRejected as refused:
            if refused.status == 404:  # the answer where there are none
                return []
            raise
        return schema.account_keys(body)

    def delete_account_key(self, key_id: int) -> None:
        """Remove the account's record of a key; success also where there is none. Instances keep the key."""
        doing = f"removal of SSH key {key_id} from the account"
        try:
            body = self._transport.call("DELETE", "delete_key", f"/api/v0/ssh/{key_id}/", doing=doing, body={})
            schema.require_success(body, doing=doing)
        except RequestRejected as refused:
            if refused.status != 404 and "no_ssh_key" not in str(refused):
                raise

    def logs(self, instance_id: int, tail: int) -> str:
        """The last lines of the container's log, which its host uploads on request."""
        doing = f"log of instance {instance_id}"
        path = f"/api/v0/instances/request_logs/{instance_id}/"
        body = self._transport.call("PUT", "logs", path, doing=doing, body={"tail": str(tail)})
        schema.require_success(body, doing=doing)
        url = body.get("result_url")
        if not isinstance(url, str):
            raise MarketAnswerInvalid(f"{doing}: the answer has no result_url")
        problem = ""
        for _ in range(_LOG_TRIES):
            try:
                status, text = self._transport.fetch(url, doing=doing)
            except (MarketUnreachable, MarketAnswerInvalid) as error:
                problem = str(error)
            else:
                if status == 200:
                    return text
                problem = f"HTTP {status}"
            self._wait(_LOG_PAUSE_S)
        raise MarketAnswerInvalid(f"{doing}: it was not uploaded in time ({problem})")

    def account(self) -> Account:
        """The account of the API key, and its credit."""
        # No slash at the end: with one, this endpoint answers with a redirect.
        body = self._transport.call("GET", "account", "/api/v0/users/current", doing="look at the account")
        schema.require_success(body, doing="look at the account")
        return schema.account(body)

    def _settle(self, label: str, lost: MarketError, doing: str) -> int:
        """The id of the instance of a create whose answer was lost.

        :raises CreateUnsettled: if the market does not answer.
        :raises MarketError: if there is no such instance; see :func:`_of_the_offer`.
        """
        for pause in SETTLE_PAUSES_S:
            if pause:
                self._wait(pause)
            try:
                found = self.list_instances(label)
            except MarketError as error:
                raise CreateUnsettled(
                    f"{lost}; whether it was rented cannot be asked ({error}): look for label {label!r}",
                    label=label,
                    status=lost.status,
                ) from error
            if found:
                return found[0].id
        raise _of_the_offer(lost, doing)

    def _withdraw(self, instance_id: int, request: CreateRequest, refused: MarketError) -> MarketError:
        """Destroy the instance of a refused create, since it costs money; returns the exception to raise."""
        try:
            self.destroy(instance_id)
            for pause in SETTLE_PAUSES_S:
                if pause:
                    self._wait(pause)
                if self.show(instance_id) is None:
                    # Refused for an unknown reason: treat the offer as taken.
                    rejected = isinstance(refused, RequestRejected)
                    return OfferGone(str(refused), status=refused.status, code=refused.code) if rejected else refused
            problem = "the market still shows it"
        except MarketError as error:
            problem = str(error)
        return CreateUnsettled(
            f"{refused}; it left instance {instance_id} behind, which could not be destroyed ({problem})",
            label=request.label,
            instance_id=instance_id,
            status=refused.status,
        )


def _of_the_offer(error: MarketError, doing: str) -> MarketError:
    """The exception to raise for a create that has rented nothing: :class:`OfferRefused` where the market has answered,
    and neither key nor credit is the reason.
    """
    answered = isinstance(error, RequestRejected) or schema.is_final(error)
    # A key without the scope is refused as such; other words are about this offer.
    about_the_key = isinstance(error, NotAuthorized) and error.code in {"", "not_authorized"}
    if about_the_key or not (answered or isinstance(error, NotAuthorized)):
        return error
    words = str(error).removeprefix(f"{doing}: ")
    return OfferRefused(str(error), words=words, status=error.status, code=error.code)
