"""Prepares log lines for the rules: removes colours and logger prefixes, and finds the level that the program gave."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from pytest_vastgpu.core.text import sanitize

MAX_CHARS = 3000
"""Longer lines are cut here, because causes are at their beginning."""
MAX_CHATTER_CHARS = 300
"""The same for information lines: a server prints its whole configuration in one line."""


class Level(IntEnum):
    """How serious the program considers a line that it printed."""

    CHATTER = 0
    """Marked as debug or information."""
    WARNING = 1
    """Marked as a warning: the program goes on."""
    PLAIN = 2
    """Without a mark."""
    ERROR = 3
    """Marked as an error, or worse."""


@dataclass(frozen=True)
class Line:
    """One line, ready to be matched with the rules."""

    text: str
    """The text without colours and without the prefixes of loggers and container tools."""
    level: Level
    printed: str
    """The line as printed, without colours and surrounding white space."""
    dull: bool
    """Whether the line says nothing: a frame of a traceback (code names every possible error), a request, a command.

    An assertion that something is supported does say something, because its error has no text of its own.
    """
    container: str = ""
    """The container that printed the line; empty if there is only one."""
    process: str = ""
    """The server's process that printed the line, if the line names it."""


_PREFIX = re.compile(
    r"""(?:\s*(?:
        \((?!Ray|raylet)\w[\w.-]*(?:\ \w+=\d+)*\ pid=\d+[^)]*\)             # vLLM: (EngineCore pid=7)
      | \[(?:rank)?\d+\]:?                                                 # torchrun: [rank0]:
      | [\w.-]{1,60}\s+\|(?=\s)                                            # docker compose: service  |
      | \[?\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d[\d.,Z+:]*(?:\ [A-Z]{2}\d+)*\]?(?=\s)   # a date, SGLang's with its rank
      | std(?:out|err)\ [FP](?=\s)                                        # containerd
      | [A-Z][a-z]{2}\ [\ \d]\d\ \d\d:\d\d:\d\d\ \S+\ [\w.-]+(?:\[\d+\])?:   # syslog
      | \d+\.\d\d\.\d{3}\.\d{3}\ [DIWE](?=\s)                               # llama.cpp: its clock and level
      | (?:\[\d\d/\d\d/\d{4}-[\d:]+\]\ )?\[TRT-LLM\](?:\ \[RANK\ \d+\])?\ \[[A-Z]\](?=\s)   # trtllm-serve
      | \[(?:TensorRT-LLM|TM)\]\[[A-Z]+\](?=\s)                            # TensorRT-LLM and TurboMind
      | │(?=\s)                                                            # Rich: an error in a box
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
    | ^(?:\[\d+\]\ )?\d+\.\d\d\.\d{3}\.\d{3}\ (?:(?P<chatter5>[DI])|(?P<warning4b>W)|(?P<error5>E))\s
    | \[TRT-LLM\](?:\ \[RANK\ \d+\])?\ \[(?:(?P<chatter6>[IVDT])|(?P<warning6>W)|(?P<error6>[EF]))\]
    | :\ (?:(?P<chatter4>I)|(?P<warning4>W)|(?P<error4>E))\ \w[\w/.-]+:\d+\]
    """,
    re.VERBOSE,
)
_CONTAINER = re.compile(r"(?:^|\s)(?P<name>[\w.-]{1,60})\s+\|(?=\s)")
"""docker compose logs: name  | text."""
_CONTAINER_OF_STATUS = re.compile(
    r"\W*(?:Container (?P<event>\S+) |(?P<pull>[\w.-]+) (?:Pulling|Pulled|Error|Interrupted|Skipped)\b)"
)
"""docker compose up, and its pulls."""
_PROCESS = re.compile(r"\([\w.-]+(?: \w+=\d+)*\)|\[rank\d+\]|(?<= )(?:DP|PP|TP|EP)\d+(?: (?:DP|PP|TP|EP)\d+)*\]")
_ERROR_OF_PYTHON = re.compile(r"(?:[\w.]+\.)?\w*(?:Error|Exception|Exit|Interrupt)\b(?::|$)")
_LOGGED = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [A-Z]{2}\d+)*\] ")
"""SGLang's logger, which prints no levels: its lines are information; only an exception after them ends the server."""
_GOES_ON = re.compile(
    r"""\b(?:
        disabling | fall(?:s|ing|en)?\ back | fallback | skipp(?:ing|ed) | ignor(?:ing|ed) | proceeding | continuing
      | retrying | will\ (?:retry|continue|fall\ back|be\ (?:used|ignored|skipped|disabled)) | defaulting\ to
      | us(?:ing|e[ds]?)\ [^.]{1,60}\ instead | non-fatal | not\ fatal
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words with which a program says what it does instead: it has not failed."""
_ECHO = re.compile(
    r"""(?:Args|Arguments|Config|Params|Options|Settings|Namespace)(?:\(\w+=|\ ?\{\s*['"\w])
      | \b(?:[Aa]rg(?:ument)?s|argv|[Cc]onfig(?:uration)?|[Oo]ptions|[Pp]aram(?:eter)?s|[Ss]ettings|env|cmd
          |[Cc]ommand(?:\ line)?)\ ?[:=]\ *(?:[\[{(]|['"]?\S+\ --?\w)
    """,
    re.VERBOSE,
)
"""A program repeats its arguments here. Words in an argument report nothing."""
_WRONG = re.compile(r"error|fail|invalid|fatal|exception|cannot|unable", re.IGNORECASE)
"""If this stands before the repeated arguments, they belong to an error."""
_PASSED_ON = re.compile(
    r"\d{4}-\d\d-\d\d \S+ - [\w.]+ - [A-Z]+ - (?:[\w.]+:\d+ - )?"
    r"(?=(?:[A-Z]+ \d\d-\d\d |\w*(?:Error|Exception): |\w+ error: ))"
)
"""A program's prefix before a line of a program that it started: the level of the inner line counts."""
_LEVEL_WITHIN = 160
"""Levels are at the start of a line."""
_DULL = re.compile(
    r"""\s*(?:
        (?!.*"POST\ /v1/\S*\ HTTP/\S+\ 200).*"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS)\ /\S*\ HTTP/\S+\ \d{3} |
        .*\brequest:\ (?:GET|HEAD|OPTIONS|POST\ (?!/v1/))\S*\ .*\ \d{3}$ | \[GIN\]\ (?!.*\|\ 200\ \|).*\|\ \d{3}\ \| |
        \+{1,3}\ [a-z/.] |                                              # a shell says what it runs
        (?:\S*/)?(?:jq|grep|sed|awk|cat|ls|find|ps|pgrep|pkill|kill|tput|stty|locale|perl|lspci|lsmod|lsof|xargs|head|tail
          |tee|sysctl|numactl|hostname|uname|which|id|date|stat|du|df|nproc)(?:\ \([^)]*\))?:\ |    # tools of scripts
        File\ "[^"]*", | [\^~\s]+$
      | (?:raise|return|await|assert(?!\ is_\w+_supported)|with|for|if|elif|except|yield)\s
      | self\.\w+[\w.]*\(? | super\(\) | sys\.exit\(
    )""",
    re.VERBOSE,
)


def read_line(raw: str) -> Line:
    """Prepare a printed line for matching."""
    printed = sanitize.COLOUR.sub("", raw[:MAX_CHARS]).rstrip()
    told = _PASSED_ON.sub("", printed)
    prefix = _PREFIX.match(told)
    before = prefix.group() if prefix else ""
    text = told[len(before) :]
    level = _level(told, before, text)
    if level is Level.CHATTER:
        text = text[: max(0, MAX_CHATTER_CHARS - len(before))]
        printed = printed[:MAX_CHATTER_CHARS]
    dull = bool(_DULL.match(text))
    echo = None if is_error(text) else _ECHO.search(text)
    if echo and not _WRONG.search(text, 0, echo.start()):
        text = text[: echo.start()]
    container = _CONTAINER.search(before)
    process = _PROCESS.search(before)
    return Line(
        text,
        level,
        printed.strip(),
        dull,
        container["name"] if container else "",
        process.group() if process else "",
    )


def container_of_status(text: str) -> str:
    """The container that a status line is about; empty if the line does not name it."""
    found = _CONTAINER_OF_STATUS.match(text)
    return (found["event"] or found["pull"]) if found else ""


def is_error(text: str) -> bool:
    """Whether a line has the form of the last line of a Python traceback."""
    return _ERROR_OF_PYTHON.match(text) is not None


def kind(line: str) -> str:
    """A line without its numbers, so that a moving counter does not make it a new line."""
    return re.sub(r"[\d.:]+", "0", line).strip()


def _level(told: str, before: str, text: str) -> Level:
    found = _LEVEL.search(told, 0, _LEVEL_WITHIN)
    name = (found.lastgroup or "") if found else ""
    if name.startswith("chatter"):
        return Level.CHATTER
    if name.startswith("warning"):
        return Level.WARNING
    if not is_error(text) and _GOES_ON.search(text):
        return Level.WARNING
    if name:
        return Level.ERROR
    return Level.WARNING if _LOGGED.search(before) and not is_error(text) else Level.PLAIN


class LineSplitter:
    """Splits a growing text into lines; a carriage return ends a line too, so that progress bars are seen."""

    def __init__(self) -> None:
        self.rest = ""
        """The text after the last end of line, cut to the length that is read."""

    def feed(self, text: str) -> list[str]:
        """The lines that are now complete."""
        lines = re.split(r"[\r\n]+", self.rest + text)
        self.rest = lines.pop()[:MAX_CHARS]
        return lines
