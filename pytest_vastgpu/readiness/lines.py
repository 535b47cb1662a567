"""Lines of a log as rules want them: without colours and logger prefixes, with the level their program gave them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

MAX_CHARS = 3000
"""Longer lines are read up to here: causes are told in their beginning."""
MAX_CHATTER_CHARS = 300
"""The same for information: a server prints its whole configuration in one line."""


class Level(IntEnum):
    """What the program that printed a line thinks of it."""

    CHATTER = 0
    """Marked as debug or information."""
    WARNING = 1
    """Marked as a warning: the program goes on."""
    PLAIN = 2
    """Not marked."""
    ERROR = 3
    """Marked as an error, or worse."""


@dataclass(frozen=True)
class Line:
    """One line, ready to be matched."""

    text: str
    """Without colours and without what loggers and container tools put in front."""
    level: Level
    printed: str
    """As it was printed, without colours and white space around it."""
    dull: bool
    """A frame of a traceback (code names every error that could happen, not the one that did), or an access log.

    An assertion that something is supported is none: its error has no words of its own.
    """


_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PREFIX = re.compile(
    r"""(?:\s*(?:
        \((?!Ray|raylet)\w[\w.-]*\ pid=\d+[^)]*\)                          # vLLM: (EngineCore pid=7)
      | \[(?:rank)?\d+\]:?                                                 # torchrun: [rank0]:
      | [\w.-]{1,60}\s+\|(?=\s)                                            # docker compose: service  |
      | \[?\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d[\d.,Z+:]*(?:\ [A-Z]{2}\d+)*\]?(?=\s)   # a date, SGLang's with its rank
      | [A-Z][a-z]{2}\ [\ \d]\d\ \d\d:\d\d:\d\d\ \S+\ [\w.-]+(?:\[\d+\])?:   # syslog
      | <\ (?=HTTP/)                                                        # curl -v: the answer's head
      | ERROR:\ {2,}                                                        # Uvicorn, also for each line of a traceback
      | (?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\ \d\d-\d\d\ [\d:.,]{8,15}\ (?:\[[^\]]*\]|[\w./-]+:\d+\])   # vLLM
    )\ ?)*""",
    re.VERBOSE,
)
_LEVEL = re.compile(
    r"""
      \b(?P<chatter>TRACE|DEBUG|INFO|(?<!DEPRECATION\ )NOTICE)\b
    | \b(?P<warning>WARN|WARNING|\w*Warning(?=:)(?!:\ (?:
        CUDA\ initialization:\ (?:Unexpected|CUDA\ unknown) | caught\ exception\ '   # then no GPU is used
      )))\b
    | \b(?P<error>ERROR|CRITICAL|FATAL|PANIC|[A-Za-z]*(?:Error|Exception)(?=:))\b
    | ^(?P<warning5>warning):
    | level"?[=:]\s*"?(?:(?P<chatter2>trace|debug|info)|(?P<warning2>warn\w*)|(?P<error2>error|fatal|panic))\b
    | ^\W{0,3}(?:(?P<chatter3>I)|(?P<warning3>W)|(?P<error3>[EF]))\d{3,6}[ ]+\d\d:\d\d
    | :\ (?:(?P<chatter4>I)|(?P<warning4>W)|(?P<error4>E))\ \w[\w/.-]+:\d+\]
    """,
    re.VERBOSE,
)
_PASSED_ON = re.compile(
    r"\d{4}-\d\d-\d\d \S+ - [\w.]+ - [A-Z]+ - (?=(?:[A-Z]+ \d\d-\d\d |\w*(?:Error|Exception): |\w+ error: ))"
)
"""What a program puts before the lines of another that it started: the inner one knows what its line is worth."""
_LEVEL_WITHIN = 160
"""Levels stand in front."""
_DULL = re.compile(
    r"""\s*(?:
        INFO:\ (?!.*"POST\ /v1/\S*\ HTTP/\S+\ 200).*"[A-Z]+\ /\S*\ HTTP/ |
        File\ "[^"]*", | [\^~\s]+$
      | (?:raise|return|await|assert(?!\ is_\w+_supported)|with|for|if|elif|except|yield)\s
      | self\.\w+[\w.]*\(? | super\(\) | sys\.exit\(
    )""",
    re.VERBOSE,
)


def read_line(raw: str) -> Line:
    """A line as printed, made ready to be matched."""
    printed = _COLOUR.sub("", raw[:MAX_CHARS]).rstrip()
    told = _PASSED_ON.sub("", printed)
    level = _level(told)
    if level is Level.CHATTER:
        told = told[:MAX_CHATTER_CHARS]
        printed = printed[:MAX_CHATTER_CHARS]
    prefix = _PREFIX.match(told)
    text = told[prefix.end() :] if prefix else told
    return Line(text, level, printed.strip(), bool(_DULL.match(text)))


def _level(printed: str) -> Level:
    found = _LEVEL.search(printed, 0, _LEVEL_WITHIN)
    kind = (found.lastgroup or "") if found else ""
    if kind.startswith("chatter"):
        return Level.CHATTER
    if kind.startswith("warning"):
        return Level.WARNING
    return Level.ERROR if kind else Level.PLAIN


class LineSplitter:
    """Cuts a text that grows into lines; a carriage return ends a line too, so that progress bars are seen."""

    def __init__(self) -> None:
        self.rest = ""
        """What stands after the last end of line, as far as it will be read."""

    def feed(self, text: str) -> list[str]:
        """The lines that are complete now."""
        lines = re.split(r"[\r\n]+", self.rest + text)
        self.rest = lines.pop()[:MAX_CHARS]
        return lines
