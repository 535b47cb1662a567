"""Text of others in GitHub's Markdown, as a parser of it reads it."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.reporting.markdown import CELL_CHARS
from pytest_vastgpu.reporting.markdown import code
from pytest_vastgpu.reporting.markdown import table

FOREIGN = (
    "a|b",
    "a\\|b",
    "ends in \\",
    "`code` and ``more``",
    "`",
    "**bold** _it_ ~~no~~",
    "<details><img src=x onerror=alert(1)></code></td>",
    "@octocat and #1 and org/repo#2",
    "[text](http://evil.example) <http://evil.example> http://evil.example www.evil.example",
    "two\nlines\r\n\r\n# a heading\n| a | row |",
    "&lt;b&gt; &#124; &amp;",
    "::error::x",
    "$x^2$ :tada: <!-- comment -->",
)


class _Read(HTMLParser):
    """Tags, and the text of code, in rendered HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.codes: list[str] = []
        self.others = ""
        self._within = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "code":
            self._within = True
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within and tag != "code"

    def handle_data(self, data: str) -> None:
        if self._within:
            self.codes[-1] += data
        else:
            self.others += data


def read(markdown: str) -> _Read:
    return _Read(MarkdownIt("commonmark").enable("table").render(markdown))


def shown(text: str) -> str:
    return " ".join(sanitize.line(text.strip()).split())


def require_code(*foreign: str) -> None:
    rows = [(code(each), "kept") for each in foreign]
    lines = [f"- **{code(each)}: kept**" for each in foreign]
    found = read("\n".join([*table(("One", "Two"), rows), "", *lines]))
    assert found.codes == [shown(each) for each in foreign] * 2
    assert found.tags.count("td") == 2 * len(foreign)
    assert set(found.tags) <= {*("table", "thead", "tbody", "tr", "th", "td", "code"), *("ul", "li", "strong")}
    assert found.others.split() == ["One", "Two", *["kept"] * len(foreign), *[":", "kept"] * len(foreign)]


def test_text_of_others_is_code_and_nothing_else() -> None:
    require_code(*FOREIGN)


@settings(max_examples=40)
@given(st.sampled_from(FOREIGN), st.text(min_size=1, max_size=60).filter(shown))
def test_it_is_code_whatever_stands_around_it(text: str, more: str) -> None:
    require_code(f"{text}{more}", f"{more}{text}", more)


@pytest.mark.parametrize("text", ["", " \n "])
def test_nothing_is_a_dash(text: str) -> None:
    assert code(text) == "-"


def test_a_long_text_loses_its_middle() -> None:
    found = code(f"cause {'x' * 10_000} number")
    assert found.startswith("`cause x")
    assert found.endswith(" number`")
    assert len(found) < CELL_CHARS + 20
