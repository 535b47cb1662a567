"""The one place that makes text from market, hosts, servers and files safe to show or store.

It removes secrets. It escapes, as in JSON, characters that control a terminal or change how a text reads, so that the
text stays legible and a JSON document stays one. It breaks up commands to CI systems: GitHub's (``::error::``,
``##[group]``), Azure's (``##vso[``) and TeamCity's (``##teamcity[``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.core.text.layout import columns
from pytest_vastgpu.core.text.layout import cut_middle
from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.core.text.redaction import without_lookalikes

LINE_CHARS = 2000
"""Most characters of a text that is shown as one line; a longer one loses its middle."""
CELL_CHARS = 200
"""Most characters of a table's cell."""
TEXT_CHARS = 20_000
"""Most characters of one text in a document."""
TAIL_CHARS = 8000
"""Most characters of the end of a log."""
TAIL_LINE_CHARS = 500
"""Most characters of one line in that end."""

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What programs print to colour their output, or to move the cursor."""
_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except tab and newline
    "\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"  # these change the direction of text, or are invisible
    "\u2028\u2029"  # line ends for some readers
    "\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff"  # halves of characters, which cannot be encoded
    "]"
)
_MOVES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]|\x1b(?!\\[[0-9;:]*m)")
"""What a terminal obeys, but for line ends, tabs and colours."""
_SHORT = {"\n": "\\n", "\r": "\\r"}
_COMMAND_AT_START = re.compile(r"^([^\S\n]*):(?=:)", re.MULTILINE)
_COMMAND_ANYWHERE = re.compile(r"#(?=#(?:vso|teamcity)?\[)", re.IGNORECASE)


def line(text: str, limit: int = LINE_CHARS) -> str:
    """A text as one safe line. A long one loses its middle: causes stand at the start, numbers often at the end."""
    # Remove secrets first: a cut could split one. Shorten an extremely long text before that, to save time.
    text = _harmless(cut_middle(KNOWN(cut_middle(text, 64 * limit)), limit))
    return text.replace("\n", "\\n")


def block(text: str) -> str:
    """A text of several lines, each made safe. A carriage return ends a line, as it does in CI systems."""
    return _harmless(KNOWN(text).replace("\r\n", "\n").replace("\r", "\n"))


def printed(text: str) -> str:
    """What a test on a host has printed or said, as it is, but for what a terminal would obey beyond colours.

    That is escaped as pytest escapes it in JUnit files, so such a file is the same as without this.
    """
    return _MOVES.sub(lambda found: f"#x{ord(found[0]):02X}", text)


def tail(text: str, lines: int) -> str:
    """The end of a log, safe to show: at most that many lines, with limits for each line and for all together."""
    end = text[-64 * TAIL_CHARS :]
    if len(end) < len(text):
        end = end.partition("\n")[2] or end  # a partial line could contain part of a secret
    last = [line(each, TAIL_LINE_CHARS) for each in block(end).splitlines()[-lines:]]
    while len(last) > 1 and sum(map(len, last)) > TAIL_CHARS:
        last = last[1:]
    return "\n".join(last).rstrip("\n")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose cells come from others: each cell is made safe and bounded."""
    return columns(header, [[line(cell, CELL_CHARS) for cell in row] for row in rows])


def clean(value: object) -> object:
    """A JSON value with every text in it made safe and bounded. Texts keep their lines.

    Its keys are names. One that is as a known secret is only called so: whoever reads the document needs it.
    """
    if isinstance(value, str):
        return _harmless(cut_middle(KNOWN(str(value)), TEXT_CHARS))
    if isinstance(value, Mapping):
        return {_name(key): clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(each) for each in value]
    return value


def _name(key: object) -> object:
    return _harmless(cut_middle(without_lookalikes(key), TEXT_CHARS)) if isinstance(key, str) else key


def _harmless(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        text = _UNSAFE.sub(_escaped, text)
    if "::" in text:
        text = _COMMAND_AT_START.sub(r"\1: ", text)
    return _COMMAND_ANYWHERE.sub("# ", text) if "##" in text else text


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
