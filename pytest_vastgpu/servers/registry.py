"""Finds the adapters: this package's own, and those that installed packages declare as entry points."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.servers.base import checked
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.host import HostAdapter
from pytest_vastgpu.servers.llamacpp import LlamaCppAdapter
from pytest_vastgpu.servers.ollama import OllamaAdapter
from pytest_vastgpu.servers.openai_server import OpenAiServerAdapter
from pytest_vastgpu.servers.sglang import SglangAdapter
from pytest_vastgpu.servers.triton import TritonAdapter
from pytest_vastgpu.servers.vllm import VllmAdapter

ENTRY_POINT_GROUP = "pytest_vastgpu.adapters"
"""Entry point group: a package declares an adapter here, or an adapter class whose constructor takes no arguments."""

OWN: tuple[type[Adapter], ...] = (
    CommandAdapter,
    HostAdapter,
    LlamaCppAdapter,
    OllamaAdapter,
    OpenAiServerAdapter,
    SglangAdapter,
    TritonAdapter,
    VllmAdapter,
)
"""The adapters of this package."""


def adapters(points: Iterable[EntryPoint] | None = None) -> list[tuple[Adapter, str]]:
    """The adapters of this package and of installed ones, each with its source.

    :param points: Entry points to load; None: those of the installed packages.
    :raises ConfigurationError: for an entry point that cannot be loaded.
    """
    if points is None:
        points = entry_points(group=ENTRY_POINT_GROUP)
    found: list[tuple[Adapter, str]] = [(kind(), "this package") for kind in OWN]
    found += [(_load(point), f"entry point {point.name} = {point.value}") for point in points]
    return found


def _load(point: EntryPoint) -> Adapter:
    origin = f"entry point {point.name} = {point.value} of group {ENTRY_POINT_GROUP}"
    try:
        loaded = point.load()
        return checked(loaded() if isinstance(loaded, type) else loaded, origin)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"{origin} cannot be loaded: {type(error).__name__}: {said}; update or uninstall the package that names it"
        ) from error
