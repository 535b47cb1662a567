"""Checks of Python blocks: they compile, what they build can be built, and every name, fixture and keyword exists."""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import re
import symtable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

import pytest_vastgpu
from pytest_vastgpu.client.instance import InstanceFactory
from pytest_vastgpu.client.instance import VastInstance
from pytest_vastgpu.local import fixtures as local_fixtures
from pytest_vastgpu.local.embed import LocalMarket
from pytest_vastgpu.local.fixtures import StartMarket
from pytest_vastgpu.plugin import hooks
from pytest_vastgpu.plugin.measuring.benchmark import Benchmark
from pytest_vastgpu.plugin.measuring.compare import Compare
from tests.docs.pages import ROOT
from tests.docs.pages import Block

TYPES: Mapping[str, type[Any]] = {
    "vast_instance": VastInstance,
    "vast_module_instance": VastInstance,
    "vast_session_instance": VastInstance,
    "vast_instance_factory": InstanceFactory,
    "vast_compare": Compare,
    "vast_benchmark": Benchmark,
    "vast_local_market": StartMarket,
}
"""What our fixtures give."""
RESULTS: Mapping[str, type[Any]] = {
    "vast_instance_factory": VastInstance,
    "vast_local_market": LocalMarket,
    "vast_compare": pytest_vastgpu.Comparison,
    "vast_benchmark": pytest_vastgpu.Measurement,
    "measure": pytest_vastgpu.Measurement,
    "LocalMarket": LocalMarket,
}
"""What calling something with this name gives; a variable that it is assigned to is known to be one."""
FIXTURES = (
    {name for module in (hooks, local_fixtures) for name in vars(module) if name.startswith("vast_")}
    | {"request", "tmp_path", "tmp_path_factory", "monkeypatch", "capsys", "pytestconfig", "subtests", "benchmark"}
    | {"self", "cls"}
)
_SUFFIXES = (".gguf", ".json", ".py", ".txt", ".yaml", ".pbtxt", "Modelfile")


class Page:
    """The Python blocks of one page, in their order: a later one may use what an earlier one defines.

    :param directory: An empty directory, in which the blocks are run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "conftest_examples").symlink_to(ROOT / "conftest_examples")
        self._names: dict[str, Any] = {name: getattr(pytest_vastgpu, name) for name in pytest_vastgpu.__all__}
        self._names |= {"pytest": pytest, "httpx": httpx, "os": os, "Path": Path}
        self._names |= {"__name__": "page", "__file__": str(directory / "page.py")}
        self._names |= {name: _Caller(kind) for name, kind in TYPES.items()}
        self._fixtures = set(FIXTURES)

    def problems(self, block: Block, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, str]]:
        """What is wrong with the next block of the page, each with its line of the block, from 0."""
        try:
            tree = ast.parse(block.text)
        except SyntaxError as error:
            yield (error.lineno or 1) - 1, f"{error.msg}: {(error.text or '').strip()}"
            return
        self._prepare(block.text, monkeypatch)
        monkeypatch.chdir(self._directory)
        try:
            exec(compile(tree, block.place, "exec", dont_inherit=True), self._names)  # noqa: S102 - this is the test
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None and trace.tb_next.tb_frame.f_globals is self._names:
                trace = trace.tb_next
            inner = trace.tb_next if trace is not None else None
            yield (inner.tb_lineno if inner else 1) - 1, f"{type(error).__name__}: {error}"
            return
        self._fixtures |= set(_functions(tree))
        yield from self._unknown_names(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield from self._function(node)

    def _prepare(self, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the files and variables of the reader's that the code names."""
        for name in re.findall(r"os\.environ\[\"(\w+)\"\]", code):
            monkeypatch.setenv(name, "x" * 10)
        for path in re.findall(r"\"([\w./-]+)\"", code):
            file = self._directory / path
            if path.endswith(_SUFFIXES) and not path.startswith("/") and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"GGUF" if path.endswith(".gguf") else b"\n")
            elif path == "model_repository" and not file.exists():
                (file / "add" / "1").mkdir(parents=True)
                (file / "add" / "config.pbtxt").write_text('name: "add"\n')
                (file / "add" / "1" / "model.py").touch()

    def _unknown_names(self, code: str) -> Iterator[tuple[int, str]]:
        pending = [symtable.symtable(code, "block", "exec")]
        while pending:
            table = pending.pop()
            pending += table.get_children()
            for symbol in table.get_symbols():
                name = symbol.get_name()
                if symbol.is_global() and name not in self._names and not hasattr(builtins, name):
                    line = next((n for n, text in enumerate(code.split("\n")) if re.search(rf"\b{name}\b", text)), 0)
                    yield line, f"{name!r} is defined neither here nor in an earlier block, and is no name of ours"

    def _function(self, function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
        arguments = [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]
        types = {name: TYPES[name] for name in arguments if name in TYPES}
        if _asks_for_fixtures(function):
            given = {name for mark in function.decorator_list for name in _parametrized(mark)}
            for name in arguments:
                if name not in self._fixtures | given:
                    yield function.lineno - 1, f"{function.name} asks for {name!r}, which is no fixture"
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                types |= dict(_assigned(node.targets[0], node.value))
            elif isinstance(node, ast.With):
                for item in node.items:
                    if item.optional_vars is not None and isinstance(item.context_expr, ast.Call):
                        types |= dict(_assigned(item.optional_vars, item.context_expr))
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                kind = types.get(node.value.id)
                if kind is not None and not _has(kind, node.attr):
                    yield node.lineno - 1, f"{kind.__name__} has no {node.attr!r}"
            if isinstance(node, ast.Call):
                yield from self._call(node, types)

    def _call(self, call: ast.Call, types: Mapping[str, type[Any]]) -> Iterator[tuple[int, str]]:
        target: object = None
        if isinstance(call.func, ast.Name):
            kind = types.get(call.func.id)
            target = kind.__call__ if kind else self._names.get(call.func.id)
        elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            target = getattr(types.get(call.func.value.id), call.func.attr, None)
        if not callable(target) or not getattr(target, "__module__", "").startswith("pytest_vastgpu"):
            return
        try:
            parameters = inspect.signature(target).parameters
        except ValueError:
            return
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return
        for keyword in call.keywords:
            if keyword.arg is not None and keyword.arg not in parameters:
                yield call.lineno - 1, f"{ast.unparse(call.func)}() takes no {keyword.arg!r}"


class _Caller:
    """Stands for a fixture at the top of a block, where a page shows how it is called."""

    def __init__(self, kind: type[Any]) -> None:
        self._signature = inspect.signature(kind.__call__)

    def __call__(self, *args: object, **keywords: object) -> None:
        self._signature.bind(self, *args, **keywords)


def _functions(tree: ast.Module) -> Iterator[str]:
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _asks_for_fixtures(function: ast.FunctionDef) -> bool:
    decorators = [ast.unparse(each) for each in function.decorator_list]
    return function.name.startswith("test_") or any(each.startswith("pytest.fixture") for each in decorators)


def _parametrized(mark: ast.expr) -> list[str]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("parametrize") and mark.args:
        names = ast.literal_eval(mark.args[0])
        return [each.strip() for each in names.split(",")] if isinstance(names, str) else list(names)
    return []


def _assigned(target: ast.expr, call: ast.Call) -> Iterator[tuple[str, type[Any]]]:
    called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if called in RESULTS:
        names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        yield from ((each.id, RESULTS[called]) for each in names if isinstance(each, ast.Name))


def _has(kind: type[Any], name: str) -> bool:
    if hasattr(kind, name) or any(name in getattr(each, "__annotations__", {}) for each in kind.__mro__):
        return True
    return any(f"self.{name}" in inspect.getsource(each) for each in kind.__mro__ if each is not object)
