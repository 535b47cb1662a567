"""What an adapter from outside needs is public. CI also installs one as a wheel: ``.ci/third-party.sh``."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import pytest_vastgpu
from pytest_vastgpu.servers import registry
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.workloads import UnknownKeyword

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "third_party_adapter"
OUTSIDE = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "conftest_examples" / "custom_adapter").glob("*.py")])


@pytest.mark.parametrize("module", OUTSIDE, ids=lambda path: path.name)
def test_only_public_names_are_used_from_outside(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("pytest_vastgpu.")]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pytest_vastgpu":
            assert node.module == "pytest_vastgpu"
            assert {alias.name for alias in node.names} <= set(pytest_vastgpu.__all__)


def test_the_packages_entry_point_is_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    group = declared[registry.ENTRY_POINT_GROUP]
    monkeypatch.syspath_prepend(PACKAGE)
    points = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in group.items()]
    found = {adapter.name: adapter for adapter, _ in registry.adapters(points)}
    assert isinstance(found["search"], HttpServer)


def test_a_field_that_there_is_not_is_refused_by_build() -> None:
    with pytest.raises(
        UnknownKeyword, match=r"^mine\(\) got an unexpected keyword argument 'dsk_gb'; it has disk_gb, "
    ):
        build("mine", dsk_gb=9)
