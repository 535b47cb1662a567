"""What all adapters of HTTP servers have in common: they ask, read the log, and watch the GPUs."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_vastgpu.diagnosis.rules.gpu import BUILT_WITHOUT_GPU
from pytest_vastgpu.diagnosis.verdicts import ends_start
from pytest_vastgpu.diagnosis.verdicts import judge_end
from pytest_vastgpu.diagnosis.verdicts import judge_log
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.questions import PROBE
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.questions import probe
from pytest_vastgpu.servers.system_probes import SURROUNDINGS
from pytest_vastgpu.servers.system_probes import gpu_trouble


class HttpServer(ABC):
    """An adapter for one kind of server; what is special of it is in the methods that have no body here.

    Subclasses set ``name``, ``default_image`` and ``warmup_s``, as :class:`~pytest_vastgpu.servers.base.Adapter` says.
    """

    name: str
    default_image: str
    warmup_s: float
    kind: str = ""
    """How the rules for verdicts call this kind of server, as ``vastgpu classify --help`` lists them: ``vllm``, …

    Empty for any server; also a name of your own, for which there are no rules of its own.
    """

    key_header: str = http_probe.KEY_HEADER
    """The header with the instance's key that clients and questions send, up to the key: ``X-Api-Key:`` and a space.

    A server that requires no key ignores it.
    """

    @abstractmethod
    def launch(self, workload: Workload, api_key: str) -> Launch:
        """See :meth:`~pytest_vastgpu.Adapter.launch`."""

    @abstractmethod
    def questions(self, workload: Workload) -> Sequence[Question]:
        """What the server is asked."""

    @abstractmethod
    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """The result that the answers alone give; None if they give none.

        :param answers: By the questions' names; without those that were not asked yet.
        """

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        """What clients send: :attr:`key_header`."""
        name, _, before = self.key_header.partition(": ")
        return {name: before + api_key}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        """The server's answers, in one round trip, and the state of the system around it."""
        return (probe(workload.port, self.questions(workload), self.key_header), *SURROUNDINGS)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """Ready by its answers; failed by its exit, by its log once it shows nothing new, or by the loss of a GPU.

        A server that answers without the rented GPU has failed, too.
        """
        context = f"gpus={workload.gpus}"
        if seen.exit_code is not None:
            return Failed(judge_end(seen.log, server=self.kind, context=context, exit_code=seen.exit_code))
        judged = judge_log(seen.log, server=self.kind, context=context, still_s=seen.still_s)
        asked = seen.probes.get(PROBE)
        found = self.served(workload, http_probe.answers(asked.stdout) if asked else {})
        if isinstance(found, Failed):
            return found
        if isinstance(found, Ready) and judged.verdict.reason != BUILT_WITHOUT_GPU.reason:
            return found
        if ends_start(judged.verdict):
            return Failed(judged.verdict)
        lost = gpu_trouble(workload, seen.probes.get("gpu"))
        if lost:
            return Failed(lost)
        return found if isinstance(found, Warming) else Warming(judged.progress)


def wrong(reason: str, evidence: str, remedy: str) -> Failed:
    """A start that would fail in the same way on every machine."""
    return Failed(Verdict(FailureClass.WORKLOAD_FATAL, reason, evidence, remedy))
