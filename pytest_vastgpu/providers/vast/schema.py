"""Parses Vast's JSON: answers into values of this project, refusals into its exceptions. No other module knows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import without_json_secrets
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import NoCredit
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.errors import OfferGone
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.errors import RequestRejected
from pytest_vastgpu.errors import SearchQuotaExceeded
from pytest_vastgpu.model import Offer
from pytest_vastgpu.providers import amounts
from pytest_vastgpu.providers.base import Account
from pytest_vastgpu.providers.base import AccountKey
from pytest_vastgpu.providers.base import InstanceStatus
from pytest_vastgpu.providers.base import Phase
from pytest_vastgpu.ssh.address import SshAddress

GONE = "no_such_instance"
"""The API's error code for an instance that does not exist (any more)."""

KEYS = "keys"
"""The field of the account's SSH keys."""

SCOPES: Mapping[str, str] = {
    "search": "misc",
    "create": "instance_write",
    "destroy": "instance_write",
    "attach_key": "instance_write",
    "show": "instance_read",
    "list": "instance_read",
    "logs": "instance_read",
    "account": "user_read",
    "keys": "user_read",
    "delete_key": "user_write",
}
"""The scope that an API key needs for each kind of call, by Vast's page on permissions."""

_EXCERPT_CHARS = 200
_READ_CHARS = 20_000
_TEXT_CHARS = 20_000
"""Characters kept of one text in an answer; a status text can be the end of a log."""
_NAME_CHARS = 1024
_LAST_MOMENT = 1e11
_MOST_ID = 1 << 53
"""Larger numbers of JSON are not exact in every program."""
_SSH_PORT = 22
_PORT_DIGITS = 5
_PHASES = {
    **dict.fromkeys(("offline", "unknown"), Phase.OFFLINE),
    **dict.fromkeys(("exited", "stopped", "error", "failed"), Phase.ENDED),
}
"""Phases by ``actual_status``. Its other values are null, created, loading, frozen, rebooting, or new."""
_HOST = re.compile(r"[A-Za-z0-9:](?:[A-Za-z0-9._:-]{0,252}[A-Za-z0-9:])?")
_MAYBE_DONE = frozenset({408, 409, 425})
"""HTTP statuses after which, as after a server error, the market may still have carried the request out."""


def excerpt(text: str) -> str:
    """The beginning of a text on one line, without the secrets that answers of this API can hold."""
    # Remove secrets before cutting: a cut could leave half of one.
    line = sanitize.line(without_json_secrets(KNOWN(" ".join(text[:_READ_CHARS].split()))), _READ_CHARS)
    return line if len(line) <= _EXCERPT_CHARS else f"{line[:_EXCERPT_CHARS]}…"


# --- refusals ---------------------------------------------------------------------------------------------------------


def parse(status: int, text: str, *, doing: str, retry_after: str = "", endpoint: str = "") -> dict[str, Any]:
    """The JSON object of an answer.

    The caller must judge a refusal inside a 200 (``success: false``), since its body may hold what the caller needs.

    :param doing: Words for the call, for messages, such as ``destroy of instance 7``.
    :param retry_after: The header of that name.
    :param endpoint: The kind of call, a key of :data:`SCOPES`.
    :raises MarketError: the matching subclass, if the answer is no success.
    """
    try:
        body = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        body = None
    if 200 <= status < 300:
        if isinstance(body, list) and endpoint == "keys":  # the one answer that is no object
            body = {KEYS: body}
        if isinstance(body, dict):
            return body
        kind = "empty" if not text.strip() else "not the JSON object it should be"
        raise MarketAnswerInvalid(f"{doing}: the market's answer is {kind}: {excerpt(text)!r}", status=status)
    said = body if isinstance(body, dict) else {}
    raise refusal(status, said, text, doing=doing, retry_after=retry_after, endpoint=endpoint)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    :raises ValueError: if it has a field twice: which one is meant is not known.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands twice")
    return found


def is_id(value: object) -> bool:
    """Whether a value can be the id of an instance."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_ID


def require_success(body: Mapping[str, Any], *, doing: str) -> None:
    """Check an answer with status 200.

    :raises MarketError: if it says ``success: false``.
    """
    if body.get("success") is False:
        raise refusal(200, body, "", doing=doing)


def refusal(
    status: int, body: Mapping[str, Any], text: str, *, doing: str, retry_after: str = "", endpoint: str = ""
) -> MarketError:
    """The exception for a refusal.

    The error code decides where there is one, since the API's HTTP statuses are inconsistent: a wrong key can be a 404,
    an offer that is gone a 400, 404 or 410.
    """
    code = sanitize.line(body["error"], _EXCERPT_CHARS) if isinstance(body.get("error"), str) else ""
    said = _message(body) or excerpt(text) or "no explanation"
    what = f"{doing}: {said} (HTTP {status}{f', {code}' if code else ''})"
    if status == 429:
        seconds = _number(retry_after, _number(body.get("retry_after"), -1.0))
        wanted = seconds if seconds >= 0 else None
        if code == "search_quota_exceeded":
            return SearchQuotaExceeded(
                f"{what}; the account's daily quota of search results is spent, it is renewed at 00:00 UTC",
                retry_after_s=wanted,
                code=code,
            )
        return RateLimited(what, retry_after_s=wanted, code=code)
    if code == "auth_error" or status == 401:
        return BadApiKey(
            f"{what}; check VAST_API_KEY: keys are listed in your account's settings", status=status, code=code
        )
    if code in {"insufficient_credit", "missing_billing", "spend_rate_limit"} or status == 402:
        return NoCredit(f"{what}; see the billing page of your account", status=status, code=code)
    if code in {"no_such_ask", "resources_unavailable"}:
        return OfferGone(what, status=status, code=code)
    if code == "not_authorized" or (status == 403 and body):
        scope = f"the API key lacks the scope {SCOPES[endpoint]}" if endpoint in SCOPES else "the API key lacks a scope"
        return NotAuthorized(f"{what}; {scope}: make a key that has it in your account", status=status, code=code)
    if 200 <= status < 500 and status not in _MAYBE_DONE and body:
        return RequestRejected(what, status=status, code=code)
    return MarketAnswerInvalid(what, status=status, code=code)


def says_gone(refused: MarketError) -> bool:
    """Whether the refusal of a call about one instance says that it does not exist (any more).

    The code for that is documented; any other 404 means it as well, unless it is about the API key.
    """
    return refused.code == GONE or (refused.status == 404 and not isinstance(refused, (BadApiKey, NotAuthorized)))


def is_final(error: MarketError) -> bool:
    """Whether an answer that is not the documented JSON is a refusal all the same, by its HTTP status."""
    status = error.status or 0
    return isinstance(error, MarketAnswerInvalid) and 400 <= status < 500 and status not in _MAYBE_DONE


def _message(body: Mapping[str, Any]) -> str:
    for field in ("msg", "message", "detail", "error", "text"):
        value = body.get(field)
        if isinstance(value, list):  # a validator's list of errors; each repeats our input, which may be secret
            value = "; ".join(str(item.get("msg", "")) for item in value if isinstance(item, dict))
        if isinstance(value, str) and value.strip():
            return excerpt(value)
    return ""


# --- values -----------------------------------------------------------------------------------------------------------


def offers(body: Mapping[str, Any]) -> list[Offer]:
    """The offers of a search, without those that have no id or no machine.

    :raises MarketAnswerInvalid: if there is no list, or no usable offer in a list that is not empty.
    """
    rows = body.get("offers")
    if not isinstance(rows, list):
        raise MarketAnswerInvalid(f"search: the market's answer has no list of offers: {excerpt(_as_json(body))!r}")
    found = [_offer(row) for row in rows if isinstance(row, dict) and _rentable_at_all(row)]
    found = [offer for offer in found if offer.machine_id > 0]  # reputation cannot be kept for machine 0
    if rows and not found:
        raise MarketAnswerInvalid(f"search: none of {len(rows)} offers has an id and a machine")
    return found


def _rentable_at_all(row: Mapping[str, Any]) -> bool:
    return all(_number(row.get(field), -1.0) >= 0 for field in ("id", "machine_id"))


def _offer(row: Mapping[str, Any]) -> Offer:
    usd = {figure.field: amounts.read(row, figure)[0] for figure in amounts.FIGURES}
    return Offer(
        id=_whole(row, "id"),
        machine_id=_whole(row, "machine_id"),
        host_id=_whole(row, "host_id"),
        gpu_name=_text(row, "gpu_name"),
        num_gpus=_whole(row, "num_gpus"),
        gpu_ram_mb=_number(row.get("gpu_ram")),
        compute_cap=_number(row.get("compute_cap")) / 100,
        cuda_max_good=_number(row.get("cuda_max_good")),
        driver_version=_text(row, "driver_version"),
        cpu_cores=_number(row.get("cpu_cores_effective"), _number(row.get("cpu_cores")) * _number(row.get("gpu_frac"))),
        cpu_ram_mb=_number(row.get("cpu_ram")),
        disk_space_gb=_number(row.get("disk_space")),
        inet_down_mbps=_number(row.get("inet_down")),
        inet_up_mbps=_number(row.get("inet_up")),
        inet_down_usd_gb=usd["inet_down_cost"],
        inet_up_usd_gb=usd["inet_up_cost"],
        direct_port_count=_whole(row, "direct_port_count"),
        reliability=min(_number(row.get("reliability2"), _number(row.get("reliability"))), 1.0),
        verified=_text(row, "verification") == "verified" or row.get("verified") is True,
        rentable=row.get("rentable") is not False,
        rented=row.get("rented") is True,
        is_bid=row.get("is_bid") is True,
        geolocation=_text(row, "geolocation"),
        duration_s=usd["duration"],
        price_usd_h=usd["dph_total"],
        storage_usd_gb_month=usd["storage_cost"],
        machine_share=_number(row.get("gpu_frac")),
        simulated=row.get("simulated") is True,
        gpu_memory_gb_s=_number(row.get("gpu_mem_bw")),
        tflops=_number(row.get("total_flops")),
        pcie_lanes=_whole(row, "gpu_lanes"),
        incredible=amounts.problems(row),
    )


def one_instance(body: Mapping[str, Any]) -> InstanceStatus | None:
    """The instance in an answer to "show one"; None where it is gone (``instances: null``).

    :raises MarketAnswerInvalid: if the answer has no ``instances``.
    """
    if "instances" not in body:
        raise MarketAnswerInvalid(f"show: the market's answer has no instance: {excerpt(_as_json(body))!r}")
    found = body["instances"]
    rows = found if isinstance(found, list) else [found]
    return _instance(rows[0]) if rows and rows[0] is not None else None


def instances(body: Mapping[str, Any]) -> tuple[list[InstanceStatus], str]:
    """One page of the list, and the token of the next page (empty on the last).

    :raises MarketAnswerInvalid: if there is no list, or an instance in it has no id: an instance that is skipped here
        would not be destroyed.
    """
    rows = body.get("instances")
    if not isinstance(rows, list):
        raise MarketAnswerInvalid(f"list: the market's answer has no list of instances: {excerpt(_as_json(body))!r}")
    return [_instance(row) for row in rows], str(body.get("next_token") or "")


def _instance(row: object) -> InstanceStatus:
    if not isinstance(row, dict) or not is_id(_whole(row, "id")):
        raise MarketAnswerInvalid(f"the market's answer has an instance without an id: {excerpt(_as_json(row))!r}")
    # There may be no price yet; once there is one, it must be believable.
    price, incredible = (0.0, "") if row.get("dph_total") is None else amounts.read(row, amounts.PRICE)
    actual, message = _text(row, "actual_status"), _text(row, "status_msg")
    phase, explanation = _phase(row, actual, message)
    ports, address = _ports(row.get("ports")), _host(row, "public_ipaddr")
    published = {port: f"{address}:{public}" for port, public in ports.items()} if address else {}
    return InstanceStatus(
        id=_whole(row, "id"),
        label=_text(row, "label"),
        machine_id=_whole(row, "machine_id"),
        host_id=_whole(row, "host_id"),
        phase=phase,
        state=actual,
        explanation=explanation,
        message=message,
        ssh=_ssh(row, address, ports),
        published=published,
        price_usd_h=0.0 if incredible else price,
        start_date=_moment(row.get("start_date")),
        disk_usage_gb=_number(row.get("disk_usage"), -1.0),
        gpu_name=_text(row, "gpu_name"),
        incredible=incredible,
    )


def _phase(row: Mapping[str, Any], actual: str, message: str) -> tuple[Phase, str]:
    """The phase, and the status fields that decided it, for people."""
    explanation = f"actual_status is {actual or 'null'}"
    # actual_status may lag behind a start that the status text already reports as done.
    done = _text(row, "cur_state") == "running" and message.startswith("success, running")
    if actual == "running" or done:
        return Phase.RUNNING, explanation
    if _text(row, "intended_status") == "stopped":
        return Phase.NOT_STARTED, f"intended_status is stopped while {explanation}"
    return _PHASES.get(actual, Phase.STARTING), explanation


def _ssh(row: Mapping[str, Any], address: str, ports: Mapping[int, int]) -> tuple[SshAddress, ...]:
    """The direct address comes first: it is faster, and works where the proxy's tunnel never comes up."""
    found = []
    if address and _SSH_PORT in ports:
        found.append(SshAddress(address, ports[_SSH_PORT], "direct"))
    proxy, port = _host(row, "ssh_host"), _whole(row, "ssh_port")
    if proxy and port:
        found.append(SshAddress(proxy, port, "proxy"))
    return tuple(found)


def _ports(value: object) -> Mapping[int, int]:
    """Parse Docker's map of published TCP ports: ``{"22/tcp": [{"HostIp": …, "HostPort": "37708"}]}`` is 22 → 37708."""
    if not isinstance(value, dict):
        return {}
    ports = {}
    for name, bindings in value.items():
        inner, _, protocol = str(name).partition("/")
        if protocol != "tcp" or not (inner.isascii() and inner.isdecimal() and len(inner) <= _PORT_DIGITS):
            continue
        for binding in bindings if isinstance(bindings, list) else []:
            port = _whole(binding, "HostPort") if isinstance(binding, dict) else 0
            if 0 < port < 65536:
                ports[int(inner)] = port
                break
    return ports


def account_keys(body: Mapping[str, Any]) -> list[AccountKey]:
    """The account's SSH keys, without records that cannot be removed because they have no id.

    :raises MarketAnswerInvalid: if there is no list.
    """
    rows = body.get(KEYS)
    if not isinstance(rows, list):
        raise MarketAnswerInvalid(f"keys: the market's answer has no list of keys: {excerpt(_as_json(body))!r}")
    found = [row for row in rows if isinstance(row, dict) and _whole(row, "id") > 0]
    return [AccountKey(_whole(row, "id"), _text(row, "public_key") or _text(row, "key")) for row in found]


def account(body: Mapping[str, Any]) -> Account:
    """The account in an answer to "current user".

    :raises MarketAnswerInvalid: if it has no user id, or an impossible credit.
    """
    if _whole(body, "id") <= 0:
        raise MarketAnswerInvalid("account: the market's answer has no user id")
    credit, wrong = amounts.read(body, amounts.CREDIT)
    if wrong:
        raise MarketAnswerInvalid(
            f"account: the market's answer cannot be true: {wrong}; see your account's billing page"
        )
    return Account(_whole(body, "id"), _text(body, "email"), credit)


def _as_json(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "an answer that is nested too deep"


def _number(value: object, default: float = 0.0) -> float:
    """A number, also one in a string; the default for anything else, NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return default
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return default
    return number if abs(number) < 1e300 else default


def _moment(value: object) -> float:
    """Epoch seconds; 0 for an impossible time."""
    moment = _number(value)
    return moment if 0 <= moment <= _LAST_MOMENT else 0.0


def _whole(row: Mapping[str, Any], field: str) -> int:
    return int(_number(row.get(field)))


def _text(row: Mapping[str, Any], field: str) -> str:
    """A text, stripped, since some texts of this API end in newlines; numbers as text, null as empty.

    The result is safe to show: one line, except for a status text, which is read line by line.
    """
    value = row.get(field)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return ""
    text = str(value).strip()
    return sanitize.block(text[-_TEXT_CHARS:]) if field == "status_msg" else sanitize.line(text, _NAME_CHARS)


def _host(row: Mapping[str, Any], field: str) -> str:
    """A host name or an address; empty for anything else, since it goes into command lines shown to people."""
    text = _text(row, field)
    return text if _HOST.fullmatch(text) else ""
