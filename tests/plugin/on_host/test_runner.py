"""What runs the tests on a host: found here however it is installed, and complete there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.plugin.on_host import runner
from pytest_vastgpu.plugin.on_host.runner import Runner

TEST = "def test_it(pytestconfig):\n    assert pytestconfig.pluginmanager.has_plugin('xdist')\n"
MOST_BYTES = 9_000_000
"""More than this is seconds of a slow uplink, for each host."""
LOADS = """
import sys
sys.path.insert(0, sys.argv[1])
import pytest, xdist.remote, execnet
import pytest_vastgpu
from importlib.metadata import entry_points
for name in pytest_vastgpu.__all__:
    getattr(pytest_vastgpu, name)
assert {"vastgpu", "xdist"} <= {point.name for point in entry_points(group="pytest11")}
for each in {"httpx", "paramiko", "cryptography", "yaml", "filelock", "platformdirs"} & sys.modules.keys():
    sys.exit(f"it loads {each}")
sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", sys.argv[2]]))
"""


def lay(folder: Path, files: dict[str, str]) -> Path:
    """Lay out a runner as on a host."""
    for name, path in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            shutil.copytree(path, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, place)
    return folder / runner.FOLDER


@pytest.mark.slow
def test_it_is_complete_without_what_this_package_needs_here_and_small(tmp_path: Path) -> None:
    there = lay(tmp_path, Runner.installed().files())
    assert sum(path.stat().st_size for path in there.rglob("*") if path.is_file()) < MOST_BYTES
    assert not (there / "pytest_vastgpu" / "supervisor").exists()
    (tmp_path / "test_it.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.pluginmanager.has_plugin('xdist')\n"
    )
    arguments = [sys.executable, "-I", "-S", "-c", LOADS, str(there), str(tmp_path / "test_it.py")]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert "1 passed" in ran.stdout


class Known(Distribution):
    """A distribution as a test describes it."""

    def __init__(self, site: Path, name: str, version: str, metadata: str = "") -> None:
        self._site = site
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return self._site / str(path)


@pytest.mark.parametrize(
    "name", ["pytest_xdist-3.8.0.dist-info", "pytest_xdist-3.8.0.egg-info", "pytest_xdist-3.8.0-py3.11.egg-info"]
)
def test_what_describes_it_is_found_without_a_list_of_its_files(tmp_path: Path, name: str) -> None:
    """A distributor's packages have none, and an editable one lists none of its modules."""
    for each in (name, "pytest_xdist-3.7.0.dist-info", "pytest-3.8.0.dist-info"):
        (tmp_path / each).mkdir()
    assert runner._about(Known(tmp_path, "pytest-xdist", "3.8.0")) == tmp_path / name


def test_what_is_not_described_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^pytest-xdist runs the tests on hosts, and .* install it with pip$"):
        runner._about(Known(tmp_path, "pytest-xdist", "3.8.0"))


def test_a_module_is_found_where_python_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own_package", "own_module", "own_archive"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_module.py").touch()
    assert runner._module("own_package") == tmp_path / "own_package"
    assert runner._module("own_module") == tmp_path / "own_module.py"
    (tmp_path / "archived").mkdir()
    (tmp_path / "archived" / "own_archive.py").touch()
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "archived")
    monkeypatch.syspath_prepend(archive)
    for name in ("own_archive", "no_such_module"):
        with pytest.raises(ConfigurationError, match=rf"^the module {name}, .* does not lie here as files "):
            runner._module(name)


def test_what_it_requires_of_python_is_known(tmp_path: Path) -> None:
    known = [
        Known(tmp_path, name, "9", more) for name, more in (("pytest", "Requires-Python: >=3.10\n"), ("pluggy", ""))
    ]
    own = Known(tmp_path, "pytest-vastgpu", "1", "Requires-Python: >=3.11\n")
    assert Runner(tuple(known), own).requires_python == {"pytest-vastgpu 1": ">=3.11", "pytest 9": ">=3.10"}


def test_what_this_package_needs_here_is_known() -> None:
    found = runner.needs_of("pytest-vastgpu")
    assert {"httpx", "platformdirs", "anyio"} <= found  # anyio: of httpx
    assert not {"mypy", "starlette"} & found  # of extras
