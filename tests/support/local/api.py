"""A plain HTTP client for the tests of the local market, independent of the plugin's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from pytest_vastgpu.local.embed import LocalMarket
from tests.support.looks import PATIENCE_S
from tests.support.looks import until


def plain_http(**how: Any) -> httpx.Client:
    """Make a client for this machine, without TLS: loading certificates would take most of a test's time."""
    return httpx.Client(trust_env=False, verify=False, **how)  # noqa: S501 -- see above


class Api:
    """The API of a market, with one key."""

    def __init__(self, market: LocalMarket, key: str | None = None) -> None:
        headers = {} if key == "" else {"Authorization": f"Bearer {key or market.api_key}"}
        self.http = plain_http(base_url=market.url, headers=headers, timeout=PATIENCE_S)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def offers(self, **query: object) -> list[dict[str, Any]]:
        answer = self.http.post("/api/v0/bundles/", json=query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["offers"]
        return found

    def offer_of(self, machine_id: int) -> int:
        [offer] = self.offers(machine_id={"eq": machine_id}, verified={"in": [True, False]})
        return int(offer["id"])

    def create(self, offer_id: int, **body: object) -> httpx.Response:
        return self.http.put(f"/api/v0/asks/{offer_id}/", json={"image": "any", "cancel_unavail": True, **body})

    def rent(self, machine_id: int, **body: object) -> int:
        answer = self.create(self.offer_of(machine_id), **body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["new_contract"])

    def rent_stopped(self, machine_id: int = 100, **body: object) -> int:
        """Create an instance without processes."""
        return self.rent(machine_id, target_state="stopped", **body)

    def get(self, instance_id: int) -> httpx.Response:
        return self.http.get(f"/api/v0/instances/{instance_id}/")

    def show(self, instance_id: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.get(instance_id).json()["instances"]
        return found

    def becomes(self, instance_id: int, **wanted: object) -> dict[str, Any]:
        """Wait until the instance has these values; return its row."""
        seen = until(
            lambda: self.show(instance_id),
            lambda row: row is not None and all(row.get(name) == value for name, value in wanted.items()),
        )
        assert seen is not None
        return seen

    def change(self, instance_id: int, **body: object) -> httpx.Response:
        return self.http.put(f"/api/v0/instances/{instance_id}/", json=body)

    def listed(self, **params: str) -> dict[str, Any]:
        answer = self.http.get("/api/v1/instances/", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def log(self, instance_id: int, good: Callable[[str], bool], **body: str) -> str:
        """Wait until an instance's log is good; return it. Its URL needs no key."""

        def look() -> str:
            answer = self.http.put(f"/api/v0/instances/request_logs/{instance_id}/", json={"tail": "10", **body}).json()
            with plain_http() as anonymous:
                return until(lambda: anonymous.get(answer["result_url"]), lambda got: got.status_code == 200).text

        return until(look, good)

    def destroy(self, instance_id: int) -> httpx.Response:
        return self.http.delete(f"/api/v0/instances/{instance_id}/")
