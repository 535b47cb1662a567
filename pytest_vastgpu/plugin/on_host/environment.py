"""The environment of the tests on a host: decided here from the project's files, made there by a shell script.

The script is ``there/environment.sh``; it gets the decision in environment variables.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier
from packaging.specifiers import SpecifierSet

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host import project
from pytest_vastgpu.plugin.on_host.runner import Runner

ABOUT = "about.json"
"""The file below a host's working directory in which the script says what it has found."""
FOLDER = "setup"
"""Where the scripts lie, below the working directory of a host."""
SCRIPTS = ("environment.sh", "uv.sh", "image.py", "about.py")
TESTS = ("test", "tests", "testing")
"""Names of the extra or dependency group that holds what tests need; the first that a project has is taken."""
KEEPS = (
    *("torch", "torchvision", "torchaudio", "torchcodec", "triton", "pytorch-triton*", "xformers", "flash-attn"),
    *("nvidia-*", "cuda-*", "cupy*", "jax", "jaxlib", "jax-cuda*", "tensorflow", "tensorrt*"),
)
"""Packages that stay as the image has them: they fit its CUDA, and are gigabytes."""
USES = (
    *("pyproject.toml", "uv.lock", "uv.toml", ".python-version", "setup.py", "setup.cfg"),
    *("*requirements*.txt", "*requirements*.in", "*constraints*.txt", "requirements/*"),
)
"""Patterns of the project's files that say what an environment is made of."""
COMPILED = (
    *("CMakeLists.txt", "*.cmake", "meson.build", "Cargo.toml", "Cargo.lock", "*.c", "*.cc", "*.cpp", "*.cu", "*.cuh"),
    *("*.h", "*.hpp", "*.pyx", "*.pxd", "*.rs", "*.f90"),
)
"""Patterns of files that are compiled into an environment where the project is installed into it."""
_NEWEST = 30
"""No minor version of Python 3 is asked about from this one on."""
_READ = re.compile(r"(?:uv\.lock|pyproject\.toml|\.python-version|[^/]*requirements[^/]*\.txt)")


@dataclass(frozen=True)
class Environment:
    """How the environment of the tests is made."""

    how: str
    """``command``, ``sync``, ``install`` or ``image``: see the script."""
    shown: str
    """For people, on one line: what is done, and why."""
    options: tuple[str, ...] = ()
    """Arguments of uv."""
    command: str = ""
    """The user's own command."""


@dataclass(frozen=True)
class Pythons:
    """The Python versions that the tests can run on."""

    minors: tuple[str, ...]
    """``3.10``, ``3.11``…, from old to new."""
    wanted: str
    """For people: ``Python 3.11 or newer (requires-python)``."""
    brought: str
    """The one that uv brings where the image has none of them."""


def texts(root: Path, names: Iterable[str]) -> dict[str, str]:
    """The text of those of the project's files that decide, by name.

    :param root: pytest's root directory.
    :param names: The project's files that are brought, by their path in it.
    :raises ConfigurationError: one line: one of them cannot be read.
    """
    found = {}
    for name in filter(_READ.fullmatch, names):
        try:
            found[name] = (root / name).read_text("utf-8")
        except OSError as error:
            raise ConfigurationError(f"the project's environment cannot be read: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"the project's environment cannot be read: {name} is no text in UTF-8 ({error.reason}, at byte "
                f"{error.start}): mend it, or write it anew"
            ) from error
    return found


def decide(files: Mapping[str, str], command: str = "") -> Environment:
    """What the environment is made of. Pure.

    :param files: The text of the project's files, by name.
    :param command: The user's own command (``--vast-setup``).
    :raises ConfigurationError: one line: the files do not say, or cannot be read.
    """
    if command:
        first, _, more = command.strip().partition("\n")
        return Environment("command", f"{first}{' …' if more else ''} (--vast-setup)", command=command)
    about = _toml(files.get("pyproject.toml", ""))
    extras = _names(_table(_table(about, "project"), "optional-dependencies"))
    groups = _names(_table(about, "dependency-groups"))
    if "uv.lock" in files and "pyproject.toml" in files:
        named = _first(TESTS, extras, groups)
        options = [word for kind, name in named for word in (f"--{kind}", name)]
        return Environment("sync", f"{shlex.join(['uv', 'sync', '--frozen', *options])} (uv.lock)", tuple(options))
    if options := _install(about, _first((*TESTS, "dev"), extras, groups)):
        return _installed(options, "pyproject.toml")
    if chosen := _requirements(files):
        return _installed([word for name in chosen for word in ("-r", name)], ", ".join(chosen))
    return Environment(
        "image", "the image's own Python (no uv.lock, no dependencies in pyproject.toml, no requirements*.txt)"
    )


def _installed(options: list[str], why: str) -> Environment:
    return Environment("install", f"uv pip install {' '.join(options)} ({why})", tuple(options))


def _install(about: Mapping[str, Any], named: list[tuple[str, str]]) -> list[str]:
    """The arguments of ``uv pip install`` for a ``pyproject.toml``; none where it names no dependency."""
    own = _table(about, "project")
    extras = [name for kind, name in named if kind == "extra"]
    groups = [word for kind, name in named if kind == "group" for word in ("--group", name)]
    if "build-system" in about:
        return ["-e", f".[{','.join(extras)}]" if extras else ".", *groups]
    # Nothing says how to build it: its dependencies only. Its modules are where the tests look for them at home, too.
    if own.get("dependencies") or extras:
        return ["-r", "pyproject.toml", *(word for name in extras for word in ("--extra", name)), *groups]
    return groups


def _requirements(files: Mapping[str, str]) -> list[str]:
    """``requirements.txt``, and the file beside it that is for tests.

    :raises ConfigurationError: there are several, and none is called that.
    """
    names = sorted(name for name in files if re.fullmatch(r"[^/]*requirements[^/]*\.txt", name))
    tests = [
        name
        for word in (*TESTS, "dev")
        for name in names
        if re.fullmatch(rf"requirements[-_.]{word}\.txt|{word}[-_.]requirements\.txt", name)
    ]
    if "requirements.txt" not in names and len(names) > 1:
        raise ConfigurationError(
            f"which of {', '.join(names)} the tests need cannot be told: say it with "
            f"--vast-setup='uv pip install -r {names[0]}'"
        )
    return ["requirements.txt", *tests[:1]] if "requirements.txt" in names else names


def _first(names: tuple[str, ...], extras: Mapping[str, str], groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """The extra and the group of the first name that there is."""
    for name in names:
        if found := [(kind, known[name]) for kind, known in (("extra", extras), ("group", groups)) if name in known]:
            return found
    return []


def _names(table: Mapping[str, Any]) -> dict[str, str]:
    """The names in a table as they are written, by what they mean."""
    return {re.sub(r"[-_.]+", "-", name).lower(): name for name in table}


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"pyproject.toml cannot be read: {error}") from error


def pythons(files: Mapping[str, str], needs: Mapping[str, str], here: tuple[int, int]) -> Pythons:
    """The Python versions that the tests can run on. Pure.

    :param files: The text of the project's files, by name.
    :param needs: What the packages that run the tests require of Python, by package.
    :param here: The minor version that runs here.
    :raises ConfigurationError: one line: no Python would do.
    """
    said = _table(_toml(files.get("pyproject.toml", "")), "project").get("requires-python", "")
    wanted = {"requires-python": said if isinstance(said, str) else ""} | dict(needs)
    # A pin is what its author works with. An image with a newer one, and with PyTorch for that, is fit for it.
    pinned = re.match(r"\s*(?:cpython@?)?(\d+\.\d+)", files.get(".python-version", ""))
    if pinned:
        wanted[".python-version"] = f">={pinned[1]}"
    admitted = [f"3.{minor}" for minor in range(8, _NEWEST) if all(_admits(s, minor, w) for w, s in wanted.items())]
    if not admitted:
        why = ", ".join(f"{spec} ({what})" for what, spec in wanted.items() if spec)
        raise ConfigurationError(f"no Python is all that the tests need: {why}; change requires-python")
    preferred = ([pinned[1]] if pinned else []) + [f"{here[0]}.{here[1]}"]
    brought = next((each for each in preferred if each in admitted), admitted[0])
    oldest, newest = (int(each.partition(".")[2]) for each in (admitted[0], admitted[-1]))
    bounds = {
        next((what for what, spec in wanted.items() if not _admits(spec, minor, what)), "")
        for minor in (oldest - 1, newest + 1)
    }
    until = " or newer" if newest == _NEWEST - 1 else f" to {admitted[-1]}" if newest > oldest else ""
    return Pythons(tuple(admitted), f"Python {admitted[0]}{until} ({', '.join(sorted(filter(None, bounds)))})", brought)


def _admits(specifiers: str, minor: int, what: str) -> bool:
    try:
        known = SpecifierSet(specifiers)
    except InvalidSpecifier as error:
        raise ConfigurationError(f"{what}: {error}") from error
    return any(known.contains(f"3.{minor}.{micro}") for micro in (0, 99, *range(1, 30)))


def setup(environment: Environment, wanted: Pythons, base: str = "") -> str:
    """The setup command of a host. Its first line is what people are shown. Pure.

    :param base: On the local market: the Python that stands for the image's; see :func:`base_python`.
    """
    says = {
        "HOW": environment.how,
        "OPTIONS": " ".join(environment.options),
        "PYTHONS": " ".join(wanted.minors),
        "WANTS": wanted.wanted,
        "BRINGS": wanted.brought,
        "KEEPS": " ".join(KEEPS),
        "BASE": base,
    }
    lines = [f"# environment: {environment.shown}"]
    if environment.command:
        # Not as one quoted word: what looks for secrets among the words of a command shall find them.
        lines += [f"cat > command.sh <<'{_END}'", environment.command, _END]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in says.items()]
    return "\n".join([*lines, f"exec sh {FOLDER}/environment.sh"])


_END = "VASTGPU_END_OF_COMMAND"


def uses(names: Iterable[str], environment: Environment) -> tuple[str, ...]:
    """Patterns of the files that the environment depends on, among those that are brought. Pure.

    A file that the user's own command names is one of them.

    :param names: The project's files that are brought, by their path in it.
    """
    words = {word.removeprefix("./") for word in re.split(r"[\s'\"=;&|()]+", environment.command)}
    named = sorted(f"{project.FOLDER}/{name}" for name in names if name in words)
    builds = environment.how in {"command", "sync"} or "-e" in environment.options
    return (f"{FOLDER}/*", *(f"*/{each}" for each in (*USES, *(COMPILED if builds else ()))), *named)


def base_python() -> str:
    """The Python of this machine that the one that runs here was made with, where that is in a virtual environment."""
    return str(Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info)))


def fields(root: Path, names: Iterable[str], command: str, *, local: bool = False) -> dict[str, Any]:
    """The fields of a workload that make the environment of the tests there.

    :param root: pytest's root directory.
    :param names: The project's files that are brought, by their path in it.
    :param command: The user's own command; empty: what the project's files say.
    :param local: Whether hosts are this machine: then no virtual environment of it is theirs.
    :raises ConfigurationError: one line: the project's files do not say what to do, or what runs the tests is missing.
    """
    brought = list(names)
    known = texts(root, brought)
    runner = Runner.installed()
    wanted = pythons(known, runner.requires_python, sys.version_info[:2])
    made = decide(known, command)
    there = Path(__file__).parent / "there"
    scripts = {f"{FOLDER}/{name}": str(there / name) for name in SCRIPTS}
    return {
        "setup": setup(made, wanted, base_python() if local else ""),
        "setup_uses": uses(brought, made),
        "files": {**runner.files(), **scripts},
    }
