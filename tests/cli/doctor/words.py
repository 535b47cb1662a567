"""A finding in one line, to look for words in."""

from __future__ import annotations

from pytest_vastgpu.cli.doctor.finding import Finding


def said(finding: Finding) -> str:
    return f"{finding.level}: {finding.text} -> {finding.remedy} $ {finding.command}"
