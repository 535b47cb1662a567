"""How Sphinx makes a site of README.md, the guides in docs/, the examples and the docstrings; `.ci/site.sh` runs it.

The sources are where people read them without a site, too: the source directory is the repository, and links between
its files are as they are on a code host. What only a site needs is in this directory.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from _pytest.fixtures import FixtureFunctionDefinition
from sphinx.util import logging

import pytest_vastgpu

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[2]

project = "pytest-vastgpu"
author = project_copyright = "The pytest-vastgpu maintainers"
version = release = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/site/index"
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("docs/*.md", "docs/site/**.rst", "conftest_examples/*/README.md"),
]
exclude_patterns = [".?*", "tests", "pytest_vastgpu", "build", "dist"]  # not even searched

nitpicky = True
nitpick_ignore_regex = [
    # What others declare: their documentation is out of reach of a build without a network.
    ("py:.*", rf"({'|'.join([*sys.stdlib_module_names, 'pytest', '_pytest'])})\..*"),
    # What a user gets back and has no use for, and a type variable.
    ("py:class", r"pytest_vastgpu\.(client\.calls\.Lease|servers\.workloads\._Builder)"),
]

myst_heading_anchors = 4  # the anchors that a code host makes

html_theme = "furo"
html_title = project
html_static_path, html_css_files = ["static"], ["site.css"]
html_extra_path = ["root"]
html_copy_source = html_show_sourcelink = False

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

_FOLDER = re.compile(r"\]\(((?:\.\./)*)(conftest_examples(?:/\w+)?)/?\)")
_SOURCES = {".ini": "ini", ".py": "python", ".txt": "text"}
_GIVEN = (pytest_vastgpu.VastInstance, pytest_vastgpu.Benchmark, pytest_vastgpu.Comparison)
"""What fixtures give: how it is made is of no use to a reader."""


def setup(app: Sphinx) -> None:
    """Register what is special of these sources."""
    app.connect("source-read", _complete_page)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("env-check-consistency", _require_all_public_names)


def _complete_page(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to the folder of examples, or of one of them, leads to its page. The page of one shows its files."""

    def link(found: re.Match[str]) -> str:
        up, to = found.groups()
        return f"]({up}{to}/README.md)" if "/" in to else f"]({up}docs/site/examples.rst)"

    source[0] = _FOLDER.sub(link, source[0])
    folder = ROOT / page.removesuffix("README")
    if page.startswith("conftest_examples/"):
        for file in sorted(folder.iterdir()):
            if language := _SOURCES.get(file.suffix):
                source[0] += f"\n## `{file.name}`\n\n```{{literalinclude}} {file.name}\n:language: {language}\n```\n"


def _shorten(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returned: str
) -> tuple[str, str] | None:
    """What is called with arguments shows them; a default that is made by a call is an ellipsis."""
    if signature is None:
        return None
    if obj in _GIVEN or getattr(obj, "_is_protocol", False) or isinstance(obj, FixtureFunctionDefinition):
        return "", ""
    return signature.replace("<factory>", "..."), returned


def _require_all_public_names(app: Sphinx, env: BuildEnvironment) -> None:
    """What can be imported from the package itself is documented."""
    told: dict[str, Any] = env.domains["py"].objects  # type: ignore[attr-defined] # of the domain of Python
    for name in pytest_vastgpu.__all__:
        home = getattr(pytest_vastgpu, name).__module__
        if not {f"pytest_vastgpu.{name}", f"{home}.{name}"} & told.keys():
            logging.getLogger(__name__).warning("pytest_vastgpu.%s is in no page of docs/site/api", name)
