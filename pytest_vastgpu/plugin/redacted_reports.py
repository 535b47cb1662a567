"""Removes secrets from pytest's report of a test: its traceback with all local variables, sections, properties."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_vastgpu.core.text.redaction import KNOWN


def hide_secrets(report: pytest.TestReport) -> None:
    """Remove every known secret from a report, in every part that a plugin may show, store or send."""
    report.longrepr = _without(report.longrepr, {})
    report.sections = [(name, KNOWN(text)) for name, text in report.sections]
    report.user_properties[:] = [(name, _without(value, {})) for name, value in report.user_properties]


def hide_in(shown: object) -> None:
    """Remove secrets from pytest's representation of an exception, in place."""
    _without(shown, {})


def _without(value: Any, seen: dict[int, object]) -> Any:
    """The value without secrets. pytest's own objects, which hold the lines of the output, are changed in place."""
    if isinstance(value, str):
        return KNOWN(value)
    if isinstance(value, list):
        value[:] = [_without(each, seen) for each in value]
    elif type(value) is tuple:
        return tuple(_without(each, seen) for each in value)
    elif isinstance(value, dict):
        return {name: _without(each, seen) for name, each in value.items()}
    elif type(value).__module__.startswith("_pytest.") and id(value) not in seen:
        seen[id(value)] = value
        for name, each in list(getattr(value, "__dict__", {}).items()):
            if (cleaned := _without(each, seen)) is not each:
                object.__setattr__(value, name, cleaned)
    return value
