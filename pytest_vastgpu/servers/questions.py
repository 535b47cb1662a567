"""What a server is asked before it counts as ready: HTTP requests, each asked once the one before is answered. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vastgpu.model import Probe
from pytest_vastgpu.servers import http_probe

PROBE = "answers"
"""The name of the probe that asks."""
_NAME = re.compile(r"[A-Za-z0-9_]+")
_BETWEEN_S = 15.0
"""What the probe may take beside its longest request."""


@dataclass(frozen=True)
class Question:
    """One request to the server on its instance.

    :raises ValueError: one line, for a name or a path that cannot be asked for.
    """

    name: str
    """Names the answer: letters, digits and ``_``."""
    path: str
    body: Mapping[str, object] | http_probe.Form | None = None
    """Sent with POST, as JSON or as a form; None: GET."""
    timeout_s: int = 5
    holds: str = ""
    """Text that the answer must hold before the next question is asked; empty: any."""
    holds_where: str | None = None
    """Text of those answers that must hold :attr:`holds`; any other answer will do. None: all must, and with 200."""
    otherwise: Question | None = None
    """What is asked where this is answered with 4xx or 501: the server may do the same in another way."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"Question({self.name!r}, …): a name has letters, digits and _ only")
        if not self.path.startswith("/"):
            raise ValueError(f"Question({self.name!r}, {self.path!r}): a path begins with /")


def probe(port: int, questions: Iterable[Question], key_header: str = http_probe.KEY_HEADER) -> Probe:
    """The probe that asks all questions in one round trip, up to the first that is not answered as it should be.

    :param key_header: See :data:`~pytest_vastgpu.servers.http_probe.KEY_HEADER`.
    """
    asked = tuple(questions)
    lines = [line for question in asked for line in _lines(question)]
    most_s = sum(max(each.timeout_s for each in _chain(question)) for question in asked)
    return Probe(PROBE, http_probe.script(port, *lines, key_header=key_header), most_s + _BETWEEN_S, port)


def _chain(question: Question) -> Iterable[Question]:
    """A question, and what is asked in its place."""
    link: Question | None = question
    while link is not None:
        yield link
        link = link.otherwise


def _lines(question: Question) -> Iterable[str]:
    chain = tuple(_chain(question))
    before = ""
    for each in chain:
        name = each.name
        ask = f"{_variable(name)}=$({_request(each)}); printf '%s\\n' \"${_variable(name)}\""
        if before:
            yield f"{_variable(name)}="
            ask = f'case "${_variable(before)}" in *"@@ {before} 4"??|*"@@ {before} 501") {ask} ;; esac'
        yield ask
        before = name
    yield f"held={shlex.quote(question.holds)}"
    if question.holds_where is not None:
        name = question.name
        yield f"where={shlex.quote(question.holds_where)}"
        wrong = f'*"$where"*"@@ {name} 200") exit 0 ;;'
        yield f'case "${_variable(name)}" in *"@@ {name} 000") exit 0 ;; *"$held"*) ;; {wrong} esac'
        return
    answered = "".join(f"${_variable(each.name)}" for each in chain)
    right = "|".join(f'*"$held"*"@@ {each.name} 200"' for each in chain)
    yield f'case "{answered}" in {right}) ;; *) exit 0 ;; esac'


def _variable(name: str) -> str:
    """The shell's variable for an answer; not the name alone, which may be ``PATH``."""
    return f"answer_{name}"


def _request(question: Question) -> str:
    return http_probe.request(question.name, question.path, timeout_s=question.timeout_s, body=question.body)
