"""The environment of the tests on a host, as the script makes it: run by the shells that images have."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.plugin.on_host import environment
from pytest_vastgpu.supervisor.rental.bringup.set_up import decisive
from tests.support.on_host import Desk
from tests.support.on_host import uv
from tests.support.on_host import wheel
from tests.support.quick import only

SHELLS = [name for name in ("dash", "busybox", "bash") if shutil.which(name)]
NO_PIP = "raise SystemExit(1)"
"""The module pip where there is none."""
PIP = """\
import pathlib, sys
if "--target" in sys.argv:
    uv = pathlib.Path(sys.argv[sys.argv.index("--target") + 1], "bin", "uv")
    uv.parent.mkdir(parents=True)
    uv.write_text('#!/bin/sh\\necho "ran $*"\\n')
    uv.chmod(0o755)
"""
"""The module pip, which installs a uv that only says that it was run."""
INSTALLER = """\
mkdir -p "$UV_UNMANAGED_INSTALL"
echo 'echo "ran $*"' > "$UV_UNMANAGED_INSTALL/uv"
chmod 755 "$UV_UNMANAGED_INSTALL/uv"
"""
INSTALLS = """\
echo > only_here
echo "VERSION = '3'" > "$(python -c 'import site; print(site.getsitepackages()[0])')/installed.py"
"""
"""What a user's command may be: it installs a module with the Python that it finds."""
DOWNLOAD = """\
for each in "$@"; do
    case $each in */install.sh) cat > "$each" <<'EOF'
{INSTALLER}EOF
    break ;; esac
done
"""
"""A program that fetches such an installer of uv."""
PROJECT = '[project]\nname = "it"\nversion = "1"\ndependencies = ["torch==2.8.0", "helper"]\n'
LOCK = """\
version = 1
requires-python = ">=3.10"

[[package]]
name = "cuda-helper"
version = "1"
source = { registry = "WHEELS" }
wheels = [{ path = "cuda_helper-1-py3-none-any.whl" }]

[[package]]
name = "helper"
version = "1"
source = { registry = "WHEELS" }
dependencies = [
    { name = "cuda-helper" },
    { name = "torch" },
]
wheels = [{ path = "helper-1-py3-none-any.whl" }]

[[package]]
name = "it"
version = "1"
source = { virtual = "." }
dependencies = [
    { name = "helper" },
    { name = "torch" },
]

[package.metadata]
requires-dist = [
    { name = "helper" },
    { name = "torch", specifier = "==2.8.0" },
]

[[package]]
name = "nvidia-runtime"
version = "12"
source = { registry = "WHEELS" }
wheels = [{ path = "nvidia_runtime-12-py3-none-any.whl" }]

[[package]]
name = "torch"
version = "2.8.0"
source = { registry = "WHEELS" }
dependencies = [
    { name = "nvidia-runtime" },
]
wheels = [{ path = "torch-2.8.0-py3-none-any.whl" }]
"""


@pytest.fixture(params=only(SHELLS[:1], SHELLS))
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk(tmp_path, request.param)


@pytest.fixture
def one(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "torch", "2.8.0", "nvidia-runtime")
    wheel(folder, "torch", "2.9.1")
    wheel(folder, "nvidia-runtime", "12")
    wheel(folder, "cuda-helper", "1")
    wheel(folder, "helper", "1", "torch", "cuda-helper")
    wheel(folder, "pytest", "7.0.0")
    wheel(folder, "pytest-it", "3", plugin="it")
    return folder


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> str:
    """The Python of an image, an environment with PyTorch, as Vast.ai's own images have it."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([uv(), "venv", "-q", "--python", sys.executable, folder / "main"], check=True)
    python = folder / "main" / "bin" / "python"
    arguments = ["--no-config", "--offline", "--no-index", "--find-links", str(wheels), "--python", str(python)]
    subprocess.run([uv(), "pip", "install", "-q", *arguments, "torch==2.9.1"], check=True)
    return str(python)


def about(desk: Desk) -> dict[str, object]:
    found = json.loads((desk.work / "about.json").read_text())
    assert isinstance(found, dict)
    return found


def imported(desk: Desk, *names: str) -> list[str]:
    """The versions of modules in the environment there."""
    script = "import sys, importlib\nfor name in sys.argv[1:]: print(importlib.import_module(name).VERSION)"
    ran = subprocess.run([str(about(desk)["python"]), "-c", script, *names], capture_output=True, text=True, check=True)
    return ran.stdout.split()


def lacks(desk: Desk, name: str) -> bool:
    return not list((desk.work / "env").glob(f"lib/python*/site-packages/{name}*"))


def test_without_anything_it_is_the_images_python_as_it_is(desk: Desk) -> None:
    desk.python()
    ran = desk.set_up()
    assert ran.returncode == 0, ran.stdout
    found = about(desk)
    assert found["python"] == sys.executable
    assert found["work"] == str(desk.work)
    assert found["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["implementation"] == "CPython"
    assert not (desk.work / "env").exists()


def test_what_the_users_command_installs_is_what_the_tests_see(desk: Desk) -> None:
    desk.python()
    (desk.project / "install.sh").write_text(INSTALLS)
    ran = desk.set_up("sh install.sh && command -v pip")
    assert ran.returncode == 0, ran.stdout
    env = desk.work / "env"
    assert ran.stdout.splitlines()[0] == str(env / "bin" / "pip")
    assert (desk.work / "project" / "only_here").exists()
    assert about(desk)["python"] == str(env / "bin" / "python")
    assert imported(desk, "installed") == ["3"]


def test_the_end_of_the_users_command_is_the_end(desk: Desk) -> None:
    desk.python()
    ran = desk.set_up("echo one; exit 7")
    assert (ran.returncode, ran.stdout) == (7, "one\n")
    assert not (desk.work / "about.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["", "3.6"], ids=["none", "too old"])
def test_an_image_without_a_fitting_python_gets_one_from_uv(desk: Desk, other: str) -> None:
    if other:
        desk.program("python3", f'case "$2" in *version_info*) echo "{other} /usr/bin/python3" ;; *) exit 1 ;; esac')
    wanted = ".".join(map(str, sys.version_info[:2]))
    # It makes the environment that it is asked for, of what runs this test.
    does = f'[ "$1" != venv ] || {{ echo "uv $*"; "{sys.executable}" -m venv --without-pip "$5"; }}'
    desk.program("uv", does)
    ran = desk.set_up()
    assert ran.returncode == 0, ran.stdout
    first, second, *_ = ran.stdout.splitlines()
    if other:
        assert first.startswith("the image has Python 3.6, and the tests need Python 3.11 or newer (pytest-vastgpu")
        assert f"uv brings Python {wanted}" in first
    else:
        assert first == f"the image has no Python: uv brings Python {wanted}"
    assert second == f"uv venv -q --python {wanted} {desk.work / 'env'}"
    assert about(desk)["python"] == str(desk.work / "env" / "bin" / "python")


def test_a_fitting_python_is_found_by_its_version(desk: Desk) -> None:
    desk.program("python3", 'echo "3.6 /usr/bin/python3"')
    desk.python(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    ran = desk.set_up()
    assert ran.returncode == 0, ran.stdout
    assert about(desk)["python"] == sys.executable


def test_an_image_that_has_nothing_to_get_uv_with_is_one_line(desk: Desk) -> None:
    ran = desk.set_up()
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith(
        "error: uv is missing, and the image has neither pip nor curl nor wget to install it: name an image"
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", ["pip", *only(["curl"], ["curl", "wget"])])
def test_uv_comes_with_what_the_image_has(desk: Desk, program: str) -> None:
    (desk.project / "requirements.txt").write_text("")
    desk.python()
    (desk.bin / "pip.py").write_text(PIP if program == "pip" else NO_PIP)
    desk.env["PYTHONPATH"] = str(desk.bin)
    for name in {"curl", "wget"} & {program, "curl" if program == "pip" else ""}:
        desk.program(name, DOWNLOAD.replace("{INSTALLER}", INSTALLER))
    ran = desk.set_up()
    assert ran.returncode == 0, ran.stdout
    how = "pip installs it" if program == "pip" else f"its installer is fetched with {program}"
    install = f"ran pip install --python {desk.work / 'env'}/bin/python -r requirements.txt"
    assert ran.stdout.splitlines()[:2] == [f"uv is missing: {how}", install]


@pytest.mark.slow
def test_the_users_command_gets_uv_when_it_calls_it(desk: Desk) -> None:
    desk.python()
    (desk.bin / "pip.py").write_text(PIP)
    desk.env["PYTHONPATH"] = str(desk.bin)
    ran = desk.set_up("command -v uv > /dev/null && echo one")
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (0, "one")  # uv is not got for that
    ran = desk.set_up("echo $(uv pip install it 2> /dev/null) && (cd / && uv sync)")
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[:2] == ["ran pip install it", "ran sync"]
    assert "/tools/later" not in str(about(desk)["path"])


def test_tests_find_the_programs_of_their_environment(desk: Desk) -> None:
    desk.python()
    ran = desk.set_up("true")
    assert ran.returncode == 0, ran.stdout
    assert str(about(desk)["path"]).split(":") == [
        *(str(desk.work / "env" / "bin"), str(desk.work / "tools" / "bin")),
        str(desk.bin),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", "true"])
def test_no_environment_of_this_machine_is_the_images_on_the_local_market(desk: Desk, command: str) -> None:
    home = desk.work.parents[1] / "home venv"
    (home / "bin").mkdir(parents=True)
    (home / "pyvenv.cfg").touch()
    for name in ("python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"):
        (home / "bin" / name).symlink_to(sys.executable)
    desk.env["PATH"] = f"{home}/bin:{desk.bin}"
    ran = desk.set_up(command, local=True)
    assert ran.returncode == 0, ran.stdout
    found = about(desk)
    assert found["python"] == (str(desk.work / "env" / "bin" / "python") if command else environment.base_python())
    assert str(home) not in str(found["path"])
    assert str(desk.bin) in str(found["path"])
    packages = [str(found["python"]), "-c", "import sys; print(sys.path)"]
    seen = subprocess.run(packages, env=desk.env, stdout=subprocess.PIPE, text=True, check=True)
    assert sys.prefix == sys.base_prefix or sys.prefix not in seen.stdout


@pytest.fixture
def real(one: Desk, wheels: Path, image: str) -> Desk:
    """A host with uv, PyTorch's image and the test's wheels as its only index."""
    one.program("uv", f'exec "{uv()}" "$@"')
    one.python(executable=image)
    one.env |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels)}
    return one


def test_the_images_pytorch_stays_beside_a_lock(real: Desk, wheels: Path) -> None:
    (real.project / "pyproject.toml").write_text(PROJECT)
    (real.project / "uv.lock").write_text(LOCK.replace("WHEELS", str(wheels)))
    ran = real.set_up()
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[0] == "the image's torch 2.9.1 stays; uv.lock says torch 2.8.0"
    assert imported(real, "torch", "helper", "cuda_helper") == ["2.9.1", "1", "1"]
    assert lacks(real, "torch")
    assert lacks(real, "nvidia_runtime")  # only PyTorch needs it, and the image's does not


@pytest.mark.slow
def test_without_pytorch_in_the_image_the_lock_is_followed(real: Desk, wheels: Path) -> None:
    real.python()
    (real.project / "pyproject.toml").write_text(PROJECT)
    (real.project / "uv.lock").write_text(LOCK.replace("WHEELS", str(wheels)))
    ran = real.set_up()
    assert ran.returncode == 0, ran.stdout
    assert imported(real, "torch", "nvidia_runtime", "helper") == ["2.8.0", "12", "1"]
    assert "stays" not in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", only(["pyproject.toml"], ["pyproject.toml", "requirements.txt"]))
def test_the_images_pytorch_stays_beside_requirements(real: Desk, name: str) -> None:
    (real.project / name).write_text(PROJECT if name == "pyproject.toml" else "torch==2.8.0\nhelper\n")
    ran = real.set_up()
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[0] == "the image's torch 2.9.1 stays"
    assert imported(real, "torch", "helper", "cuda_helper") == ["2.9.1", "1", "1"]


@pytest.mark.slow
def test_the_users_own_command_may_replace_pytorch(real: Desk) -> None:
    (real.project / "pyproject.toml").write_text(PROJECT)
    ran = real.set_up("uv pip install -r pyproject.toml")
    assert ran.returncode == 0, ran.stdout
    assert imported(real, "torch") == ["2.8.0"]


@pytest.mark.slow
def test_what_is_not_asked_for_any_more_is_gone(real: Desk) -> None:
    (real.project / "requirements.txt").write_text("helper\n")
    assert real.set_up().returncode == 0
    (real.project / "requirements.txt").write_text("cuda-helper\n")
    assert real.set_up().returncode == 0
    assert imported(real, "cuda_helper") == ["1"]
    assert lacks(real, "helper")


def test_a_package_that_is_not_there_is_said_by_uv(real: Desk) -> None:
    (real.project / "requirements.txt").write_text("no-such-package\n")
    ran = real.set_up()
    assert ran.returncode == 1
    line = decisive(ran.stdout.splitlines())
    assert "No solution found" in line
    assert "no-such-package was not found" in line


@pytest.mark.slow
def test_another_pytest_there_loads_nothing_and_plugins_are_listed(real: Desk) -> None:
    (real.project / "requirements.txt").write_text("pytest==7.0.0\npytest-it\n")
    ran = real.set_up()
    assert ran.returncode == 0, ran.stdout
    plugins = about(real)["plugins"]
    assert isinstance(plugins, dict)
    assert plugins["it"] == ["pytest-it", "3"]
    assert {"xdist", "vastgpu"} <= plugins.keys()


@pytest.mark.slow
def test_a_runner_that_cannot_be_loaded_is_one_line(one: Desk) -> None:
    one.python()
    assert one.set_up().returncode == 0
    (one.work / "runner" / "pluggy").unlink()
    (one.work / "runner" / "pluggy.py").write_text("raise OSError('broken')\n")
    ran = one.run()
    assert (ran.returncode, ran.stdout) == (1, "error: pytest cannot be loaded there: OSError: broken\n")


@pytest.mark.slow
def test_uv_and_packages_come_from_the_real_index(one: Desk) -> None:
    """Needs the network."""
    one.python()
    del one.env["UV_OFFLINE"]
    one.env |= {name: os.environ[name] for name in ("SSL_CERT_FILE", "PIP_CERT") if name in os.environ}
    one.env.setdefault("UV_SYSTEM_CERTS", "1")
    (one.project / "requirements.txt").write_text("tinyhtml==1.3.0\n")
    ran = one.set_up()
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[0] == "uv is missing: pip installs it"
    assert " + tinyhtml==1.3.0" in ran.stdout


@pytest.mark.slow
def test_uv_brings_the_python_that_it_has_brought_before(one: Desk, tmp_path: Path) -> None:
    """What it would download else lies where it would put it."""
    version = ".".join(map(str, sys.version_info[:3]))
    place = tmp_path / "pythons" / f"cpython-{version}-{sys.platform}-{platform.machine()}-gnu"
    shutil.copytree(
        sys.base_prefix, place, symlinks=True, copy_function=os.symlink, ignore=shutil.ignore_patterns("test")
    )
    one.program("uv", f'exec "{uv()}" "$@"')
    one.env["UV_PYTHON_INSTALL_DIR"] = str(place.parent)
    ran = one.set_up()
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[0].startswith("the image has no Python: uv brings Python ")
    assert about(one)["version"] == version
    assert about(one)["python"] == str(one.work / "env" / "bin" / "python")
