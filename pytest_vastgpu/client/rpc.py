"""Messages for calls, derived from the declarations in :mod:`~pytest_vastgpu.client.calls`, for both sides."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import TypeVar
from typing import cast

from pytest_vastgpu import errors
from pytest_vastgpu.client.calls import InstanceCalls
from pytest_vastgpu.client.calls import Leases
from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.codec import hints

T = TypeVar("T")
_CANCELLED = "Cancelled"


@dataclass(frozen=True)
class Call:
    """One method of a declaration."""

    name: str
    takes: tuple[Any, ...]
    """The types of its arguments, in order."""
    gives: Any
    """The type of its result."""

    def arguments(self, data: Any) -> list[Any]:
        """The arguments that were sent.

        :raises pytest_vastgpu.core.codec.NotDeclared: if they do not match the declaration.
        """
        if len(data) != len(self.takes):
            raise NotDeclared(f"{self.name} takes {len(self.takes)} arguments, not {len(data)}")
        return [decode(declared, each) for declared, each in zip(self.takes, data, strict=True)]


@functools.cache
def calls_of(declaration: Any) -> dict[str, Call]:
    """Every public method of a protocol, also inherited ones; a protocol with leases also gets the instance calls."""
    found = _methods_of(declaration)
    if Leases in declaration.__mro__:
        of_instance = _methods_of(InstanceCalls)
        found |= {name: replace(call, takes=(str, *call.takes)) for name, call in of_instance.items()}
    return found


def _methods_of(declaration: Any) -> dict[str, Call]:
    found = {}
    for name, function in inspect.getmembers(declaration, inspect.isfunction):
        if not name.startswith("_"):
            types = dict(hints(function))
            gives = types.pop("return")
            found[name] = Call(name, tuple(types.values()), gives)
    return found


def remote(declaration: type[T], send: Callable[[str, list[Any]], Any]) -> T:
    """An object with the methods of a protocol; each method is a call to another process.

    :param send: Sends a name and arguments and returns the answer; raises what was raised in the other process.
    """

    def method(call: Call) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            __tracebackhide__ = True
            return decode(call.gives, send(call.name, [encode(each) for each in arguments]))

        return ask

    namespace = {name: staticmethod(method(call)) for name, call in calls_of(cast(Any, declaration)).items()}
    return cast(T, type(f"Remote{declaration.__name__}", (), namespace)())


def encode_error(error: BaseException) -> dict[str, Any]:
    """An exception as it is sent: the nearest class of :mod:`pytest_vastgpu.errors`, with its text and fields."""
    if isinstance(error, Cancelled):
        return {"error": _CANCELLED, "text": "", "fields": {}}
    kind = next(
        (each for each in type(error).__mro__ if each.__module__ == errors.__name__ and isinstance(error, each)), None
    )
    if kind is None:
        text = f"{type(error).__name__}: {error} (a defect of pytest-vastgpu: please report it)"
        return {"error": errors.VastGpuError.__name__, "text": text, "fields": {}}
    fields = {name: encode(getattr(error, name)) for name in hints(kind)}
    return {"error": kind.__name__, "text": str(error), "fields": fields}


def decode_error(data: Any) -> Exception:
    """The exception that the other process raised."""
    if data["error"] == _CANCELLED:
        return Cancelled()
    kind = getattr(errors, data["error"])
    error: Exception = kind.__new__(kind, data["text"])
    for name, declared in hints(kind).items():
        setattr(error, name, decode(declared, data["fields"][name]))
    return error
