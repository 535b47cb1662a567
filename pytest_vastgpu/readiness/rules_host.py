"""Rules."""

from __future__ import annotations

from pytest_vastgpu.readiness.rules import Rule

RULES: tuple[Rule, ...] = ()
