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
    """A frame of a traceback (code names every error that could happen, not the one that did), a request, a command.

    An assertion that something is supported is not dull: its error has no words of its own.
    """
    container: str = ""
    """Which of several containers printed it; empty where only one prints."""
    process: str = ""
    """Which of the server's processes printed it, as far as it says so."""


_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PREFIX = re.compile(
    r"""(?:\s*(?:
        \((?!Ray|raylet)\w[\w.-]*(?:\ \w+=\d+)*\ pid=\d+[^)]*\)             # vLLM: (EngineCore pid=7)
      | \[(?:rank)?\d+\]:?                                                 # torchrun: [rank0]:
      | [\w.-]{1,60}\s+\|(?=\s)                                            # docker compose: service  |
      | \[?\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d[\d.,Z+:]*(?:\ [A-Z]{2}\d+)*\]?(?=\s)   # a date, SGLang's with its rank
      | std(?:out|err)\ [FP](?=\s)                                        # containerd
      | [A-Z][a-z]{2}\ [\ \d]\d\ \d\d:\d\d:\d\d\ \S+\ [\w.-]+(?:\[\d+\])?:   # syslog
      | \d+\.\d\d\.\d{3}\.\d{3}\ [DIWE](?=\s)                               # llama.cpp: its clock and level
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
"""A logger that prints no levels, SGLang's: what it says is news; what ends the server is an exception after it."""
_GOES_ON = re.compile(
    r"""\b(?:
        disabling | fall(?:s|ing|en)?\ back | fallback | skipp(?:ing|ed) | ignor(?:ing|ed) | proceeding | continuing
      | retrying | will\ (?:retry|continue|fall\ back|be\ (?:used|ignored|skipped|disabled)) | defaulting\ to
      | us(?:ing|e[ds]?)\ [^.]{1,60}\ instead | non-fatal | not\ fatal
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words of a program that says what it does instead: it has not failed."""
_ECHO = re.compile(
    r"""(?:Args|Arguments|Config|Params|Options|Settings|Namespace)(?:\(\w+=|\ ?\{\s*['"\w])
      | \b(?:[Aa]rg(?:ument)?s|argv|[Cc]onfig(?:uration)?|[Oo]ptions|[Pp]aram(?:eter)?s|[Ss]ettings|env|cmd
          |[Cc]ommand(?:\ line)?)\ ?[:=]\ *(?:[\[{(]|['"]?\S+\ --?\w)
    """,
    re.VERBOSE,
)
"""Where a program repeats what it was asked for. Words of an argument are no words about it."""
_WRONG = re.compile(r"error|fail|invalid|fatal|exception|cannot|unable", re.IGNORECASE)
"""Before an echo: then the arguments belong to what went wrong."""
_PASSED_ON = re.compile(
    r"\d{4}-\d\d-\d\d \S+ - [\w.]+ - [A-Z]+ - (?=(?:[A-Z]+ \d\d-\d\d |\w*(?:Error|Exception): |\w+ error: ))"
)
"""What a program puts before the lines of another that it started: the inner one knows what its line is worth."""
_LEVEL_WITHIN = 160
"""Levels stand in front."""
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
    """A line as printed, made ready to be matched."""
    printed = _COLOUR.sub("", raw[:MAX_CHARS]).rstrip()
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
    """Which of several containers a line of a status text is about; empty where it does not say so."""
    found = _CONTAINER_OF_STATUS.match(text)
    return (found["event"] or found["pull"]) if found else ""


def is_error(text: str) -> bool:
    """Whether a line has the form of the last line of a Python traceback."""
    return _ERROR_OF_PYTHON.match(text) is not None


def kind(line: str) -> str:
    """A line without its numbers: a counter that moves does not make it a new one."""
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
    """Cuts a text that grows into lines; a carriage return ends a line too, so that progress bars are seen."""

    def __init__(self) -> None:
        self.rest = ""
        """What stands after the last end of line, as far as it will be read."""

    def feed(self, text: str) -> list[str]:
        """The lines that are complete now."""
        lines = re.split(r"[\r\n]+", self.rest + text)
        self.rest = lines.pop()[:MAX_CHARS]
        return lines
