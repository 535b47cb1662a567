"""Makes calls of the API: waits for the rate limit, exchanges request and answer, and repeats failed calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from pytest_vastgpu.core.backoff import backoff_s
from pytest_vastgpu.core.secret import Secret
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.errors import SearchQuotaExceeded
from pytest_vastgpu.providers.vast import bounded_body
from pytest_vastgpu.providers.vast import schema
from pytest_vastgpu.providers.vast.throttle import Throttle

TRIES = 4
"""Most tries of a repeatable call that the market does not answer, or answers with a server error."""

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
        observer: Callable[[ApiRequest], None] | None,
        first_pause_s: float,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        host = _host(self._base_url)
        self._auth = _Bearer(_usable_key(api_key))
        self._throttle = throttle
        self._wait = wait
        self._observer = observer
        self._first_pause_s = first_pause_s
        self._random = random.SystemRandom()
        # Requests to a market on this machine must not go through a proxy.
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        own = host in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.Client(
            timeout=timeout, trust_env=not own, headers={"Accept-Encoding": bounded_body.ENCODING}
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

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
        """
        failures = 0
        held_back_s = 0.0
        while True:
            self._throttle.turn(endpoint)
            try:
                return self._answer(method, endpoint, path, doing, body, params)
            except (SearchQuotaExceeded, AnswerUnbounded):
                raise
            except RateLimited as limited:
                pause = max(limited.retry_after_s or held_back_s, self._throttle.interval_s(endpoint))
                held_back_s += pause
                if held_back_s > RATE_LIMIT_PATIENCE_S:
                    raise
                self._wait(pause * (1 + self._random.random() / 4))
            except (MarketUnreachable, MarketAnswerInvalid) as error:
                failures += 1
                passing = error.status is None or not 300 <= error.status < 500
                if failures == TRIES or not passing or not (repeatable or isinstance(error, NotSent)):
                    raise
                self._wait(backoff_s(self._first_pause_s, failures) * (1 - self._random.random() / 2))

    def fetch(self, url: str, *, doing: str) -> tuple[int, str]:
        """HTTP status and text of a file on another server, requested without the key.

        :raises MarketUnreachable: or MarketAnswerInvalid, if it cannot be read.
        """
        try:
            request = self._http.build_request("GET", url)
        except httpx.InvalidURL as error:
            raise MarketAnswerInvalid(f"{doing}: the market names a file at {url[:80]!r} ({error})") from error
        response, text = self._exchange(request, "log_file", doing, auth=None, cut=True)
        return response.status_code, text

    def _answer(
        self,
        method: str,
        endpoint: str,
        path: str,
        doing: str,
        body: Mapping[str, object] | None,
        params: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        url: httpx.URL | str = self._base_url + path
        for _ in range(REDIRECTS + 1):
            request = self._http.build_request(method, url, json=body, params=params)
            response, text = self._exchange(request, endpoint, doing, auth=self._auth)
            if not response.has_redirect_location:
                retry_after = response.headers.get("Retry-After", "")
                return schema.parse(response.status_code, text, doing=doing, retry_after=retry_after, endpoint=endpoint)
            url, params = _redirected(request, response, doing), None
        raise MarketAnswerInvalid(f"{doing}: redirected more than {REDIRECTS} times", status=response.status_code)

    def _exchange(
        self, request: httpx.Request, endpoint: str, doing: str, *, auth: httpx.Auth | None, cut: bool = False
    ) -> tuple[httpx.Response, str]:
        """The answer and its text; where ``cut`` is set, the beginning of a text that is too large."""
        start = time.monotonic()
        status: int | None = None
        try:
            # In two steps, to tell an answer that broke off from no answer.
            response = self._http.send(request, auth=auth, stream=True)
            try:
                status = response.status_code
                encoding = response.headers.get("Content-Encoding", "")
                data = bounded_body.read(response.iter_raw(), encoding, cut=cut, clock=time.monotonic)
            finally:
                response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise NotSent(f"{doing}: {_no_answer(error)}") from error
        except bounded_body.Unbounded as error:
            raise AnswerUnbounded(f"{doing}: the market's answer {error}") from error
        except httpx.RequestError as error:
            if status is None:
                raise MarketUnreachable(f"{doing}: {_no_answer(error)}") from error
            raise MarketAnswerInvalid(f"{doing}: the market's answer broke off ({_reason(error)})") from error
        finally:
            if self._observer is not None:
                self._observer(ApiRequest(request.method, endpoint, status, time.monotonic() - start))
        return response, data.decode(errors="replace")


def _redirected(request: httpx.Request, response: httpx.Response, doing: str) -> httpx.URL:
    """Where to ask instead: at the same server only, since the key goes along.

    Other requests than GET are repeated only after an answer that keeps their method (307, 308).

    :raises MarketAnswerInvalid: if it is to be asked elsewhere.
    """
    place = response.headers["location"][:_LONGEST_PLACE]
    try:
        url = request.url.join(place)
        same = (url.scheme, url.host, url.port) == (request.url.scheme, request.url.host, request.url.port)
    except (httpx.InvalidURL, ValueError):
        same = False
    if not same or (request.method != "GET" and response.status_code not in {307, 308}):
        raise MarketAnswerInvalid(
            f"{doing}: redirected to {schema.excerpt(place)}; set VAST_URL to where the API is",
            status=response.status_code,
        )
    return url


def _no_answer(error: httpx.RequestError) -> str:
    return f"no answer from {error.request.url.netloc.decode()} ({_reason(error)}); check the network"


def _reason(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error) or type(error).__name__


def _host(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ConfigurationError(f"VAST_URL: {base_url!r} is not a URL ({error})") from None
    if url.userinfo:
        raise ConfigurationError("VAST_URL: it holds a user name or a password, which would be stored: leave them out")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"VAST_URL: {base_url!r} is not an http or https URL")
    return url.host


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
