"""Implements ``vastgpu --version``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


class Version(argparse.Action):
    """Prints the versions that a report of a defect should tell, in one line, and ends the process."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002 -- argparse's name
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Print and end."""
        from importlib import metadata

        from pytest_vastgpu.core.version import version

        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(f"vastgpu {version()} (Python {python}, pytest {metadata.version('pytest')})\n")
        parser.exit()
