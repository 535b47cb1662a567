"""Whether a line of output that a page shows is one that the program prints.

The texts of the package are the templates: each string, and each f-string with its values left open. A line is
explained where it is put together from templates, values (numbers, ids, paths, quoted names, …) and the usual
separators.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from functools import lru_cache
from xml.etree import ElementTree as ET

from pytest_vastgpu.settings import HOST_OPTIONS
from pytest_vastgpu.settings import OPTIONS
from tests.docs.pages import ROOT

_WEAK = frozenset({"is", "are", "was", "has", "in", "of", "to"})
"""A template with no other words has only values in its holes: `… is …` makes a sentence of any two words."""
_HOLE = "\0"
_VALUES = re.compile(
    r"""
      [-+]?[\d,]+(\.\d+)?\s?(%|x|s|ms|h|min|USD(/h)?|[kMG]B(/s)?|GiB|MiB|Mbps|tokens/s|requests/s|°C|W)?  # an amount
    | \d+\ (min|h)\ \d+\ (s|min) | \d+/\d+ | [\d,.]+\ to\ [\d,.]+
    | \d{4}-\d\d-\d\d([T\ ]\d\d:\d\d(:\d\d)?)? | \d\d:\d\d(:\d\d)? | \d+\ [A-Z][a-z]{2}     # a time
    | [0-9a-f]{6,} | '[^']*' | "[^"]*" | `[^`]*` | <[^<>]*>                              # an id, something quoted
    | [\w.]+\ '[^']*'                                                                   # a workload
    | https?://\S+ | [~.]?/[\w./~*-]+ | …?/[\w./-]+ | [\w.*-]+(/[\w.*-]+)+ | [\w-]+\.[a-z]{2,5}  # an address, a path
    | [\w./\[\]-]+::[\w\[\]:.-]+ | gw\d+                                                   # a test, a worker
    | -{1,2}[a-z][\w-]*(=\S+)? | [A-Z]{2} | \w+=\S+ | [a-z]+(_[a-z]+)+                       # an option, a country
    | (\d+x\ )?(RTX|GTX|A|H|B|L)\ ?A?\d+\w*(\ (SXM\d?|PCIE|NVL|Ti|Ada))?                   # a GPU
    | ([A-Za-z][\w-]+[ ])?v?\d+(\.\d+)+\S* | [Ll]inux(\ \w+)?                                 # a version, a system
    | [A-Z]+(_[A-Z]+)+ | [a-z]+_[a-z]+:\ [a-z_]+ | (uv|pip|pytest)\ [-a-z][\w\ ./=-]*  # a variable, a verdict
    | [-=.…|#\s]* | [A-Z](\ [A-Z])* | [a-z] | p\d\d | Internal
    | (\w+\.)*\w+Error:\ .* | Fatal\ Python\ error:\ .*                                        # of Python
    """,
    re.VERBOSE,
)
_COUNTED = re.compile(r"[\d,.]+ (\w+?)(s?)")
_SEPARATOR = re.compile(
    r"\s{2,}|: |; |, |\. | \(|\)(?= |$)|(?<=\w)\)|=|(?:^| )-> |…|\[|\] ?"
    r"| on | and | with | (?=p\d\d\b|\d+/\d+\b)"
)
_OTHERS = re.compile(
    r"""
      collected\ \d+\ items? | (\d+\ (passed|failed|skipped|deselected|errors?|warnings?)(,\ )?)+\ in\ \S+
    | short\ test\ summary\ info
    | no\ tests\ ran\ in\ \S+ | \S+\.py(\ [.FEsx]+\ +\[\s*\d+%\])? | (FAILED|ERROR|PASSED|SKIPPED)\ .* | E\ {3}.*
    """,
    re.VERBOSE,
)
"""Lines of pytest."""
_ANNOTATION = re.compile(r"::(?:error|warning|notice) .*title=(.*?)::(.*)")
"""A command to GitHub: title and message are texts for people."""
_AROUND = ";:,() "
"""What stands around a text, and is no part of it."""
_DRAWN = re.compile(r"[│┌└├┬┼─→▶◀↑▼]")
_DOCSTRING = re.compile(r'r?"""(?:[^\\]|\\.)*?"""', re.DOTALL)
_STRING = r'(?:f?"(?:[^"\\\n]|\\.)*"|f?\'(?:[^\'\\\n]|\\.)*\')'
_STRINGS = re.compile(rf"(?<![\w\"']){_STRING}(?:\s+{_STRING})*")
_PART = re.compile(_STRING)
_FIELD = re.compile(r"\{\{|\}\}|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")


def texts_of(source: str) -> Iterator[str]:
    """The strings of a module, but its docstrings; a hole stands for each value that is filled in.

    Strings are found by a pattern: to parse all modules would take seconds.
    """
    for found in _STRINGS.finditer(_DOCSTRING.sub("", source)):
        parts = []
        for part in _PART.findall(found[0]):
            text = part.lstrip("f")[1:-1]
            if part.startswith("f"):
                for field in _FIELD.findall(text):
                    yield from texts_of(field)
                text = _FIELD.sub(lambda field: _HOLE if len(field[0]) > 2 else field[0][0], text)
            parts.append(text)
        yield re.sub(r"%[sdr]|\{\w*\}", _HOLE, "".join(parts).replace("\\n", "\n").replace("\\", ""))


class Printed:
    """What the program can print.

    :param texts: Its strings; see :func:`texts_of`.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        lines = {_template(line) for text in texts for line in text.split("\n")}
        self._words = frozenset(word for line in lines for word in re.findall(r"\w+", line))
        self._whole = {line for line in lines if _HOLE not in line and re.search("[A-Za-z]", line)}
        self._templates: dict[str, list[tuple[frozenset[str], str, list[str]]]] = defaultdict(list)
        """By the longest word that stands in them: their words, what they begin with, and what follows each hole."""
        for line in lines - self._whole:
            words = frozenset(re.findall(rf"(?<![\w{_HOLE}])\w{{2,}}(?![\w{_HOLE}])", line.strip(_HOLE)))
            if words and _HOLE in line:
                first, *rest = line.split(_HOLE)
                self._templates[max(words, key=len)].append((words, first, rest))
        self._atoms: dict[str, bool] = {}
        self._explained: dict[str, bool] = {}

    def unexplained(self, text: str) -> list[tuple[int, str]]:
        """The lines of an output that the program cannot print, each with its number from 0.

        A line that is no whole one may be a part of a message that was wrapped. Of a drawing the words are looked at.
        """
        lines = text.rstrip("\n").split("\n")
        if _DRAWN.search(text):
            return [(number, line) for number, line in enumerate(lines) if not _drawn(line)]
        alone = [self._is_one([line]) for line in lines]
        ways: list[tuple[int, tuple[tuple[int, str], ...]]] = [(0, ())]
        """For each number of lines the least of them that cannot be explained."""
        for end in range(1, len(lines) + 1):
            count, bad = ways[-1]
            best = ways[-1] if alone[end - 1] else (count + 1, (*bad, (end - 1, lines[end - 1])))
            for start in range(max(0, end - 6), end - 1):
                wrapped = all(_indent(line) > _indent(lines[start]) for line in lines[start + 1 : end])
                if wrapped and ways[start][0] < best[0] and self._is_one(lines[start:end]):
                    best = ways[start]
            ways.append(best)
        return list(ways[-1][1])

    def _is_one(self, lines: list[str]) -> bool:
        line = _plain(re.sub(r"\n\s*", " ", "\n".join(lines)))
        if annotation := _ANNOTATION.fullmatch(line):
            parts = [*annotation[1].split("%3A "), *annotation[2].split("%0A")]
            return all(self._explains(part.replace("%3A", ":")) for part in parts)
        return _OTHERS.fullmatch(line) is not None or self._explains(line)

    def _explains(self, text: str) -> bool:
        """Whether a text is a row of texts that are explained by themselves, with separators between them."""
        text = text.strip()
        if text not in self._explained:
            self._explained[text] = False  # no text explains itself
            cuts = [(0, 0), *((each.start(), each.end()) for each in _SEPARATOR.finditer(text)), (len(text), len(text))]
            reached = {0}
            for number, (_, start) in enumerate(cuts):
                if number in reached:
                    later = enumerate(cuts[number + 1 :], number + 1)
                    reached |= {n for n, (end, _) in later if n not in reached and self._is_atom(text[start:end])}
            self._explained[text] = len(cuts) - 1 in reached
        return self._explained[text]

    def _is_atom(self, text: str) -> bool:
        """Whether a text is a value, a string of ours, or one with its holes filled."""
        if text not in self._atoms:
            self._atoms[text] = False  # no text explains itself
            bare = text.strip(_AROUND)
            counted = _COUNTED.fullmatch(bare)
            self._atoms[text] = (
                not bare
                or not self._whole.isdisjoint({bare, bare.replace(" ", "_")})
                or _is_value(bare)
                or (counted is not None and counted[1] in self._words)
                or any(self._is_filled(form) for form in {text.strip(), bare})
            )
        return self._atoms[text]

    def _is_filled(self, text: str) -> bool:
        words = frozenset(re.findall(r"\w{2,}", text))
        return any(
            text.startswith(first) and text.endswith(rest[-1]) and self._fills(text[len(first) :], rest, fills)
            for word in words
            for needed, first, rest in self._templates.get(word, ())
            if needed <= words
            for fills in [_is_value if needed <= _WEAK else self._explains]
        )

    def _fills(self, text: str, literals: list[str], fills: Callable[[str], bool]) -> bool:
        """Whether a text is what fills a hole, the first literal, what fills a hole, the next literal, …"""
        literal, *more = literals
        if not more:
            return text.endswith(literal) and fills(text[: len(text) - len(literal)])
        place = text.find(literal)
        while place >= 0 and (": " not in text[:place] or self._is_atom(text[:place])):  # values are no sentences
            if fills(text[:place]) and self._fills(text[place + len(literal) :], more, fills):
                return True
            place = text.find(literal, place + 1)
        return False


def _drawn(line: str) -> bool:
    return all(word in _words_of_the_package() for word in re.findall(r"[A-Za-z]{3,}", line))


def _is_value(text: str) -> bool:
    return not text.strip(_AROUND) or _VALUES.fullmatch(text.strip(_AROUND)) is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(text: str) -> str:
    """A text as it is compared: `vastgpu offers` names the options of pytest without their prefix."""
    return re.sub(r"^[-=]{3,} | [-=]{3,}$", "", text.replace("--vast-", "--").strip())


def _template(line: str) -> str:
    """A line of a string: where it begins or ends with a space, something may stand before it or after it."""
    text = _plain(line.strip(_AROUND))
    before = _HOLE if line.startswith(" ") else ""
    after = _HOLE if line.endswith(" ") else ""
    return re.sub(f"{_HOLE}+", _HOLE, f"{before}{text}{after}") if text else ""


@lru_cache(maxsize=1)
def _words_of_the_package() -> frozenset[str]:
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "pytest_vastgpu").rglob("*.py"))
    return frozenset(re.findall(r"[A-Za-z]+", sources))


@lru_cache(maxsize=1)
def _texts() -> tuple[str, ...]:
    """All texts of the package, and of the servers of the examples."""
    folders = (ROOT / "pytest_vastgpu", ROOT / "conftest_examples")
    files = (file for folder in folders for file in sorted(folder.rglob("*.py")))
    return tuple(text for file in files for text in texts_of(file.read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def of_the_package() -> Printed:
    """What the package can print."""
    options = (f"{option.name} {_HOLE}" for option in (*OPTIONS, *HOST_OPTIONS))
    return Printed([*options, *_texts()])


def messages() -> str:
    """All texts of the package, with … for each value that is filled in."""
    return "\n".join(_texts()).replace(_HOLE, "…")


def unknown_properties(text: str) -> Iterator[tuple[int, str]]:
    """What is wrong with an excerpt of a JUnit file, each with its line from 0: it is no XML (the site's build would
    warn), or has properties that this package does not write.
    """
    try:
        ET.fromstring(text)  # noqa: S314 -- our own page
    except ET.ParseError as problem:
        yield problem.position[0] - 1, f"this is no XML: {problem}"
    written = set(_texts())
    for number, line in enumerate(text.split("\n")):
        for name in re.findall(r"<property name=\"(\w+)\"", line):
            if name not in written:
                yield number, f"nothing in this package writes the property {name}"
