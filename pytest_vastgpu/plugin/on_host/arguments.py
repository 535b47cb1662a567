"""pytest's arguments, as a worker on a host gets them: paths of this machine are replaced by those of the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pathlib import PurePosixPath


def on_host(arguments: Sequence[str], root: Path, there: PurePosixPath) -> list[str]:
    """The arguments for a worker.

    :param arguments: Those that pytest was called with here.
    :param root: The project's root directory here.
    :param there: The same directory on the host.
    """
    return [_mapped(each, root, there) for each in arguments]


def _mapped(argument: str, root: Path, there: PurePosixPath) -> str:
    option, equals, path = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    if path == str(root) or path.startswith(f"{root}/"):
        return f"{option}{equals}{there}{path[len(str(root)) :]}"
    return argument
