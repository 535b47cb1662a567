"""The version of this package, as it is installed."""

from __future__ import annotations

import functools


@functools.cache
def version() -> str:
    """For example ``0.2.0``; ``unknown`` where the package was copied and not installed."""
    from importlib import metadata

    try:
        return metadata.version("pytest-vastgpu")
    except metadata.PackageNotFoundError:
        return "unknown"
