"""What the environment on a host is, and how it differs from the one here: said before any test runs."""

from __future__ import annotations

import inspect
import json
import platform
import shlex
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import PurePosixPath
from typing import Any

import pytest

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.plugin.on_host.runner import canonical
from pytest_vastgpu.plugin.on_host.runner import needs_of

AT_HOME = frozenset(
    {
        *("allure-pytest-bdd", "pytest-azurepipelines", "pytest-csv", "pytest-custom-exit-code", "pytest-emoji"),
        *("pytest-github-actions-annotate-failures", "pytest-html", "pytest-instafail", "pytest-json-report"),
        *("pytest-md", "pytest-md-report", "pytest-metadata", "pytest-notifier", "pytest-pretty", "pytest-progress"),
        *("pytest-reportlog", "pytest-rich", "pytest-spec", "pytest-sugar", "pytest-tap", "pytest-testdox"),
        *("pytest-tldr", "pytest-xdist", "teamcity-messages"),
    }
)
"""Packages whose plugins have their effect in the process that reports, and so here."""
ADVICE = "add it to what the tests need (the extra or group 'test', say), or install it with --vast-setup"


@dataclass(frozen=True)
class About:
    """What is known of the environment on a host."""

    python: str
    """Its executable."""
    version: str
    implementation: str
    work: PurePosixPath
    """The host's working directory."""
    plugins: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The packages of its plugins and their versions, by the plugin's name."""
    path: str = ""
    """``PATH`` of the tests there; empty: the host's."""

    @classmethod
    def parse(cls, text: str) -> About:
        """What ``about.json`` says.

        :raises ValueError: it is not what was written there.
        """
        try:
            said = json.loads(text)
            plugins = {str(name): (str(package), str(version)) for name, (package, version) in said["plugins"].items()}
            python, version, implementation = (str(said[name]) for name in ("python", "version", "implementation"))
            path = str(said.get("path", ""))
            return cls(python, version, implementation, PurePosixPath(said["work"]), plugins, path)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the host does not say what its environment is: {text!r:.200}") from error


@dataclass(frozen=True)
class Plugin:
    """A plugin that is active here."""

    name: str
    package: str
    version: str
    options: Mapping[str, bool] = field(default_factory=dict)
    """What it adds to the command line; and whether a value may follow as a word of its own."""
    unread: str = ""
    """Why not all of its options are known, in words."""


def differences(there: About, here: tuple[str, str], active: Sequence[Plugin]) -> list[str]:
    """How the environment on a host differs from the one here, a line each. Pure.

    :param here: Implementation and version of the Python here.
    :param active: The plugins that are active here.
    """
    lines = []
    implementation, version = here
    if (there.implementation, _minor(there.version)) != (implementation, _minor(version)):
        other = "" if there.implementation == implementation else f"{there.implementation} "
        own = f"{implementation} " if other else ""
        lines.append(f"tests run on Python {other}{there.version} there, {own}{version} here")
    for plugin in missing(there, active):
        lines.append(f"{plugin.package} {plugin.version} is active here and missing there: {ADVICE}")
    for plugin in active:
        if plugin.unread:
            lines.append(f"which options {plugin.package} {plugin.version} has is not known ({plugin.unread})")
    return [sanitize.line(line) for line in lines]


def missing(there: About, active: Iterable[Plugin]) -> list[Plugin]:
    """The plugins that are active here, matter where tests run, and are missing there. Pure."""
    packages = {canonical(package) for package, _ in there.plugins.values()}
    found: dict[str, Plugin] = {}
    for plugin in active:
        package = canonical(plugin.package)
        if package not in AT_HOME and package not in packages and plugin.name not in there.plugins:
            found.setdefault(package, plugin)
    return list(found.values())


def refused(there: About, active: Iterable[Plugin], arguments: Iterable[str]) -> str:
    """Why pytest on a host would refuse its arguments: an option of a plugin that is missing there. Pure.

    :param arguments: What pytest was called with here, also by ``addopts``.
    """
    given = list(arguments)
    for plugin in missing(there, active):
        for argument in given:
            if argument.partition("=")[0] in plugin.options:
                return sanitize.line(
                    f"pytest there would not know {argument}, since {plugin.package} is missing there: {ADVICE}"
                )
    return ""


def for_workers(arguments: Sequence[str], addopts: Sequence[str], active: Iterable[Plugin]) -> list[str]:
    """The arguments without those of plugins that have their effect here only, and may be missing there. Pure.

    :param addopts: What the configuration file adds; where it has such arguments, too, it is overridden.
    """
    options = {
        name: value
        for plugin in active
        if canonical(plugin.package) in AT_HOME - {"pytest-xdist"}
        for name, value in plugin.options.items()
    }
    rest = _without(addopts, options)
    changed = [] if rest == list(addopts) else ["-o", f"addopts={shlex.join(rest)}"]
    return [*_without(arguments, options), *changed]


def _without(arguments: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    kept = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in options:
            kept.append(word)
        elif options[name] and not equals:
            next(words, None)
    return kept


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


class Comparison:
    """Says how the environments on hosts differ from the one here; what is equal on several of them once."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: set[str] = set()

    def tell(self, name: str, there: About, tell: Callable[[str], object]) -> None:
        """Compare a host's environment.

        :param tell: Called with each line for people.
        :raises pytest.UsageError: one line: pytest there would refuse its arguments.
        """
        plugins = active(self._config)
        for line in differences(there, here(), plugins):
            if line not in self._told:
                tell(f"vastgpu: {name}: {line}")
                self._told.add(line)
        given = [*map(str, self._config.invocation_params.args), *self._config.getini("addopts")]
        if problem := refused(there, plugins, given):
            raise pytest.UsageError(f"vastgpu: {name}: {problem}")


def of_workers(config: pytest.Config) -> list[str]:
    """The arguments of the run for its workers: :func:`for_workers`."""
    given = [str(each) for each in config.invocation_params.args]
    return for_workers(given, config.getini("addopts"), active(config))


def here() -> tuple[str, str]:
    """Implementation and version of the Python here."""
    return platform.python_implementation(), platform.python_version()


def active(config: pytest.Config) -> list[Plugin]:
    """The plugins of packages that are active here, but for those that are here because this package needs them.

    They are looked at once in a run.
    """
    known = config.stash.get(_ACTIVE, None)
    if known is None:
        ours = needs_of("pytest-vastgpu")
        known = config.stash[_ACTIVE] = [
            Plugin(
                config.pluginmanager.get_name(plugin) or "",
                found.metadata["Name"],
                found.version,
                *_Options.of(plugin, config.pluginmanager),
            )
            for plugin, found in config.pluginmanager.list_plugin_distinfo()
            if canonical(found.metadata["Name"]) not in ours
        ]
    return known


_ACTIVE: pytest.StashKey[list[Plugin]] = pytest.StashKey()


class _Options:
    """Takes down what a plugin adds to the command line, in the place of pytest's parser."""

    def __init__(self) -> None:
        self.found: dict[str, bool] = {}

    @classmethod
    def of(cls, plugin: object, manager: pytest.PytestPluginManager) -> tuple[Mapping[str, bool], str]:
        """See :attr:`Plugin.options` and :attr:`Plugin.unread`."""
        options = cls()
        hook = getattr(plugin, "pytest_addoption", None)
        if hook is None:
            return {}, ""
        given = {"parser": options, "pluginmanager": _Manager(manager)}
        try:
            hook(**{name: value for name, value in given.items() if name in inspect.signature(hook).parameters})
        except Exception as error:  # noqa: BLE001 - a plugin that wants more of a parser than there is here
            return options.found, f"{type(error).__name__}: {error}"
        return options.found, ""

    def addoption(self, *names: str, **attributes: Any) -> None:
        words = attributes.get("action", "store") in {"store", "append", "extend"} or "nargs" in attributes
        self.found |= dict.fromkeys(names, words and attributes.get("nargs") not in ("?", "*", 0))

    _addoption = addoption

    def getgroup(self, *_given: Any, **_attributes: Any) -> _Options:
        return self

    addgroup = getgroup

    def addini(self, *_given: Any, **_attributes: Any) -> None:
        pass


class _Manager:
    """A plugin manager that can be asked, and not changed."""

    def __init__(self, manager: pytest.PytestPluginManager) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("get", "has", "is_", "list")):
            return getattr(self._manager, name)
        return lambda *_given, **_attributes: None
