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
    body: Mapping[str, object] | None = None
    """Sent as JSON with POST; None: GET."""
    timeout_s: int = 5
    holds: str = ""
    """Text that the answer must hold before the next question is asked; empty: any."""
    otherwise: Question | None = None
    """What is asked where this is answered with 4xx: the server may do the same in another way."""


def probe(port: int, questions: Iterable[Question]) -> Probe:
    """The probe that asks all questions in one round trip, up to the first that is not answered as it should be."""
    asked = tuple(questions)
    lines = [line for question in asked for line in _lines(question)]
    most_s = sum(max(each.timeout_s, each.otherwise.timeout_s if each.otherwise else 0) for each in asked)
    return Probe(PROBE, http_probe.script(port, *lines), most_s + _BETWEEN_S, port)


def _lines(question: Question) -> Iterable[str]:
    name = question.name
    yield f"{name}=$({_request(question)}); printf '%s\\n' \"${name}\""
    if question.otherwise is not None:
        other = question.otherwise.name
        yield f"{other}="
        yield f'case "${name}" in *"@@ {name} 4"??) {other}=$({_request(question.otherwise)}); echo "${other}" ;; esac'
        yield f'case "${name}${other}" in *"@@ {name} 200"|*"@@ {other} 200") ;; *) exit 0 ;; esac'
    else:
        yield f"held={shlex.quote(question.holds)}"
        yield f'case "${name}" in *"$held"*"@@ {name} 200") ;; *) exit 0 ;; esac'


def _request(question: Question) -> str:
    return http_probe.request(question.name, question.path, timeout_s=question.timeout_s, body=question.body)
