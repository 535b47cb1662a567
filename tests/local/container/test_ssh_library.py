from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes.util
asked = []
mine = ctypes.util.find_library = lambda name: asked.append(name)
from pytest_vastgpu.local.container.ssh_library import asyncssh
assert asyncssh.connect and ctypes.util.find_library is mine
print(*asked)
"""


def test_nothing_is_compiled_to_find_liboqs() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert "oqs" not in done.stdout
