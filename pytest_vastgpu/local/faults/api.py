"""Faults of the API: wrong, late and missing answers.

A new fault is one more entry of :data:`API_FAULTS`, usually of :func:`_answers`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from collections.abc import Mapping
from functools import lru_cache

from pytest_vastgpu.core.text.durations import DAY_S
from pytest_vastgpu.local.faults.base import FOR_EVER
from pytest_vastgpu.local.faults.base import FaultKind
from pytest_vastgpu.local.faults.base import Layer
from pytest_vastgpu.local.faults.effects import CALLERS
from pytest_vastgpu.local.faults.effects import Answers
from pytest_vastgpu.local.faults.effects import Charges
from pytest_vastgpu.local.faults.effects import Leftover
from pytest_vastgpu.local.faults.effects import Parameters
from pytest_vastgpu.local.faults.effects import Reply


def _answers(
    name: str,
    description: str,
    reply: Reply | Callable[[Parameters], Reply],
    endpoint: str = "any",
    times: float = FOR_EVER,
    **more: float | str,
) -> FaultKind:
    """A fault that answers calls of the API with a reply of its own.

    :param reply: The reply, or a function that makes it from the fault's parameters.
    :param endpoint: The default of the parameter ``endpoint``: the name of an endpoint, or ``any``.
    :param times: The default of the parameter ``times``: the number of calls that get the reply.
    :param more: Further parameters, with their defaults.
    """
    parameters: Mapping[str, float | str] = {
        "endpoint": endpoint,
        "caller": "any",
        "times": times,
        "after": 0,
        **more,
    }
    effect = Answers(reply if callable(reply) else lambda _: reply)
    return FaultKind(name, description, Layer.API, effect, parameters, {"caller": {"any", *CALLERS}})


def _refused(status: int, code: str, text: str) -> Reply:
    return Reply(status, {"success": False, "error": code, "msg": text})


@lru_cache(maxsize=4)
def _bomb(mb: int) -> bytes:
    """Compress this many MiB of zeros; cached, because it takes long."""
    packing = zlib.compressobj(wbits=31)
    zeros = bytes(1 << 20)
    return b"".join(packing.compress(zeros) for _ in range(mb)) + packing.flush()


_TAKEN = "error {0}: no_such_ask Instance type is no longer available."
_TOO_FREQUENT = "API requests too frequent"

API_FAULTS: tuple[FaultKind, ...] = (
    _answers(
        "offer_taken",
        "The offer is taken by somebody else between search and create; parameter: the HTTP status 400, 404 or 410",
        lambda given: _refused(int(given["status"]), "no_such_ask", _TAKEN.format(f"{given['status']}/3907")),
        "create",
        status=410,
    ),
    _answers(
        "offer_refused",
        "Create is refused for the host's sake, or the request's: the HTTP status, code and words are parameters",
        lambda given: _refused(int(given["status"]), str(given["code"]), str(given["text"])),
        "create",
        status=400,
        code="invalid_args",
        text="The host of this machine has blacklisted your account.",
    ),
    _answers(
        "create_lost",
        "Create rents, and then answers with a server error",
        lambda given: Reply(int(given["status"]), "upstream request timeout", afterwards=True),
        "create",
        1,
        status=504,
    ),
    _answers(
        "create_dropped",
        "Create rents, and the connection is cut before the answer",
        Reply(afterwards=True, dropped=True),
        "create",
        1,
    ),
    _answers(
        "create_slow",
        "Create rents, and answers late",
        lambda given: Reply(afterwards=True, true_answer=True, delay_s=given["delay_s"]),
        "create",
        delay_s=60.0,
    ),
    _answers(
        "create_silent",
        "Create rents, and never answers",
        Reply(afterwards=True, dropped=True, delay_s=DAY_S),
        "create",
        1,
    ),
    FaultKind(
        "create_success_false",
        "Create answers success: false, and leaves a stopped instance that costs storage",
        Layer.API,
        Leftover(),
    ),
    _answers(
        "attach_refused",
        "An SSH key cannot be attached to the instance, by default since the account is a team's",
        lambda given: _refused(int(given["status"]), given["code"], "This SSH key cannot be attached."),
        "instance_keys",
        status=400,
        code="team_ssh_keys_not_supported",
    ),
    FaultKind(
        "price_higher",
        "On demand, an instance costs more an hour than its offer said: so many times the price",
        Layer.API,
        Charges(),
        {"times": 2.0},
    ),
    _answers(
        "no_credit", "The account has no credit", _refused(400, "insufficient_credit", "You lack credit."), "create"
    ),
    _answers(
        "spend_rate_limit",
        "A new account's spending limit",
        _refused(400, "spend_rate_limit", "Your account's spend rate limit is reached."),
        "create",
    ),
    _answers(
        "destroy_fails",
        "Destroy fails with a server error, and is not done",
        Reply(500, {"success": False, "error": "server_error", "msg": "Internal server error"}),
        "destroy",
        3,
    ),
    _answers("destroy_lies", "Destroy answers success, and is not done", Reply(200, {"success": True}), "destroy", 1),
    _answers(
        "destroy_lost", "Destroy is done, and the connection is cut", Reply(afterwards=True, dropped=True), "destroy", 1
    ),
    _answers(
        "rate_limited",
        "429 with Retry-After",
        lambda given: Reply(
            429,
            {"msg": _TOO_FREQUENT, "retry_after": given["retry_after_s"], "limit": 5, "remaining": 0},
            {"Retry-After": f"{given['retry_after_s']:g}"},
        ),
        times=2,
        retry_after_s=1.0,
    ),
    _answers("rate_limited_text", "429 in plain text", Reply(429, _TOO_FREQUENT), times=2),
    _answers(
        "rate_limited_detail",
        "429 with nothing but a detail",
        Reply(429, {"detail": f"{_TOO_FREQUENT} endpoint threshold=4.5"}),
        times=2,
    ),
    _answers(
        "search_quota",
        "The day's search results are used up",
        Reply(
            429,
            {"error": "search_quota_exceeded", "retry_after": 8181, "limit": 20000, "remaining": 0},
            {"Retry-After": "8181"},
        ),
        "search",
    ),
    _answers("auth_404", "The key is refused with 404", _refused(404, "auth_error", "Invalid user key")),
    _answers("auth_401", "The key is refused with 401", _refused(401, "auth_error", "Invalid user key")),
    _answers("not_authorized", "The key lacks a scope", _refused(403, "not_authorized", "Not authorized")),
    _answers("server_error", "500", Reply(500, "Internal Server Error"), times=2),
    _answers("bad_gateway", "502 with a page of HTML", Reply(502, "<html><body>Bad Gateway</body></html>"), times=2),
    _answers("unavailable", "503", Reply(503, "Service Unavailable"), times=2),
    _answers("bad_json", "200 with something that is not JSON", Reply(200, '{"success": tru'), times=2),
    _answers("empty_answer", "200 with nothing in it", Reply(200, ""), times=2),
    _answers("truncated", "The answer breaks off in the middle", Reply(true_answer=True, cut=True), times=2),
    _answers("connection_dropped", "The connection is cut; nothing was done", Reply(dropped=True), times=2),
    _answers(
        "slow_answer",
        "The answer is late",
        lambda given: Reply(true_answer=True, delay_s=given["delay_s"]),
        delay_s=2.0,
    ),
    _answers(
        "never_answers",
        "The request is taken and never answered; nothing is done",
        Reply(dropped=True, delay_s=DAY_S),
        times=1,
    ),
    _answers(
        "gzip_bomb",
        "A small answer that unpacks to so many MB",
        lambda given: Reply(200, _bomb(int(given["mb"])), {"Content-Encoding": "gzip"}),
        times=1,
        mb=200,
    ),
    _answers(
        "endless_answer",
        "An answer without end; with pause_s, a character at a time",
        lambda given: Reply(endless_s=given["pause_s"]),
        times=1,
        pause_s=0.0,
    ),
    _answers(
        "endless_headers",
        "An answer whose headers never end, a character at a time",
        lambda given: Reply(endless_s=given["pause_s"], head_only=True),
        times=1,
        pause_s=1.0,
    ),
    _answers(
        "key_echoed",
        "A refusal, by default inside a 200, that repeats the key of the request",
        lambda given: _refused(int(given["status"]), "server_said", "no user has the key {key} today"),
        times=1,
        status=200,
    ),
    _answers(
        "list_lags",
        "The list of instances is empty for a time",
        Reply(
            200,
            {
                "success": True,
                "total_instances": 0,
                "label_counts": {},
                "instances_found": 0,
                "instances": [],
                "next_token": None,
            },
        ),
        "list",
        2,
    ),
    _answers(
        "gone_404",
        "An instance that exists is answered with 404, and with another code than one that does not",
        lambda given: _refused(404, given["code"], "Instance not found."),
        "show",
        1,
        code="instance_not_found",
    ),
    _answers("show_null", "An instance that exists is shown as absent", Reply(200, {"instances": None}), "show", 1),
)
