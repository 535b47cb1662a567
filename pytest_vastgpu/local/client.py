"""A client for what a local market has besides Vast's API, and ``vastgpu local status``."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING
from typing import Any
from typing import TextIO

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import LocalMarketError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 30.0
_SHOWN_ENDED = 10
"""The number of ended instances in the text for people."""


def fetch_status(url: str, api_key: str) -> dict[str, Any]:
    """Fetch the status of a market; see :mod:`pytest_vastgpu.local.market.status`.

    :raises LocalMarketError: if no local market answers there.
    """
    return _call(url, api_key, "GET", "status")


def strike(url: str, api_key: str, instance_id: int, fault: str, **parameters: float | str) -> None:
    """Apply a fault to a running instance; see :meth:`pytest_vastgpu.local.embed.LocalMarket.strike`.

    :raises LocalMarketError: if no local market answers there, or with the reason why it rejects the fault.
    """
    _call(url, api_key, "POST", f"instances/{instance_id}/strike", {"name": fault, **parameters})


def _call(url: str, api_key: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Call an endpoint below ``/_market/``."""
    import ssl  # late, both: a market is started before its client is imported

    import httpx

    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        # trust_env: the user's proxy is not for a server on this machine.
        # verify: it speaks no TLS, and to load certificates takes many times as long as the call.
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S, verify=no_certificates) as http:
            answer = http.request(method, f"{url.rstrip('/')}/_market/{path}", headers=headers, json=body)
        found: dict[str, Any] = answer.raise_for_status().json()
    except httpx.HTTPStatusError as error:
        raise LocalMarketError(f"the local market {url} refuses: {_why(error.response)}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise LocalMarketError(f"the local market {url} does not answer: {error}") from error
    return found


def _why(response: httpx.Response) -> str:
    if response.status_code in {401, 403}:
        return "the key is not its own"
    with contextlib.suppress(ValueError, TypeError, LookupError):
        body = response.json()
        if body["error"] in {"invalid_args", "no_such_instance"}:
            return str(body["msg"])
    return f"HTTP {response.status_code}: is it a local market?"


def show_status(url: str, api_key: str, out: TextIO, *, as_json: bool = False) -> int:
    """Print the status of a market.

    :param url: The market's URL.
    :param api_key: The account's key.
    :returns: 0
    :raises LocalMarketError: if no local market answers, or URL or key is empty.
    """
    if not url or not api_key:
        raise LocalMarketError("which market? Set VAST_URL (or give --url) and VAST_API_KEY")
    status = fetch_status(url, api_key)
    out.write(json.dumps(status, indent=2) + "\n" if as_json else as_text(status))
    return 0


def as_text(status: dict[str, Any]) -> str:
    """Format a status as tables. Pure."""
    alive, ended = status["alive"], status["ended"]
    lines = [
        f"local market {status['url']}, up for {status['now'] - status['started_at']:.0f} s",
        *([status["not_isolated"]] if status["not_isolated"] else []),
        f"spent {status['spent_usd']:.6f} USD, {status['credit_usd']:.2f} USD left",
        "",
        f"{len(alive)} alive",
        *_table(("id", "machine", "status", "$/h", "cost", "label", "made by"), [_instance(each) for each in alive]),
        "",
        f"{len(ended)} ended" + (f", the last {_SHOWN_ENDED}:" if len(ended) > _SHOWN_ENDED else ""),
        *_table(
            ("id", "machine", "status", "$/h", "cost", "label", "made by"),
            [_instance(each) for each in ended[-_SHOWN_ENDED:]],
        ),
        "",
        "calls",
        *_table(("endpoint", "key", "count", "429", "closest"), [_calls(each) for each in status["calls"]]),
        "",
        "rents by label",
        *_table(("label", "rents"), [(label or "-", str(n)) for label, n in status["rents_per_label"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _instance(each: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(each["id"]),
        str(each["machine_id"]),
        each["actual_status"] or "-",
        f"{each['usd_h']:.4f}",
        f"{each['cost']['total_usd']:.6f}",
        each["label"] or "-",
        each["made_by"] or "-",
    )


def _calls(each: dict[str, Any]) -> tuple[str, ...]:
    closest = "-" if each["spacing_s"] is None else f"{each['spacing_s']:.2f} s"
    return (each["endpoint"], each["key"], str(each["count"]), str(each["rate_limited"]), closest)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"  {line}" for line in sanitize.table(header, rows)] if rows else []
