"""Checks of command lines: our commands and options exist, and so do the files that are named."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import pytest

from pytest_vastgpu.cli.main import parser
from pytest_vastgpu.core import environment
from pytest_vastgpu.plugin.options import with_values
from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from tests.docs.pages import ROOT

_PROGRAMS = """
apt-get cat cd curl echo eval exit export git grep head jq kill ls mkdir mv nvidia-smi python3 rm scp set source ssh
sudo tail tar test touch true twine unset uv uvx vastai
"""
PROGRAMS = frozenset(_PROGRAMS.split())
"""Programs of others. Add one here that a page needs."""
READERS_OWN = frozenset({"gpu_tests", "serving_tests"})
"""Directories of the reader's project that pages may name without telling what is in them."""
OTHERS = {"-n": 1, "--dist": 1, "--html": 1, "--self-contained-html": 0, "--reruns": 1, "--timeout": 1, "--cov": 1}
"""Options of other plugins, with the number of their values."""
SETTINGS = {option.variable: option for option in (*OPTIONS, *HOST_OPTIONS)}
VARIABLES = {
    *SETTINGS,
    environment.API_KEY,
    environment.IMAGE_LOGIN,
    environment.URL,
    environment.SSH_KEY_PATH,
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
_SEPARATORS = frozenset({"&&", "||", "|", ";", "&", "(", ")"})
_MODULES = frozenset({"venv", "build", "json.tool", "pip", "pydoc", "http.server"})

Arguments = Sequence[str]


def commands_of(text: str) -> Iterator[tuple[int, str]]:
    """The command lines of a block, each with its offset in lines.

    Where one begins with ``$``, the lines without it are what was printed.
    """
    lines = text.rstrip("\n").split("\n")
    prompted = any(line.startswith("$ ") for line in lines)
    whole = ""
    start = 0
    for offset, line in enumerate(lines):
        if prompted and not whole and not line.startswith("$ "):
            continue
        start = start if whole else offset
        whole += line.removeprefix("$ ") if prompted and not whole else line
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        if whole.strip():
            yield start, whole
        whole = ""


class CommandLines:
    """Checks of command lines.

    :param pytest_options: Parses arguments of pytest; gives the values by destination, and what it does not know.
    :param files: The files and directories of the reader's that a page introduces.
    """

    def __init__(self, pytest_options: Callable[[list[str]], tuple[dict[str, object], list[str]]], files: set[str]):
        self._pytest_options = pytest_options
        self._files = files | READERS_OWN

    def problems(self, line: str) -> Iterator[str]:
        """What is wrong with a command line."""
        for inner in _SUBSTITUTION.findall(line):
            yield from self.problems(inner)
        lexer = shlex.shlex(_SUBSTITUTION.sub("SUBSTITUTED", line), posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError as error:
            yield f"no shell reads {line!r}: {error}"
            return
        command: list[str] = []
        for word in [*words, ";"]:
            if word in _SEPARATORS:
                if command:
                    yield from self._command(command)
                command = []
            else:
                command.append(word)

    def _command(self, words: list[str]) -> Iterator[str]:
        words = _without_redirections(words)
        while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
            yield from variable_problems(assignment[1], assignment[2])
            words = words[1:]
        if not words:
            return
        name, arguments = words[0].rpartition("/")[2], words[1:]
        if name in {"if", "then", "else", "fi", "do", "done", "!", "sudo", "exec"}:
            yield from self._command(arguments)
        elif name == "export":
            for word in arguments:
                if assignment := _ASSIGNMENT.fullmatch(word):
                    yield from variable_problems(assignment[1], assignment[2])
        elif name == "vastgpu":
            yield from _vastgpu(arguments)
        elif name in {"pytest", "py.test"}:
            yield from self._pytest(arguments)
        elif name in {"python", "python3"} and arguments[:1] == ["-m"]:
            yield from self._module(arguments[1:])
        elif name in {"pip", "pip3"}:
            yield from _pip(arguments)
        elif name == "cp":
            self._files |= {word.rstrip("/").rpartition("/")[2] for word in arguments[:-1]}
        elif words[0].startswith((".ci/", "./.ci/")):
            yield from self._exists(words[0])
        elif name not in PROGRAMS | {"python"} and words[0] not in self._files:
            yield f"{words[0]!r} is no program that a page may name; where it is right, add it to {__name__}._PROGRAMS"

    def _module(self, words: Arguments) -> Iterator[str]:
        module, arguments = words[0], words[1:]
        if module == "pytest":
            yield from self._pytest(arguments)
        elif module == "pytest_vastgpu":
            yield from _vastgpu(arguments)
        elif module == "pip":
            yield from _pip(arguments)
        elif module == "pydoc" and importlib.util.find_spec(arguments[0]) is None:
            yield f"there is no module {arguments[0]}"
        elif module not in _MODULES and importlib.util.find_spec(module) is None:
            yield f"there is no module {module}; where it is another project's, add it to {__name__}._MODULES"

    def _pytest(self, arguments: Arguments) -> Iterator[str]:
        ours = list(_without_others(arguments))
        values, unknown = self._pytest_options(with_values(ours))
        for word in unknown:
            yield f"pytest has no option {word!r}; one of another plugin is added to {__name__}.OTHERS"
        for option in (*OPTIONS, *HOST_OPTIONS):
            given = values.get(option.ini)
            for text in given if isinstance(given, list) else [given] if isinstance(given, str) else []:
                yield from _value(option.flag, option.parse, text)
        paths = values.get("file_or_dir")
        for path in paths if isinstance(paths, list) else []:
            yield from self._exists(str(path).partition("::")[0])

    def _exists(self, path: str) -> Iterator[str]:
        if path.rstrip("/") in self._files or path.startswith(("/tmp/", "/dev/")) or (ROOT / path).exists():
            return
        yield (
            f"{path!r} is neither in this repository nor a file that the page gives before: "
            "name it in backticks in the paragraph above the block that is its content"
        )


def _without_redirections(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif set(word) <= set("<>&") and word:
            skip = True
            if kept and kept[-1].isdigit():
                kept.pop()
        else:
            kept.append(word)
    return kept


def _without_others(arguments: Arguments) -> Iterator[str]:
    words = iter(arguments)
    for word in words:
        name, _, value = word.partition("=")
        if name in OTHERS:
            if not value:
                for _ in range(OTHERS[name]):
                    next(words, None)
        elif not re.fullmatch(r"-n\d+", word):
            yield word


def _vastgpu(arguments: Arguments) -> Iterator[str]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser().parse_args(list(arguments))
    except SystemExit as end:
        if end.code:
            yield f"`vastgpu {shlex.join(arguments)}`: {said.getvalue().strip().splitlines()[-1]}"


def _pip(arguments: Arguments) -> Iterator[str]:
    for word in arguments:
        if found := re.search(r"(?:pytest-vastgpu|^\.|\.whl|SUBSTITUTED)\[([\w,]+)\]", word):
            for extra in found[1].split(","):
                if extra not in EXTRAS:
                    yield f"{word!r}: there is no extra {extra!r}; there are {', '.join(EXTRAS)}"


def variable_problems(name: str, value: str) -> Iterator[str]:
    """What is wrong with a variable of the environment that is set, if it is one of ours."""
    if not name.startswith("VAST_"):
        return
    if name not in VARIABLES:
        yield f"nothing reads {name}"
    elif name in SETTINGS:
        yield from _value(name, SETTINGS[name].parse, value)


def _value(name: str, parse: Callable[[str], object], text: str) -> Iterator[str]:
    try:
        parse(text)
    except ValueError as error:
        yield f"{name} does not take {text!r}: {error}"


def options_of(config: pytest.Config) -> Callable[[list[str]], tuple[dict[str, object], list[str]]]:
    """A parser of pytest's command line, with the plugins of this run."""

    def parse(arguments: list[str]) -> tuple[dict[str, object], list[str]]:
        known, unknown = config._parser.parse_known_and_unknown_args(arguments)
        return vars(known), unknown

    return parse
