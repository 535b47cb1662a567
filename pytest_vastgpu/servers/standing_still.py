"""Judges a server that has settled: it goes on no further, and gives another answer than its adapter waits for.

It was asked at a wrong path, port, address or scheme, with a wrong key, or for a wrong model. That is the workload's
fault: the next machine would show the same. Pure: what the server shows comes in, what to ask and the verdict go out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from pytest_vastgpu.core.timeouts import DEFAULTS
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.system_probes import LISTENERS

_REFUSALS = frozenset({401, 403})
"""Also a server whose keys are not loaded yet answers these."""
_PASSING = frozenset({408, 425, 429, *range(500, 600)})
"""A server that is still starting, or busy, answers these."""
_NOT_READY = re.compile(r"/v2/(?:\S*/)?ready(?:\?\S*)?$")
"""Paths of which Triton (src/http_server.cc) says with 400 that what they stand for is not ready yet."""
_GPU_MEMORY = re.compile(r"\d+MiB\s*/\s*\d+MiB")
_COUNT = re.compile(r"\b\d{1,3}(?:\.\d+)?%|\b\d[\d.]*\s?[kKMGT]i?B\b")
"""What a progress bar counts, on lines that otherwise stay the same."""
_TAG = re.compile(r"<[^<>]*>")
_COUNT_CHARS = 4096
_MOST_ASKED = 8
_ECHO_S = 5.0
"""What the server prints so soon after it was asked elsewhere is because of that, and no sign that it goes on."""
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Listener:
    """An address on which the server listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """Address and port at which a client on the same machine reaches it, as in a URL."""
        near = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(self.host, self.host)  # noqa: S104 - it is compared
        return str(Listener(near, self.port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners(output: str) -> tuple[Listener, ...]:
    """The addresses that the probe :data:`~pytest_vastgpu.servers.system_probes.LISTENERS` has printed."""
    found = []
    for line in output.splitlines():
        address, _, port = line.partition(":")
        try:
            words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
            host = ipaddress.ip_address(b"".join(words))
            mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
            found.append(Listener(str(mapped or host), int(port, 16)))
        except ValueError:  # the host's answer is not trusted
            continue
    return tuple(found)


class StandingStill:
    """Watches one start of a server for the sign that it has settled. Times are those of the observations.

    :param timeouts: How long it must show nothing new.
    :param others: Ports on which another server listens, beside which it starts.
    """

    def __init__(
        self, workload: Workload, timeouts: Timeouts = DEFAULTS, others: Collection[int] = frozenset()
    ) -> None:
        self._workload = workload
        self._timeouts = timeouts
        self._others = others
        self._shown: object = None
        self._since_s = 0.0
        self._still_s = 0.0
        self._answers: dict[str, http_probe.Answer] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._age_s = self._news_s = 0.0
        self._asked_s: float | None = None
        self._elsewhere: tuple[http_probe.Answer, ...] = ()
        self._out_of_time = False

    def take(self, seen: Observation, progress: Progress) -> None:
        """Take the newest observation of a server that its adapter waits for.

        :param progress: The adapter's answer to it.
        """
        self._answers = {}
        for probe in seen.probes.values():
            self._answers.update(http_probe.answers(probe.stdout))
        ports, gpu = seen.probes.get(LISTENERS.name), seen.probes.get("gpu")
        found = listeners(ports.stdout) if ports else ()
        self._listeners = tuple(each for each in found if each.port not in self._others)
        shown = (
            progress,
            tuple((name, answer.status, answer.redirect) for name, answer in self._answers.items()),
            self._listeners,
            tuple(_GPU_MEMORY.findall(gpu.stdout)) if gpu else (),
            _COUNT.findall(seen.log[-_COUNT_CHARS:])[-1:],
        )
        if shown != self._shown:
            self._shown, self._since_s = shown, seen.age_s
            self._asked_s, self._elsewhere = None, ()
        self._age_s, news_s = seen.age_s, seen.age_s - seen.still_s
        if self._asked_s is None or news_s > self._asked_s + _ECHO_S:
            self._news_s = news_s
        self._still_s = seen.age_s - max(self._news_s, self._since_s)

    def to_ask(self) -> str:
        """The shell text that asks now where the server listens, if it does not answer where it should; else empty.

        It is asked once, halfway to the verdict: should it become ready meanwhile, there will be none.
        """
        if self._asked_s is not None or self._still_s < self._timeouts.settled_s / 2 or not self._misplaced:
            return ""
        self._asked_s = self._age_s
        here = f"{_LOOPBACK}:{self._workload.port}"
        places = [place.authority for place in self._listeners[:_MOST_ASKED]]
        return http_probe.elsewhere([("https" if place == here else "http", place) for place in places], self._path)

    def answered(self, output: str) -> None:
        """Take the answers from there: the output of :func:`~pytest_vastgpu.servers.http_probe.elsewhere`.

        Where the server has the right port, too, another one is for something else, such as metrics: it is busy.
        """
        given = [answer for answer in http_probe.answers(output).values() if answer.status]
        if any(place.port == self._workload.port for place in self._listeners):
            given = [answer for answer in given if urlsplit(answer.url).port == self._workload.port]
        self._elsewhere = tuple(given)

    def verdict(self, *, out_of_time: bool = False) -> Verdict | None:
        """The verdict, once the server has settled; None while it may still become ready.

        :param out_of_time: Whether it gets no more time: then an answer that a starting server may give counts as one.
        """
        self._out_of_time = out_of_time
        return next(self._verdicts(), None)

    def __str__(self) -> str:
        """What the server showed last, besides its log."""
        told = [
            f"{_path(each.url)} answers {each.status}" for each in self._answers.values() if each.status and each.url
        ]
        if self._listeners:
            told.append(f"the server listens on {', '.join(map(str, self._listeners))}")
        return "; ".join(told)

    def _verdicts(self) -> Iterator[Verdict]:
        if self._misplaced and self._elsewhere:
            best = min(self._elsewhere, key=lambda answer: answer.status != 200)
            if self._settled(doubtful=best.status != 200):
                yield self._elsewhere_verdict(best)
        last = next(reversed(self._answers.values()), None)
        if last is None or last.status in {0, *_PASSING}:
            return  # the server is at work on it; what it answered before was no end
        for name, answer in self._answers.items():
            if answer.status in {0, 200, *_PASSING} or (answer.status == 400 and _NOT_READY.search(answer.url)):
                continue
            if self._settled(doubtful=answer.status in _REFUSALS):
                yield self._wrong_answer(name, answer)
        listed = http_probe.listed_models(self._answers["models"]) if "models" in self._answers else None
        if listed is not None and self._workload.model not in listed and self._settled():
            yield self._fatal(
                "model_not_listed",
                f"/v1/models lists {', '.join(listed) or 'nothing'}, not {self._workload.model}",
                f"model={self._workload.model!r} of the workload is not served: ask for {listed[0]!r}, or have the "
                "server serve the other one"
                if listed
                else f"have the server serve {self._workload.model!r}, or leave model out of the workload",
            )

    @property
    def _misplaced(self) -> bool:
        """Whether the server listens, and gives no answer where it should."""
        if all(place.port != self._workload.port for place in self._listeners):
            return bool(self._listeners)
        return self._first is not None and not self._first.status

    @property
    def _first(self) -> http_probe.Answer | None:
        return next(iter(self._answers.values()), None)

    @property
    def _path(self) -> str:
        url = self._first.url if self._first else ""
        return _path(url) if url else self._workload.ready_path

    def _settled(self, *, doubtful: bool = False) -> bool:
        patient = doubtful and not self._out_of_time
        return self._still_s >= (self._timeouts.doubtful_s if patient else self._timeouts.settled_s)

    def _elsewhere_verdict(self, best: http_probe.Answer) -> Verdict:
        port, url = self._workload.port, urlsplit(best.url)
        places = ", ".join(map(str, self._listeners))
        evidence = f"no answer on {_LOOPBACK}:{port}; the server listens on {places}; {best.url} answers {best.status}"
        if url.port != port:
            return self._fatal(
                "wrong_port",
                evidence,
                f"port={port} of the workload is not the server's: set port={url.port}, or start it on port {port}",
            )
        if url.scheme == "https":
            return self._fatal(
                "https_on_http_port",
                evidence,
                f"the server speaks HTTPS on port {port}, and is asked by HTTP: start it without a certificate, since "
                "its port is reached through SSH, which encrypts",
            )
        return self._fatal(
            "wrong_address",
            evidence,
            f"the server listens on {places}, and is asked on {_LOOPBACK}:{port}: start it on $VASTGPU_HOST, which "
            "holds the right address",
        )

    def _wrong_answer(self, name: str, answer: http_probe.Answer) -> Verdict:
        port, status, path = self._workload.port, answer.status, _path(answer.url) or self._workload.ready_path
        asked = f"ready_path={path!r}" if path == self._workload.ready_path else path
        evidence = f"{path} on port {port} answers {status}"
        if body := " ".join(_TAG.sub(" ", answer.body).split()):
            evidence += f": {body[:200]}"
        if status in _REFUSALS:
            return self._fatal(
                "key_refused",
                evidence,
                f"{asked} on port {port} answers {status}: have the server take the key in its environment variable "
                "VASTGPU_API_KEY, which is sent as Authorization: Bearer …"
                + (", or give a ready_path that needs no key" if path == self._workload.ready_path else ""),
            )
        if answer.redirect:
            to = urlsplit(answer.redirect)
            near = to.scheme == "http" and to.port == port
            where = f"give ready_path={_path(answer.redirect)!r}" if near else "give a ready_path that answers itself"
            if path != self._workload.ready_path:  # its adapter asks where such servers answer
                where = "have the server answer there itself"
            return self._fatal(
                "wrong_path",
                f"{evidence} and redirects to {answer.redirect}",
                f"{asked} answers {status}, a redirect to {answer.redirect}: {where}",
            )
        if name == "models":
            remedy = f"{path} answers {status}, so no model can be found: leave model out of the workload"
        elif path == self._workload.ready_path:
            remedy = f"{asked} answers {status} on port {port}: give the path that answers 200 once the server is ready"
        else:
            remedy = f"{path} answers {status} on port {port}, not 200: see what serves there, and below which path"
        return self._fatal("wrong_path", evidence, remedy)

    def _fatal(self, reason: str, evidence: str, remedy: str) -> Verdict:
        text = f"{evidence} (log, ports and GPU memory stood still for {self._still_s:.0f} s)"
        return Verdict(FailureClass.WORKLOAD_FATAL, reason, shown(text), remedy)


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
