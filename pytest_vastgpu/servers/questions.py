"""What a server is asked before it counts as ready: HTTP requests, each asked once the one before is answered. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vastgpu.model import Probe
from pytest_vastgpu.servers import http_probe

PROBE = "answers"
"""The name of the probe that asks."""
_BETWEEN_S = 15.0
"""What the probe may take beside its longest request."""


@dataclass(frozen=True)
class Question:
    """One request to the server on its instance."""

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


def probe(port: int, questions: Iterable[Question]) -> Probe:
    """The probe that asks all questions in one round trip, up to the first that is not answered as it should be."""
    asked = tuple(questions)
    lines = [line for question in asked for line in _lines(question)]
    most_s = sum(max(each.timeout_s for each in _chain(question)) for question in asked)
    return Probe(PROBE, http_probe.script(port, *lines), most_s + _BETWEEN_S, port)


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
        ask = f"{name}=$({_request(each)}); printf '%s\\n' \"${name}\""
        if before:
            yield f"{name}="
            ask = f'case "${before}" in *"@@ {before} 4"??|*"@@ {before} 501") {ask} ;; esac'
        yield ask
        before = name
    yield f"held={shlex.quote(question.holds)}"
    if question.holds_where is not None:
        name = question.name
        yield f"where={shlex.quote(question.holds_where)}"
        yield f'case "${name}" in *"@@ {name} 000") exit 0 ;; *"$held"*) ;; *"$where"*"@@ {name} 200") exit 0 ;; esac'
        return
    answered = "".join(f"${each.name}" for each in chain)
    right = "|".join(f'*"$held"*"@@ {each.name} 200"' for each in chain)
    yield f'case "{answered}" in {right}) ;; *) exit 0 ;; esac'


def _request(question: Question) -> str:
    return http_probe.request(question.name, question.path, timeout_s=question.timeout_s, body=question.body)
