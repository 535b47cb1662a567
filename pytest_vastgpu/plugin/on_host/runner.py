"""What runs the tests on a host: pytest, xdist and this plugin, as they are installed here.

They are brought, not installed: so both sides have the same versions, and no index is asked. All are pure Python. They
come first on a worker's path, so an older pytest in the host's environment loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from functools import cached_property
from importlib.metadata import Distribution
from importlib.metadata import PackageNotFoundError
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from pytest_vastgpu.errors import ConfigurationError

FOLDER = "runner"
"""Where they lie, below the working directory of a host."""
MODULES = {
    "pytest": ("pytest", "_pytest", "py"),
    "pluggy": ("pluggy",),
    "iniconfig": ("iniconfig",),
    "packaging": ("packaging",),
    "pygments": ("pygments",),
    "execnet": ("execnet",),
    "pytest-xdist": ("xdist",),
}
"""The distributions, with their modules: what a distribution says of its files depends on how it was installed."""
OWN = (
    *("__init__.py", "errors.py", "model.py", "option_values.py", "settings.py"),
    *("client", "core", "diagnosis", "hostcheck", "measuring", "plugin", "reporting", "servers"),
    *("local/__init__.py", "local/client.py", "local/embed.py"),
)
"""What a worker needs of this package: the plugin, and all that tests and conftest files may import from it. None of it
loads a package that it depends on."""


@dataclass(frozen=True)
class Runner:
    """The packages that run the tests."""

    distributions: tuple[Distribution, ...]
    own: Distribution

    @classmethod
    def installed(cls) -> Runner:
        """Those that are installed here.

        :raises ConfigurationError: one line: one of them is not.
        """
        try:
            return cls(tuple(map(distribution, MODULES)), distribution("pytest-vastgpu"))
        except PackageNotFoundError as error:
            raise ConfigurationError(
                f"{error.name} runs the tests on hosts, and is not installed: install it"
            ) from error

    def files(self) -> dict[str, str]:
        """Their files and directories by their place below a host's working directory.

        :raises ConfigurationError: one line: one of them does not lie here as files.
        """
        package = Path(__file__).parents[2]
        found = {f"{FOLDER}/{package.name}/{name}": package / name for name in OWN}
        for each in (*self.distributions, self.own):
            about = _about(each)
            found[f"{FOLDER}/{about.name}"] = about
        for module in (name for names in MODULES.values() for name in names):
            path = _module(module)
            found[f"{FOLDER}/{path.name}"] = path
        return {name: str(path) for name, path in found.items()}

    @cached_property
    def requires_python(self) -> dict[str, str]:
        """What they require of Python, by ``pytest 9.2.0``."""
        return {
            f"{each.metadata['Name']} {each.version}": needs
            for each in (self.own, *self.distributions)
            if (needs := each.metadata["Requires-Python"])
        }


def canonical(name: str) -> str:
    """``Pytest_xdist`` as ``pytest-xdist``."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def needs_of(name: str) -> frozenset[str]:
    """The distributions that one needs here, at any depth: their canonical names."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        try:
            texts = distribution(ahead.pop()).requires or ()
        except PackageNotFoundError:
            continue
        needs = (Requirement(text) for text in texts)
        names = {canonical(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
        ahead += names - found
        found |= names
    return frozenset(found)


def _module(name: str) -> Path:
    """The directory or file of a module, wherever it was installed: also of an editable one, or in the user's site.

    :raises ConfigurationError: there is none.
    """
    spec = find_spec(name)
    path = Path(spec.origin) if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file():
        raise ConfigurationError(
            f"the module {name}, which runs the tests on hosts, does not lie here as files (it is {path}): install it "
            "with pip"
        )
    return path.parent if path.name == "__init__.py" else path


def _about(known: Distribution) -> Path:
    """The directory of a distribution that says what it is: its name, its version, its entry points.

    :raises ConfigurationError: there is none.
    """
    site = Path(str(known.locate_file("")))
    for path in _directories(site):
        name, _, version = path.stem.partition("-")
        if canonical(name) == canonical(known.metadata["Name"]) and version.partition("-")[0] == known.version:
            return path
    raise ConfigurationError(
        f"{known.metadata['Name']} runs the tests on hosts, and {site} has no directory that describes it: install it "
        "with pip"
    )


def _directories(site: Path) -> Iterable[Path]:
    return (path for pattern in ("*.dist-info", "*.egg-info") for path in site.glob(pattern) if path.is_dir())
