"""One call of the API: who asks, and for what."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pytest_vastgpu.local.api.errors import ApiError
from pytest_vastgpu.local.api.errors import invalid
from pytest_vastgpu.local.market.market import Market


class Access(Enum):
    """Who may call an endpoint."""

    ANYONE = "anyone"
    """Also without a key."""
    ACCOUNT = "account"
    OWN = "own"
    """The account, and the container's key for its own instance."""


@dataclass(frozen=True)
class ApiCall:
    """A call, after it was admitted."""

    market: Market
    path: Mapping[str, Any]
    """What the path names: ``instance_id``, ``offer_id`` …"""
    query: Mapping[str, str]
    body: Any
    """The JSON body; None where there is none."""
    user_agent: str
    base_url: str
    caller: str
    """One of ``effects.CALLERS``; a container may start, stop and destroy its own instance, and no more."""

    @property
    def object(self) -> dict[str, Any]:
        """The body, which must be an object or nothing.

        :raises ApiError: if it is something else.
        """
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise ApiError(400, "invalid_request", "Invalid json body")
        return self.body

    def json_parameter(self, name: str, default: Any) -> Any:
        """A query parameter that holds JSON.

        :raises ApiError: if it does not.
        """
        text = self.query.get(name)
        if text is None:
            return default
        try:
            return json.loads(text)
        except ValueError as error:
            raise ApiError(400, "invalid_request", f"Error in query parameters: {name} is not valid JSON") from error

    def columns(self, given: Any) -> Collection[str]:
        """What ``select_cols`` asks for; everything where it says nothing.

        :raises ApiError: if it is no list of names.
        """
        if given is None:
            return ("*",)
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise ApiError(400, "invalid_request", "Error in query parameters: select_cols must be a list of names")
        return given

    def number(self, name: str) -> int:
        """A whole number of the path.

        :raises ApiError: if it is none.
        """
        try:
            return int(self.path[name])
        except ValueError:
            raise invalid(f"invalid {name}") from None


Handler = Callable[[ApiCall], Awaitable[object]]
"""Gives the JSON of the answer, or a ``starlette`` response."""


@dataclass(frozen=True)
class Endpoint:
    """One line of the API.

    :param name: What limits and faults call it.
    """

    name: str
    method: str
    path: str
    handler: Handler
    access: Access = Access.ACCOUNT
