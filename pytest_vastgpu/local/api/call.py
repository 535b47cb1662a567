"""A call of the API, and the endpoints that handle calls."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pytest_vastgpu.local.market.errors import ApiError
from pytest_vastgpu.local.market.errors import invalid
from pytest_vastgpu.local.market.market import Market


class Access(Enum):
    """The keys with which an endpoint may be called."""

    ANYONE = "anyone"
    """Every key, and no key."""
    ACCOUNT = "account"
    OWN = "own"
    """The account's key, and a container's key for its own instance."""


@dataclass(frozen=True)
class ApiCall:
    """A call that was authenticated."""

    market: Market
    path: Mapping[str, Any]
    """The parameters in the path: ``instance_id``, ``offer_id`` …"""
    query: Mapping[str, str]
    body: Any
    """The JSON body; None if there is none."""
    user_agent: str
    base_url: str
    caller: str
    """One of ``effects.CALLERS``; a container may start, stop and destroy its own instance, and no more."""

    @property
    def object(self) -> dict[str, Any]:
        """The body as an object; empty if there is no body.

        :raises ApiError: if it is not an object.
        """
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise ApiError(400, "invalid_request", "Invalid json body")
        return self.body

    def json_parameter(self, name: str, default: Any) -> Any:
        """Parse a query parameter that holds JSON.

        :raises ApiError: if it is not JSON.
        """
        text = self.query.get(name)
        if text is None:
            return default
        try:
            return json.loads(text)
        except ValueError as error:
            raise ApiError(400, "invalid_request", f"Error in query parameters: {name} is not valid JSON") from error

    def columns(self, given: Any) -> Collection[str]:
        """Check the value of ``select_cols``; None selects all columns.

        :raises ApiError: if it is not a list of names.
        """
        if given is None:
            return ("*",)
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise ApiError(400, "invalid_request", "Error in query parameters: select_cols must be a list of names")
        return given

    def number(self, name: str) -> int:
        """Parse a whole number of the path.

        :raises ApiError: if it is not one.
        """
        try:
            return int(self.path[name])
        except ValueError:
            raise invalid(f"invalid {name}") from None


Handler = Callable[[ApiCall], Awaitable[object]]
"""Returns the JSON values of the answer, or a ``starlette`` response."""


@dataclass(frozen=True)
class Endpoint:
    """A method and a path of the API, and what handles them.

    :param name: The name for rate limits and faults; several endpoints may share one.
    """

    name: str
    method: str
    path: str
    handler: Handler
    access: Access = Access.ACCOUNT
