"""The adapter for Ollama: its start script with a stand-in for the program, its questions by HTTP, its verdicts."""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_vastgpu.diagnosis.stages import progress_of
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.ollama import IMAGE_COMPUTE_CAP
from pytest_vastgpu.servers.ollama import IMAGE_CUDA
from pytest_vastgpu.servers.ollama import OllamaAdapter
from pytest_vastgpu.servers.ollama import full_name
from pytest_vastgpu.servers.ollama import ollama
from pytest_vastgpu.servers.questions import PROBE
from tests.support import ollama_stand_in
from tests.support.looks import free_port
from tests.support.looks import until

slow = pytest.mark.slow
ADAPTER = OllamaAdapter()
NASTY = """it's "$HOME"; exit 3 `id` *"""


@dataclass
class Started:
    """A start script that runs, with the stand-in for Ollama."""

    workload: Workload
    process: subprocess.Popen[bytes]
    directory: Path
    env: dict[str, str]

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def assess(self) -> Readiness:
        """The adapter's look at it, with its probe run for real."""
        (probe, *_) = ADAPTER.probes(self.workload)
        done = subprocess.run(
            ["sh", "-c", probe.command], env=self.env, capture_output=True, text=True, timeout=60, check=True
        )
        result = ProbeResult(PROBE, ProbeFailure.NONE, 0, done.stdout, "", 0.1)
        return ADAPTER.assess(self.workload, Observation({PROBE: result}, self.log, self.process.poll(), 1.0))

    def verdict(self) -> tuple[int, FailureClass, str]:
        """How it ended."""
        code = self.process.wait(timeout=60)
        found = ADAPTER.assess(self.workload, Observation({}, self.log, code, 1.0))
        assert isinstance(found, Failed)
        assert found.verdict.remedy
        return code, found.verdict.failure_class, found.verdict.reason

    def processes(self) -> list[str]:
        """The command lines of all its processes that are left."""
        return processes_with(self.directory)


def processes_with(key: Path) -> list[str]:
    """The command lines of all processes that have this key in their environment."""
    left = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"VASTGPU_API_KEY={key}\0".encode() in (place / "environ").read_bytes():
                left.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in left if line and not line.startswith("sleep 1 ")]


@contextlib.contextmanager
def started(directory: Path, workload: Workload, does: str = "") -> Iterator[Started]:
    """Start it as an instance does; what is left of it at the end is ended."""
    directory.mkdir(exist_ok=True)
    program = directory / "ollama"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, ollama_stand_in.__file__])} "$@"\n')
    program.chmod(0o755)
    launch = ADAPTER.launch(workload, "key")
    env = {"PATH": f"{directory}:{os.environ['PATH']}", "VASTGPU_API_KEY": str(directory), "STAND_IN": does}
    env |= {**launch.env, **dict(workload.env)}
    command = ["sh", "-c", launch.script]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Started(workload, process, directory, env)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def local(model: str = "tiny", **fields: object) -> Workload:
    return ollama(model, port=free_port(), **fields)  # type: ignore[arg-type] # each test gives what there is


# --- the start --------------------------------------------------------------------------------------------------------


def test_it_pulls_and_loads_the_model_and_is_ready_once_it_has_one_token(tmp_path: Path) -> None:
    with started(tmp_path, local(NASTY + "/tiny"), "held") as start:
        until(start.assess, lambda found: found == Warming(Progress("downloading", 42, 100)))
        (tmp_path / "go").touch()
        until(start.assess, lambda found: found == Ready())
        percents = [line for line in start.log.splitlines() if line.startswith("pulling")]
        assert percents[0] == "pulling 74701a8c35f6:  42%", "without what a terminal is told"
        assert len(set(percents)) == len(percents), "each once"
        assert "OLLAMA_KEEP_ALIVE:-1" in start.log, "it stays loaded"
        steps = [progress_of(line) for line in start.log.splitlines() if line.startswith("vastgpu: ollama ")]
        assert steps == [Progress("downloading"), Progress("weights")]
        start.process.terminate()
        assert start.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert start.processes() == []


@pytest.mark.parametrize(
    ("does", "code", "failure", "reason", "printed"),
    [
        ("missing", 1, FailureClass.WORKLOAD_FATAL, "model_repo_not_found", "Error: pull model manifest: file does n"),
        pytest.param(
            "unreachable", 1, FailureClass.INFRA_FATAL, "host_dns_broken", "lookup registry.ollama.ai", marks=slow
        ),
        pytest.param(
            "too_big",
            1,
            FailureClass.INCOMPATIBLE,
            "host_ram_too_small",
            "Error: model requires more system memory",
            marks=slow,
        ),
        (
            "dies",
            2,
            FailureClass.UNKNOWN,
            "unexplained_error",
            "ollama serve ended with exit code 2 while this was asked",
        ),
    ],
)
def test_a_start_ends_with_the_message_of_what_failed(
    tmp_path: Path, does: str, code: int, failure: FailureClass, reason: str, printed: str
) -> None:
    with started(tmp_path, local(), does) as start:
        assert start.verdict() == (code, failure, reason)
        assert printed in start.log
        assert start.processes() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=slow)])
def test_a_signal_ends_a_pull_and_its_server(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, local(), "held") as start:
        until(lambda: start.log, lambda log: "42%" in log)
        start.process.send_signal(number)
        assert start.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert start.processes() == []


@slow
def test_a_signal_before_any_command_of_the_script_leaves_nothing_running(tmp_path: Path) -> None:
    """Bash counts the commands of the script itself, and sends the signal before the nth, up to the last one."""
    program = tmp_path / "ollama"
    program.write_text("""#!/bin/sh
case $1 in
  serve) touch serves; exec sleep 1000 ;;
  list) [ -e serves ] ;;
esac
""")
    program.chmod(0o755)
    script = ADAPTER.launch(local(), "key").script
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VASTGPU_API_KEY": str(tmp_path)}
    served_at = []
    for nth in range(1, 100):
        count = f"""
set -T
trap 'case "$BASHPID $((++nth)) $BASH_COMMAND" in
  "$$ {nth} "*) kill $$ ;;
  *" wait \\"\\$server\\"") touch last; kill $$ ;;
esac' DEBUG
"""
        command = ["bash", "-c", count + script]
        process = subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            assert process.wait(timeout=60) in (-signal.SIGTERM, 128 + signal.SIGTERM), nth
            if (tmp_path / "serves").exists():
                (tmp_path / "serves").unlink()
                served_at.append(nth)
            assert processes_with(tmp_path) == [], nth
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if (tmp_path / "last").exists():
            break
    else:
        pytest.fail("the script never came to its last command")
    assert len(served_at) > 20


@slow
def test_a_server_that_is_killed_while_it_pulls_is_told(tmp_path: Path) -> None:
    with started(tmp_path, local(), "held") as start:
        until(lambda: start.log, lambda log: "42%" in log)
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (place / "cmdline").read_bytes().endswith(b"\0serve\0") and (
                    f"VASTGPU_API_KEY={tmp_path}\0".encode() in (place / "environ").read_bytes()
                ):
                    os.kill(int(place.name), signal.SIGKILL)
        assert start.process.wait(timeout=60) == 128 + signal.SIGKILL
        assert (
            "vastgpu: ollama serve ended with exit code 137 while this was asked of it: ollama pull tiny" in start.log
        )
        assert start.processes() == []


@slow
def test_a_port_that_is_taken_is_told_by_whoever_has_it(tmp_path: Path) -> None:
    taken = (1, FailureClass.WORKLOAD_FATAL, "address_in_use")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with started(tmp_path / "a", ollama("tiny", port=other.server_address[1])) as start:
                assert start.verdict() == taken
        finally:
            other.shutdown()
            thread.join()
    workload = local()
    with started(tmp_path / "b", workload) as first:
        until(first.assess, lambda found: found == Ready())
        with started(tmp_path / "c", workload) as second:
            assert second.verdict() == taken
            assert "by another Ollama" in second.log


@slow
def test_a_model_is_made_from_a_modelfile_among_the_files(tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM ./tiny.gguf\n")
    with started(tmp_path, local("mine", files={"Modelfile": tmp_path / "Modelfile"}, modelfile="Modelfile")) as start:
        until(start.assess, lambda found: found == Ready())


@slow
def test_a_model_that_only_embeds_is_ready_when_it_has(tmp_path: Path) -> None:
    with started(tmp_path, local(), "embeds") as start:
        until(start.assess, lambda found: found == Ready())


@slow
def test_what_the_user_sets_is_kept(tmp_path: Path) -> None:
    assert ADAPTER.launch(ollama("m", env={"OLLAMA_KEEP_ALIVE": "10m"}), "k").env == {}
    with started(tmp_path, local(env={"OLLAMA_KEEP_ALIVE": "10m"})) as start:
        until(lambda: start.log, lambda log: "OLLAMA_KEEP_ALIVE:10m" in log)


# --- the GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "gpus", "expected"),
    [
        ("half", 1, (FailureClass.INCOMPATIBLE, "vram_too_small")),
        pytest.param("none", 1, (FailureClass.UNKNOWN, "serves_without_gpu"), marks=slow),
        pytest.param("none", 0, None, marks=slow),
    ],
)
def test_a_model_on_the_cpu_is_a_failure_where_gpus_were_rented(
    tmp_path: Path, does: str, gpus: int, expected: tuple[FailureClass, str] | None
) -> None:
    with started(tmp_path, local(gpus=gpus), does) as start:
        found = until(start.assess, lambda found: not isinstance(found, Warming))
    assert (
        (found.verdict.failure_class, found.verdict.reason) == expected if isinstance(found, Failed) else not expected
    )
    if isinstance(found, Failed):
        assert "of 1.0 GB of the model are in GPU memory" in found.verdict.evidence


ANSWERED = '\n@@ tags 200\n{"response": "x"}\n@@ token 200\n'


@pytest.mark.parametrize(
    ("sizes", "ready"),
    [
        ('"size": 1000, "size_vram": 1000', True),
        ('"size": 1000, "size_vram": 996', True),
        ('"size": 1000, "size_vram": 990', False),
        ('"size": 1000', False),
        ('"size": "?"', None),
    ],
)
def test_the_share_on_the_cpu_counts_as_ollama_ps_rounds_it(sizes: str, ready: bool | None) -> None:
    for names in ('"name": "m:latest"', '"name": "x", "model": "m:latest"'):
        answers = ANSWERED + f'{{"models": [3, {{"name": "other"}}, {{{names}, {sizes}}}]}}\n@@ loaded 200\n'
        result = ProbeResult(PROBE, ProbeFailure.NONE, 0, answers, "", 0.1)
        found = ADAPTER.assess(ollama("m"), Observation({PROBE: result}, "", None, 1.0))
        assert type(found) is {True: Ready, False: Failed, None: Warming}[ready]


@pytest.mark.parametrize(
    "loaded", ["", "{}\n@@ loaded 200\n", "no\n@@ loaded 500\n", '{"models": []}\n@@ loaded 200\n']
)
def test_a_model_that_is_not_loaded_is_waited_for(loaded: str) -> None:
    result = ProbeResult(PROBE, ProbeFailure.NONE, 0, ANSWERED + loaded, "", 0.1)
    log = 'level=INFO source=server.go:1 msg="loading model" "model layers"=2\n'
    found = ADAPTER.assess(ollama("m"), Observation({PROBE: result}, log, None, 1.0))
    assert found == Warming(Progress("weights"))


def test_a_gpu_that_is_not_discovered_is_the_hosts_fault_before_anything_is_pulled() -> None:
    log = 'level=INFO source=types.go:60 msg="inference compute" id=cpu library=cpu compute="" name=cpu\n'
    found = ADAPTER.assess(ollama("m"), Observation({}, log, None, 1.0))
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.INFRA_FATAL, "no_gpu_in_container")
    assert isinstance(ADAPTER.assess(ollama("m", gpus=0), Observation({}, log, None, 1.0)), Warming)


def test_a_model_that_answers_nothing_is_the_workloads_fault() -> None:
    answers = "\n@@ tags 200\nno generate\n@@ token 400\nno embed\n@@ embedding 400\n"
    found = ADAPTER.assess(
        ollama("m"), Observation({PROBE: ProbeResult(PROBE, ProbeFailure.NONE, 0, answers, "", 0.1)}, "", None, 1.0)
    )
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.WORKLOAD_FATAL, "model_answers_nothing")
    assert "no generate" in found.verdict.evidence
    assert "no embed" in found.verdict.evidence


# --- the builder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "full"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("hf.co/org/model-GGUF", "hf.co/org/model-GGUF:latest"),
        ("127.0.0.1:5000/library/tiny", "127.0.0.1:5000/library/tiny:latest"),
        ("library/tiny", "tiny:latest"),
        ("registry.ollama.ai/library/tiny:1b", "tiny:1b"),
        ("registry.ollama.ai/me/tiny", "me/tiny:latest"),
        ("https://hf.co/org/model-GGUF:Q4_K_M", "hf.co/org/model-GGUF:Q4_K_M"),
    ],
)
def test_a_model_is_looked_for_under_the_name_that_ollama_lists(model: str, full: str) -> None:
    assert full_name(model) == full
    assert ADAPTER.questions(ollama(model))[0].holds == f'"{full}"'


def test_every_parameter_is_documented() -> None:
    for parameter in inspect.signature(ollama).parameters:
        assert f":param {parameter}:" in (ollama.__doc__ or ""), parameter


def test_it_needs_what_its_image_needs() -> None:
    assert (ollama("m").cuda, ollama("m").compute_cap) == (IMAGE_CUDA, IMAGE_COMPUTE_CAP)
    assert ollama("m", cuda=13.0).cuda == 13.0
    for other in (ollama("m", image="mine"), ollama("m", gpus=0)):
        assert (other.cuda, other.compute_cap) == (0.0, 0.0)


def test_a_modelfile_that_is_no_text_is_told_by_its_name() -> None:
    with pytest.raises(WorkloadInvalid, match="modelfile=3 of the workload is of type int, not text"):
        ollama("mine", modelfile=3)  # type: ignore[arg-type] # on purpose


def test_a_modelfile_that_is_not_brought_along_is_refused() -> None:
    with pytest.raises(WorkloadInvalid, match="modelfile='Modelfile' of the workload is none of its files: add it"):
        ollama("mine", modelfile="Modelfile")
