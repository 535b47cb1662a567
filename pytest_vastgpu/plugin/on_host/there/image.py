"""Lets the environment have what the image's Python has, and says what of it must not be installed again.

Run by the image's Python: ``image.py WORK HOW PATTERN…``, with the host's working directory, what will be done, and
patterns of names of packages that stay as the image has them.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from importlib.metadata import distributions
from pathlib import Path


def main(work: Path, how: str, patterns: list[str]) -> None:
    """Write ``kept.args`` (for ``uv sync``) and ``kept.txt`` (overrides for ``uv pip install``)."""
    adopt(work / "env")
    installed = {canonical(name): found.version for found in distributions() if (name := found.metadata["Name"])}
    kept = {name: installed[name] for name in sorted(installed) if any(fnmatch.fnmatch(name, p) for p in patterns)}
    locked: dict[str, str] = {}
    leave = set(kept)
    if how == "sync":
        lock = (work / "project" / "uv.lock").read_text("utf-8")
        locked = versions(lock)
        leave = needless(lock, leave)
    (work / "kept.args").write_text("".join(f"--no-install-package {name}\n" for name in sorted(leave)))
    # An override whose marker never holds takes a requirement away, at any depth.
    (work / "kept.txt").write_text("".join(f"{name} ; python_version < '0'\n" for name in sorted(leave)))
    if how in {"sync", "install"} and (line := said(kept, locked if how == "sync" else None)):
        sys.stdout.write(line + "\n")


def canonical(name: str) -> str:
    """``Torch_Vision`` as ``torch-vision``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def adopt(env: Path) -> None:
    """Let the environment see what this Python sees, if that is an environment itself, and give it ``pip``."""
    if sys.prefix != sys.base_prefix:
        (packages,) = env.glob("lib/python*/site-packages")
        # What is installed into the environment comes first: this adds to the end of the path.
        lines = [f"import site; site.addsitedir({each!r})" for each in sys.path if each.endswith("-packages")]
        (packages / "_image.pth").write_text("\n".join(lines) + "\n")
    pip = env / "bin" / "pip"
    if not pip.exists():
        pip.write_text('#!/bin/sh\nexec "{}" -m pip "$@"\n'.format(env / "bin" / "python"))
        pip.chmod(0o755)


def versions(lock: str) -> dict[str, str]:
    """The packages of a ``uv.lock``, with their versions. An old Python cannot read TOML, and uv writes one form."""
    return {
        canonical(found[1]): found[2] for found in re.finditer(r'^name = "([^"]+)"\nversion = "([^"]+)"$', lock, re.M)
    }


def needless(lock: str, kept: set[str]) -> set[str]:
    """The packages that stay, and all of a ``uv.lock`` that only they need: PyTorch's CUDA, say."""
    needs: dict[str, set[str]] = {}
    roots: set[str] = set()
    for package in lock.split("[[package]]\n")[1:]:
        name = re.match(r'name = "([^"]+)"', package)
        if name is None:
            continue
        own = package.partition("[package.metadata]")[0]
        needs.setdefault(canonical(name[1]), set()).update(
            map(canonical, re.findall(r'^    \{ name = "([^"]+)"', own, re.M))
        )
        if re.search(r"^source = \{ (?:virtual|editable|directory) = ", own, re.M):
            roots.add(canonical(name[1]))
    of_roots = reached(roots, needs, kept)
    return kept | (reached(kept, needs, set()) - of_roots if of_roots else set())


def reached(start: set[str], needs: dict[str, set[str]], without: set[str]) -> set[str]:
    """All that some packages need, at any depth, and they themselves."""
    found: set[str] = set()
    ahead = list(start - without)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(needs.get(name, set()) - without)
    return found


def said(kept: dict[str, str], locked: dict[str, str] | None) -> str:
    """``the image's torch 2.9.1 stays; uv.lock says torch 2.8.0``; empty where that is no news.

    :param locked: The versions of the lock; None: there is none.
    """
    names = [n for n in kept if not n.startswith(("nvidia-", "cuda-")) and (locked is None or n in locked)]
    if not names:
        return ""
    line = "the image's {} {}".format(
        ", ".join(f"{n} {kept[n]}" for n in names), "stays" if len(names) == 1 else "stay"
    )
    others = [f"{n} {locked[n]}" for n in names if locked[n].split("+")[0] != kept[n].split("+")[0]] if locked else []
    return line + ("; uv.lock says {}".format(", ".join(others)) if others else "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
