"""Check every link of the built site: ``python docs/site/check_links.py DIRECTORY``.

A link to this site leads to a file of it, and to something that has the name behind ``#``. What leads elsewhere cannot
be followed where there is no network: it is ``https`` and leads to a host that is known here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from urllib.parse import urlsplit

HOSTS = {
    "cloud.vast.ai",
    "docs.nvidia.com",
    "github.com",
    "keepachangelog.com",
    "pradyunsg.me",  # the theme's line at the foot
    "pypi.org",
    "pytest-xdist.readthedocs.io",
    "semver.org",
    "vast.ai",
    "www.sphinx-doc.org",
}


class Page(HTMLParser):
    """The links of a page, and the names in it that a link can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names = {"", "top"}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what it names and where it leads."""
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.names.add(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")


def wrong(link: str, page: Path, pages: dict[Path, Page]) -> str:
    """What is wrong with a link of a page; empty: nothing."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if parts.scheme != "https":
            return "is no https"
        return "" if parts.hostname in HOSTS else f"leads to a host that {Path(__file__).name} does not list"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return "leads to no file"
    names = pages[target].names if target in pages else {""}
    return "" if unquote(parts.fragment) in names else "leads to nothing with that name"


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the links of a site, a line each."""
    pages = {path: Page(path.read_text()) for path in sorted(root.resolve().rglob("*.html"))}
    if not pages:
        yield f"{root}: no page is there"
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            if found := wrong(link, path, pages):
                yield f"{path.relative_to(root.resolve())}: {link or 'an empty link'} {found}"


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(sys.argv[1]))) or None)
