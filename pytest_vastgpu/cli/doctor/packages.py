"""Checks of what is installed: versions, extras, and other plugins of pytest."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.situation import Situation

PACKAGE = "pytest-vastgpu"
LOCAL = "local"
_REQUIREMENT = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)\s*(?:;\s*extra\s*==\s*['\"]([\w-]+)['\"])?")


@dataclass(frozen=True)
class Requirement:
    """A package that this one needs."""

    name: str
    least: str
    extra: str = ""
    """The extra that needs it; empty: always."""

    def __str__(self) -> str:
        return f"{self.name}>={self.least}"


@dataclass(frozen=True)
class Limit:
    """Another plugin with which something does not work, as ``docs/other-plugins.md`` says."""

    plugin: str
    pytest: str
    """From this version of pytest on."""
    text: str
    remedy: str


LIMITS = (
    Limit(
        "pytest-forked",
        "9.2",
        "it cannot hand over the reports of its tests, with or without this plugin",
        "use an earlier pytest, or -n of pytest-xdist instead of --forked",
    ),
)


def requirements(declared: Iterable[str]) -> list[Requirement]:
    """The requirements in a distribution's metadata. Pure.

    :raises ValueError: if one has a form that this package does not use.
    """
    found = []
    for text in declared:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"the requirement {text!r} is not understood")
        found.append(Requirement(match[1], match[2], match[3] or ""))
    return found


def older(version: str, least: str) -> bool:
    """Whether a version is below another one; only their numbers count. Pure."""
    return _numbers(version) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"(?:\d+!)?(\d+(?:\.\d+)*)", version)
    parts = [int(part) for part in release[1].split(".")] if release else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed where this interpreter looks."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_versions(now: Situation) -> Sequence[Finding]:
    """Whether everything that this package needs is there, and new enough."""
    try:
        declared = requirements(importlib.metadata.requires(PACKAGE) or ())
    except importlib.metadata.PackageNotFoundError:
        return [problem("versions", f"{PACKAGE} is not installed for {sys.executable}", "install it", _pip([PACKAGE]))]
    names = {PACKAGE, *(each.name for each in declared), *(limit.plugin for limit in LIMITS)}
    versions = installed(names)
    return [
        *judge_needed(declared, versions),
        *judge_local(declared, versions, used=now.market is None),
        *judge_limits(versions),
    ]


def judge_needed(declared: Sequence[Requirement], versions: Mapping[str, str]) -> list[Finding]:
    """Judge the packages without which nothing works. Pure.

    :param versions: Those that are installed, by name.
    """
    needed = [each for each in declared if not each.extra]
    if wrong := _wrong(needed, versions):
        return [problem("versions", _told(wrong, versions), "install what is needed", _pip(map(str, wrong)))]
    text = (
        f"{PACKAGE} {versions.get(PACKAGE, '?')}, pytest {versions.get('pytest', '?')}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    return [ok("versions", text)]


def judge_local(declared: Sequence[Requirement], versions: Mapping[str, str], *, used: bool) -> list[Finding]:
    """Judge the extras. Pure.

    :param used: Whether runs rent from the local market.
    """
    wrong = _wrong([each for each in declared if each.extra == LOCAL], versions)
    if wrong:
        text = f"{_told(wrong, versions)}: there is no local market" + (
            ", which runs without a key use" if used else ""
        )
        make = problem if used else warning
        return [make("extras", text, "install it", _pip([f"{PACKAGE}[{LOCAL}]"]))]
    extras = dict.fromkeys(each.extra for each in declared if each.extra)
    complete = [extra for extra in extras if not _wrong([each for each in declared if each.extra == extra], versions)]
    return [ok("extras", f"installed: {', '.join(complete)}")]


def judge_limits(versions: Mapping[str, str]) -> list[Finding]:
    """Judge other plugins. Pure."""
    pytest = versions.get("pytest", "")
    return [
        warning("plugins", f"{each.plugin} {versions[each.plugin]} beside pytest {pytest}: {each.text}", each.remedy)
        for each in LIMITS
        if each.plugin in versions and pytest and not older(pytest, each.pytest)
    ]


def _wrong(needed: Iterable[Requirement], versions: Mapping[str, str]) -> list[Requirement]:
    return [each for each in needed if older(versions.get(each.name, ""), each.least)]


def _told(wrong: Sequence[Requirement], versions: Mapping[str, str]) -> str:
    missing = [each.name for each in wrong if each.name not in versions]
    old = [f"{each.name} {versions[each.name]} is older than {each.least}" for each in wrong if each.name in versions]
    verb = "is" if len(missing) == 1 else "are"
    return "; ".join(([f"{', '.join(missing)} {verb} not installed"] if missing else []) + old)


def _pip(what: Iterable[str]) -> str:
    return f"{shlex.quote(sys.executable)} -m pip install {' '.join(shlex.quote(each) for each in what)}"
