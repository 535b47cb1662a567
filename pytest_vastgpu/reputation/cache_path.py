"""Finds the user's host cache file, and the market whose part of it is used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from pytest_vastgpu.core import environment
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import HostCacheError
from pytest_vastgpu.providers.market_name import market_name


def default_path(environ: Mapping[str, str]) -> Path:
    """The path of the cache: ``VAST_HOST_CACHE``, else ``pytest-vastgpu/hosts.yaml`` in the user's cache directory.

    :raises HostCacheError: if the latter exists and is not the user's own.
    """
    if named := environment.host_cache(environ):
        return Path(named)
    directory = platformdirs.user_cache_path("pytest-vastgpu")
    if os.path.lexists(directory):
        try:
            private_directory(directory)
        except OSError as error:
            raise HostCacheError(
                f"the host cache cannot be in {directory} ({error.strerror or error}): "
                "name a file with --vast-host-cache"
            ) from error
    return directory / "hosts.yaml"


def market_at(url: str) -> str:
    """The name of the market at the URL in ``VAST_URL``.

    :raises ConfigurationError: if the value is no URL.
    """
    try:
        return market_name(url)
    except ValueError as error:
        raise ConfigurationError(f"VAST_URL: {error}") from error


def cache_path(named: str, environ: Mapping[str, str], started_in: Path) -> Path:
    """The path of the user's host cache.

    :param named: The value of ``--vast-host-cache``; empty if not given.
    :param started_in: The directory in which a relative path starts.
    """
    path = Path(named) if named else default_path(environ)
    return path if str(path).startswith("~") else started_in / path
