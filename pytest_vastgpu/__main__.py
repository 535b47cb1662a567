"""``python -m pytest_vastgpu`` is the command ``vastgpu``."""

from __future__ import annotations

import sys

from pytest_vastgpu.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
