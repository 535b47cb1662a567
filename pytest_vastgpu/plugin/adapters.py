"""Asks the hooks of conftest files and plugins for their adapters."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.errors import HookFailed
from pytest_vastgpu.servers.base import checked
from pytest_vastgpu.servers.base import kind_of

if TYPE_CHECKING:
    from pytest_vastgpu.servers.base import Adapter


def adapters_of(config: pytest.Config) -> list[Adapter]:
    """The adapters that hooks supply.

    :raises ConfigurationError: if something is no adapter.
    :raises HookFailed: one line with the place, if a hook raises an exception, as where an adapter lacks a method.
    """
    try:
        answers = config.hook.pytest_vastgpu_adapters()
    except (pytest.UsageError, pytest.exit.Exception):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = sanitize.line(f"{type(error).__name__}: {error}")
        raise HookFailed(f"{place.filename}:{place.lineno}: pytest_vastgpu_adapters raised {what}") from error
    for answer in answers:
        if not isinstance(answer, Iterable):
            raise HookFailed(
                f"pytest_vastgpu_adapters of a conftest file gave {kind_of(answer)}; return a list of adapters"
            )
    return [checked(adapter, "a conftest file") for answer in answers for adapter in answer]
