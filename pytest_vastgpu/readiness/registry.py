"""Which adapters there are: ours, those of installed packages (entry points), those of conftest files (handed in)."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.readiness.adapter import Adapter
from pytest_vastgpu.readiness.adapter import checked
from pytest_vastgpu.readiness.command import CommandAdapter
from pytest_vastgpu.readiness.vllm import VllmAdapter

ENTRY_POINT_GROUP = "pytest_vastgpu.adapters"
"""A package names an adapter class, without arguments, or an adapter here."""


def adapters(
    extra: Iterable[tuple[Adapter, str]] = (), points: Iterable[EntryPoint] | None = None
) -> Mapping[str, Adapter]:
    """Every adapter by its name.

    :param extra: Adapters of conftest files, each with its class, for messages.
    :param points: Entry points to load; None: those of the installed packages.
    :raises ConfigurationError: for a name taken twice, and for an entry point that cannot be loaded.
    """
    if points is None:
        points = entry_points(group=ENTRY_POINT_GROUP)
    found: dict[str, Adapter] = {}
    origins: dict[str, str] = {}
    candidates: list[tuple[Adapter, str]] = [(VllmAdapter(), "this package"), (CommandAdapter(), "this package")]
    candidates += [(_load(point), f"entry point {point.name} = {point.value}") for point in points]
    candidates += [(adapter, f"a conftest file ({kind})") for adapter, kind in extra]
    for adapter, origin in candidates:
        if adapter.name in found:
            raise ConfigurationError(
                f"two readiness adapters are called {adapter.name!r}: one of {origins[adapter.name]}, one of {origin}; "
                "rename or remove one"
            )
        found[adapter.name] = adapter
        origins[adapter.name] = origin
    return found


def _load(point: EntryPoint) -> Adapter:
    origin = f"entry point {point.name} = {point.value} of group {ENTRY_POINT_GROUP}"
    try:
        loaded = point.load()
        return checked(loaded() if isinstance(loaded, type) else loaded, origin)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{origin} cannot be loaded: {type(error).__name__}: {error}; update or uninstall the package that names it"
        ) from error
