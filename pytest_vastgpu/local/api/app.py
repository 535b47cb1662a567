"""The API as a web application: authenticates a call, applies rate limits and faults, and carries it out."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import time
from collections.abc import Awaitable
from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.responses import RedirectResponse
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from starlette.types import Receive
from starlette.types import Scope
from starlette.types import Send

from pytest_vastgpu.local.api import account
from pytest_vastgpu.local.api import extras
from pytest_vastgpu.local.api import instances
from pytest_vastgpu.local.api import lists
from pytest_vastgpu.local.api import offers
from pytest_vastgpu.local.api.call import Access
from pytest_vastgpu.local.api.call import ApiCall
from pytest_vastgpu.local.api.call import Endpoint
from pytest_vastgpu.local.api.responses import Endless
from pytest_vastgpu.local.api.responses import EndlessHead
from pytest_vastgpu.local.api.responses import Json
from pytest_vastgpu.local.api.responses import body_of
from pytest_vastgpu.local.faults.effects import Reply
from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import not_authorized
from pytest_vastgpu.local.market.market import Market
from pytest_vastgpu.local.market.rate_limits import INTERVALS_S

ENDPOINTS: tuple[Endpoint, ...] = (
    *offers.ENDPOINTS,
    *lists.ENDPOINTS,
    *instances.ENDPOINTS,
    *account.ENDPOINTS,
    *extras.ENDPOINTS,
)


_REDIRECTED = "/api/v0/users/current"
"""The one path that the service does not accept with a slash at its end."""


@dataclass(frozen=True)
class ApiUser:
    """The key of a request, and its owner."""

    kind: str
    """One of ``effects.CALLERS``."""
    key: str = ""
    instance_id: int | None = None
    """The instance of a container's key."""


def make_app(market: Market) -> ASGIApp:
    """Build the application of a market."""
    routes = [Route(each.path, _view(market, each), methods=[each.method]) for each in _by_path()]
    # Starlette adds HEAD to every GET, and answers another method of a known path with 405 by itself.
    return _tidy_path(Starlette(routes=routes, exception_handlers={HTTPException: _unknown_path}))


def _by_path() -> list[Endpoint]:
    """The endpoints, those with parameters in their paths last: the first route that matches a path is taken."""
    return sorted(ENDPOINTS, key=lambda each: "{" in each.path)


def _tidy_path(app: ASGIApp) -> ASGIApp:
    """Accept paths with and without a slash at the end, and with two at the start: clients append to a URL with one."""

    async def with_tidy_path(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["method"] == "GET" and scope["path"].endswith(f"{_REDIRECTED}/"):
                await RedirectResponse(_REDIRECTED, 301)(scope, receive, send)
                return
            scope = {**scope, "path": f"/{scope['path'].strip('/')}"}
        await app(scope, receive, send)

    return with_tidy_path


async def _unknown_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = f"The local market has no {request.method} {request.url.path}"
    return Json({"success": False, "error": "not_found", "msg": text}, status)


def _view(market: Market, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        now = time.monotonic()
        caller = ApiUser("anonymous")
        try:
            raw = await body_of(request)  # before authentication: the size limit holds for every client
            caller = _authenticate(market, request, endpoint)
            response = await _answer(market, endpoint, request, raw, caller, now)
        except ApiError as error:
            response = Json(error.body, error.status)
        market.calls.add(caller.kind, endpoint.name, response.status_code, now)
        return response

    return answer


async def _answer(
    market: Market, endpoint: Endpoint, request: Request, raw: bytes, caller: ApiUser, now: float
) -> Response:
    if market.fleet.rules.rate_limits and (wait_s := market.limiter.wait_s(caller.key, endpoint.name, now)):
        return _too_frequent(endpoint.name, wait_s, market.fleet.rules.rate_limit_form)
    call = _read_call(market, request, raw, caller)
    reply = _fault_reply(call, endpoint.name)
    if reply is None:
        return await _carry_out(endpoint, call)
    if not (reply.afterwards or reply.true_answer):
        await asyncio.sleep(reply.delay_s)
        return _fault_response(reply, request, caller)
    if not reply.afterwards:
        await asyncio.sleep(reply.delay_s)
    response = await _carry_out(endpoint, call)
    if reply.afterwards:
        await asyncio.sleep(reply.delay_s)
    if reply.cut:
        return _Cut(request, response)
    return response if reply.true_answer else _fault_response(reply, request, caller)


async def _carry_out(endpoint: Endpoint, call: ApiCall) -> Response:
    # Shielded: a call is completed even if its client disconnects.
    try:
        result = await asyncio.shield(asyncio.ensure_future(_awaited(endpoint, call)))
    except ApiError as error:
        return Json(error.body, error.status)
    return result if isinstance(result, Response) else Json(result)


async def _awaited(endpoint: Endpoint, call: ApiCall) -> object:
    return await endpoint.handler(call)


def _authenticate(market: Market, request: Request, endpoint: Endpoint) -> ApiUser:
    """Find the owner of a request's key.

    :raises ApiError: if the key is wrong, or may not call this endpoint.
    """
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key", "")
    if not key and endpoint.access is Access.ANYONE:
        return ApiUser("anonymous")
    if hmac.compare_digest(key.encode(), market.api_key.encode()):
        return ApiUser("account", key)
    for instance in market.instances.values():
        if hmac.compare_digest(key.encode(), instance.api_key.encode()):
            if endpoint.access is Access.ANYONE:
                return ApiUser("container", key, instance.id)
            if endpoint.access is Access.OWN and request.path_params["instance_id"] == str(instance.id):
                return ApiUser("container", key, instance.id)
            raise not_authorized()
    # Vast answers a search with a wrong key with 404, and other calls with 401.
    raise ApiError(404 if endpoint.name.startswith("search") else 401, "auth_error", "Invalid user key")


def _read_call(market: Market, request: Request, raw: bytes, caller: ApiUser) -> ApiCall:
    body = None
    if raw.strip():
        try:
            body = json.loads(raw)
            json.dumps(body, ensure_ascii=False).encode()  # raises for a lone surrogate, which cannot be stored
        except (ValueError, RecursionError):
            raise ApiError(400, "invalid_request", "Invalid json body") from None
    return ApiCall(
        market=market,
        path=request.path_params,
        query=dict(request.query_params),
        body=body,
        user_agent=request.headers.get("User-Agent", ""),
        base_url=market.context.url,
        caller=caller.kind,
    )


def _fault_reply(call: ApiCall, endpoint: str) -> Reply | None:
    """Return the reply of a fault of the market or of the machine of the call; None if no fault applies."""
    if endpoint in {"market_status", "strike", "result"}:  # extras that are not part of Vast's API
        return None
    market, path = call.market, call.path
    host = None
    if str(path.get("offer_id", "")).isdigit():
        host = market.listings.host(int(path["offer_id"]))
    elif str(path.get("instance_id", "")).isdigit() and (instance := market.instances.get(int(path["instance_id"]))):
        host = instance.host
    for fault in (*market.fleet.faults, *(host.faults if host else ())):
        if (reply := fault.reply_to(endpoint, call.caller)) is not None:
            return reply
    return None


def _fault_response(reply: Reply, request: Request, caller: ApiUser) -> Response:
    if reply.dropped:
        return _Cut(request, None)
    if reply.endless_s is not None and reply.head_only:
        return EndlessHead(request.state.connection.write, reply.endless_s)
    if reply.endless_s is not None:
        return Endless(reply.endless_s)
    headers = dict(reply.headers)
    if isinstance(reply.body, (str, bytes)):
        kind = "application/json" if reply.status == 200 else "text/plain"
        return Response(reply.body, reply.status, headers, media_type=kind)
    body = json.loads(json.dumps(reply.body).replace("{key}", caller.key))
    return Json(body, reply.status, headers)


def _too_frequent(endpoint: str, wait_s: float, form: str) -> Response:
    text = "API requests too frequent"
    if form == "text":
        return PlainTextResponse(f"{text}: endpoint threshold={INTERVALS_S[endpoint]}", 429)
    if form == "detail":
        return Json({"detail": f"{text} endpoint threshold={INTERVALS_S[endpoint]}"}, 429)
    seconds = math.ceil(wait_s)
    body = {"success": False, "error": "HTTPTooManyRequests", "msg": text, "retry_after": seconds}
    return Json({**body, "limit": 1, "remaining": 0}, 429, {"Retry-After": str(seconds)})


class _Cut(Response):
    """Sends half of a response, or nothing, and cuts the connection."""

    def __init__(self, request: Request, response: Response | None) -> None:
        super().__init__(status_code=response.status_code if response else 200)
        self._request = request
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._response is not None:
            body, headers = bytes(self._response.body), self._response.raw_headers
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await asyncio.sleep(0)
        self._request.state.connection.cut()
        while (await receive())["type"] != "http.disconnect":
            pass
