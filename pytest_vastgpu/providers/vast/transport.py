"""Makes calls of the API: waits for the rate limit, exchanges request and answer, and repeats failed calls.

Whatever the other side does, it ends within a time limit, as an answer or as a
:class:`~pytest_vastgpu.errors.MarketError`.
"""

from __future__ import annotations

import functools
import random
import ssl
import time
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from pytest_vastgpu.core.backoff import backoff_s
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.errors import SearchQuotaExceeded
from pytest_vastgpu.providers.vast import bounded_body
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.providers.vast.exchange import CancelledOnItsWay
from pytest_vastgpu.providers.vast.exchange import ExchangeFailed
from pytest_vastgpu.providers.vast.exchange import Exchanger
from pytest_vastgpu.providers.vast.exchange import RawAnswer
from pytest_vastgpu.providers.vast.throttle import Throttle

TRIES = 4
"""Most tries of a repeatable call that the market does not answer, or answers with a server error."""

LAST_TRY = 1.5
"""No try begins later than this many time limits of one exchange after the first: a market that is silent is tried
twice, one that refuses at once :data:`TRIES` times."""

REDIRECTS = 3
"""Most redirects that one call follows."""

RATE_LIMIT_PATIENCE_S = 60.0
"""How long one call waits in all because of 429 before it fails."""


_LONGEST_PLACE = 2000
"""Characters of a redirect's target that are read."""


@dataclass(frozen=True)
class ApiRequest:
    """One exchange with the market, for the event log."""

    method: str
    endpoint: str
    """A key of :data:`~pytest_vastgpu.providers.vast.throttle.INTERVALS_S`, or ``log_file``."""
    status: int | None
    """The HTTP status; None where there was no answer."""
    seconds: float


class AnswerUnbounded(MarketAnswerInvalid):
    """The answer was too large or took too long; a repetition would not help."""


class _Bearer(httpx.Auth):
    """Keeps the key out of URLs, and out of local variables that a traceback could show."""

    def __init__(self, api_key: Secret) -> None:
        self._key = api_key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request


class Transport:
    """The connection to one market for one account. Thread-safe.

    The parameters are those of :class:`~pytest_vastgpu.providers.vast.client.MarketClient`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Secret,
        throttle: Throttle,
        *,
        timeout_s: float,
        wait: Callable[[float], None],
        cancel: CancelToken,
        insist_s: float,
        observer: Callable[[ApiRequest], None] | None,
        first_pause_s: float,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        url = _usable_url(self._base_url)
        self._place = url.netloc.decode()
        self._auth = _Bearer(_usable_key(api_key))
        self._throttle = throttle
        self._wait = wait
        self._limit_s = timeout_s
        self._insist_s = insist_s
        self._observer = observer
        self._first_pause_s = first_pause_s
        self._random = random.SystemRandom()
        # Requests to a market on this machine must not go through a proxy.
        trust_env = url.host not in {"127.0.0.1", "localhost", "::1"}
        trusted = functools.cache(lambda: httpx.create_ssl_context(trust_env=trust_env))
        accepted = {"Accept-Encoding": bounded_body.ENCODING}

        def client(timeout: httpx.Timeout, *, elsewhere: bool) -> httpx.Client:
            # To load the certificates takes longer than an exchange with a market on this machine.
            context = trusted() if elsewhere or url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return httpx.Client(timeout=timeout, trust_env=trust_env, verify=context, headers=accepted)

        self._exchanger = Exchanger(client, timeout_s, cancel)

    def close(self) -> None:
        """Close all connections."""
        self._exchanger.close()

    def call(
        self,
        method: str,
        endpoint: str,
        path: str,
        *,
        doing: str,
        body: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """Make a call; returns the JSON object of the answer.

        :param endpoint: A key of :data:`~pytest_vastgpu.providers.vast.throttle.INTERVALS_S`.
        :param doing: Words for the call, for messages.
        :param repeatable: Whether the call is idempotent. Other calls are repeated only where the market cannot have
            carried them out: no connection, or a rate limit.
        :raises MarketError: if the call fails.
        :raises Cancelled: the run is ending. A call that is not repeatable was then sent; otherwise it is NotSent.
        """
        insist_s = 0.0 if repeatable else self._insist_s
        ask = functools.partial(self._answer, method, endpoint, path, doing, body, params, insist_s)
        try:
            return self._tried(ask, endpoint, repeatable=repeatable)
        except CancelledOnItsWay:
            raise
        except Cancelled:
            if repeatable:
                raise
            raise NotSent(f"{doing}: the run is ending") from None

    def _tried(self, ask: Callable[[], dict[str, Any]], endpoint: str, *, repeatable: bool) -> dict[str, Any]:
        failures = 0
        held_back_s = 0.0
        began = time.monotonic()
        while True:
            try:
                self._throttle.turn(endpoint)
                return ask()
            except (SearchQuotaExceeded, AnswerUnbounded):
                raise
            except RateLimited as limited:
                least = max(self._throttle.interval_s(endpoint), self._first_pause_s)
                pause = max(limited.retry_after_s or held_back_s, least)
                held_back_s += pause
                if held_back_s > RATE_LIMIT_PATIENCE_S:
                    raise
                pause *= 1 + self._random.random() / 4
                self._throttle.refused(endpoint, pause)
                self._wait(pause)
            except (MarketUnreachable, MarketAnswerInvalid) as error:
                failures += 1
                passing = error.status is None or not 300 <= error.status < 500
                tired = failures == TRIES or time.monotonic() - began > LAST_TRY * self._limit_s
                if tired or not passing or not (repeatable or isinstance(error, NotSent)):
                    raise
                self._wait(backoff_s(self._first_pause_s, failures) * (1 - self._random.random() / 2))

    def fetch(self, url: str, *, doing: str) -> tuple[int, str]:
        """HTTP status and text of a file on another server, requested without the key.

        :raises MarketUnreachable: or MarketAnswerInvalid, if it cannot be read.
        """
        answer = self._exchange(
            lambda client: client.build_request("GET", url),
            "GET",
            "log_file",
            doing,
            place=f"{url[:80]!r}",
            cut=True,
            elsewhere=True,
        )
        return answer.status, answer.data.decode(errors="replace")

    def _answer(
        self,
        method: str,
        endpoint: str,
        path: str,
        doing: str,
        body: Mapping[str, object] | None,
        params: Mapping[str, str] | None,
        insist_s: float,
    ) -> dict[str, Any]:
        url = self._base_url + path
        for _ in range(REDIRECTS + 1):
            answer = self._exchange(
                functools.partial(_request, method, url, body, params),
                method,
                endpoint,
                doing,
                auth=self._auth,
                insist_s=insist_s,
            )
            if not answer.redirects:
                retry_after = answer.headers.get("Retry-After", "")
                text = answer.data.decode(errors="replace")
                return schema.parse(answer.status, text, doing=doing, retry_after=retry_after, endpoint=endpoint)
            url, params = _redirected(method, url, answer, doing), None
        raise MarketAnswerInvalid(f"{doing}: redirected more than {REDIRECTS} times", status=answer.status)

    def _exchange(
        self,
        make: Callable[[httpx.Client], httpx.Request],
        method: str,
        endpoint: str,
        doing: str,
        *,
        place: str = "",
        **how: Any,
    ) -> RawAnswer:
        """Make an exchange.

        :param place: Where the answer should come from, if not from the market.
        :param how: Further arguments of :meth:`Exchanger.exchange`.
        :raises MarketError: whatever the other side does.
        """
        start = time.monotonic()
        status: int | None = None
        try:
            answer = self._exchanger.exchange(make, **how)
            status = answer.status
        except ExchangeFailed as failed:
            status = failed.status
            raise self._error(failed, doing, place or self._place) from failed.cause
        finally:
            if self._observer is not None:
                self._observer(ApiRequest(method, endpoint, status, time.monotonic() - start))
        return answer

    def _error(self, failed: ExchangeFailed, doing: str, place: str) -> MarketError:
        cause = failed.cause
        if isinstance(cause, bounded_body.Unbounded):
            return AnswerUnbounded(f"{doing}: the market's answer {cause}")
        if failed.status is not None:
            if cause is None:
                return AnswerUnbounded(f"{doing}: the market's answer has not ended after {self._limit_s:g} s")
            return MarketAnswerInvalid(f"{doing}: the market's answer broke off ({_reason(cause)})")
        why = f"none within {self._limit_s:g} s" if cause is None else _reason(cause)
        if not failed.sent:
            return NotSent(f"{doing}: no answer from {place} ({why}); check the network")
        if cause is None or isinstance(cause, (httpx.TimeoutException, httpx.NetworkError)):
            return MarketUnreachable(f"{doing}: no answer from {place} ({why}); check the network")
        return MarketAnswerInvalid(f"{doing}: the market's answer cannot be read ({why})")


def _request(
    method: str, url: str, body: Mapping[str, object] | None, params: Mapping[str, str] | None, client: httpx.Client
) -> httpx.Request:
    return client.build_request(method, url, json=body, params=params)


def _redirected(method: str, url: str, answer: RawAnswer, doing: str) -> str:
    """Where to ask instead: at the same server only, since the key goes along.

    Other requests than GET are repeated only after an answer that keeps their method (307, 308).

    :raises MarketAnswerInvalid: if it is to be asked elsewhere.
    """
    place = answer.headers["location"][:_LONGEST_PLACE]
    asked = httpx.URL(url)
    try:
        there = asked.join(place)
        same = (there.scheme, there.host, there.port) == (asked.scheme, asked.host, asked.port)
    except (httpx.InvalidURL, ValueError):
        same = False
    if not same or (method != "GET" and answer.status not in {307, 308}):
        raise MarketAnswerInvalid(
            f"{doing}: redirected to {schema.excerpt(place)}; set VAST_URL to where the API is", status=answer.status
        )
    return str(there)


def _reason(error: BaseException) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error) or type(error).__name__


def _usable_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ConfigurationError(f"VAST_URL: {base_url!r} is not a URL ({error})") from None
    if url.userinfo:
        raise ConfigurationError("VAST_URL: it holds a user name or a password, which would be stored: leave them out")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"VAST_URL: {base_url!r} is not an http or https URL")
    return url


def _usable_key(api_key: Secret) -> Secret:
    """The key, stripped.

    :raises ConfigurationError: if it cannot stand in a header. Checked here, since httpx would print the key.
    """
    if not _fits_a_header(api_key.reveal().strip()):
        raise ConfigurationError(
            "VAST_API_KEY: it is empty, or has characters that no API key has (its value is not shown)"
        )
    return Secret(api_key.reveal().strip())


def _fits_a_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
