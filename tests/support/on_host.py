"""A host's working directory in a directory of the test, and wheels that need no index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from pytest_vastgpu.plugin.on_host import environment

TOOLS = ("cat", "chmod", "dirname", "env", "mkdir", "mv", "rm", "uname")
"""What every image has."""


class Desk:
    """A host before its environment is made, and a project at home."""

    def __init__(self, path: Path, shell: str = "sh") -> None:
        self.work = path / "host" / "work"
        self.project = path / "home" / "project"
        self.bin = path / "bin"
        for folder in (self.work, self.project, self.bin):
            folder.mkdir(parents=True)
        for name, program in {**{tool: tool for tool in TOOLS}, "sh": shell}.items():
            found = shutil.which(program)
            assert found is not None
            (self.bin / name).symlink_to(found)
        self.env = {"HOME": str(path / "host"), "PATH": str(self.bin), "UV_NO_CONFIG": "1", "UV_OFFLINE": "1"}
        self.env["UV_PYTHON_DOWNLOADS"] = "never"

    def program(self, name: str, text: str) -> Path:
        """Put a program on the image's path."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str = "python3", executable: str = sys.executable) -> None:
        """Put a Python on the image's path."""
        self.program(name, f'exec "{executable}" "$@"')

    def set_up(self, command: str = "", *, local: bool = False) -> subprocess.CompletedProcess[str]:
        """Bring the project and what a host needs, and run the setup command as a host does."""
        names = [str(path.relative_to(self.project)) for path in self.project.rglob("*") if path.is_file()]
        fields = environment.fields(self.project, names, command, local=local)
        shutil.copytree(self.project, self.work / "project", dirs_exist_ok=True)
        for name, path in fields["files"].items():
            place = self.work / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(path)
        (self.work.parent / "setup.sh").write_text(fields["setup"] + "\n")
        return self.run()

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the setup command that is there."""
        return subprocess.run(
            [self.bin / "sh", self.work.parent / "setup.sh"],
            cwd=self.work,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def wheel(folder: Path, name: str, version: str, *needs: str, plugin: str = "") -> None:
    """Write a wheel with a module of its name, which knows its version.

    :param needs: Its requirements.
    :param plugin: The name under which pytest knows it.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    about = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    texts = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join([*about, *(f"Requires-Dist: {need}" for need in needs), ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[pytest11]\n{plugin} = {module}\n" if plugin else "",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as file:
        for path, text in texts.items():
            file.writestr(path, text)


def uv() -> str:
    """The real uv of this environment."""
    found = Path(sys.executable).parent / "uv"
    return str(found) if found.exists() else shutil.which("uv") or os.fspath(found)
