from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pytest_vastgpu.diagnosis.hangs import STILL_S
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Probe
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.base import by_name
from pytest_vastgpu.servers.base import checked
from pytest_vastgpu.servers.command import CommandAdapter
from pytest_vastgpu.servers.command import command
from pytest_vastgpu.servers.registry import ENTRY_POINT_GROUP
from pytest_vastgpu.servers.registry import adapters
from pytest_vastgpu.servers.system_probes import SURROUNDINGS
from pytest_vastgpu.servers.vllm import IMAGE_CUDA
from pytest_vastgpu.servers.vllm import VllmAdapter
from pytest_vastgpu.servers.vllm import vllm
from tests.diagnosis.samples import logs

NASTY = """it's "$HOME"; exit 3 `id` *\n\\"""


def result(name: str, stdout: str, exit_code: int = 0) -> ProbeResult:
    failure = ProbeFailure.COMMAND if exit_code else ProbeFailure.NONE
    return ProbeResult(name, failure, exit_code, stdout, "", 0.1)


def start(launch: Launch, tool: str, tmp_path: Path) -> list[str]:
    """Run a start script for real, with a stand-in for the server that writes down how it was called."""
    out = tmp_path / "called"
    folder = tmp_path / "bin"
    folder.mkdir()
    note = f"import os, sys; open({str(out)!r}, 'w').write('\\0'.join([*sys.argv[1:], os.environ['VLLM_API_KEY']]))"
    (folder / tool).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(note)} "$@"\n')
    (folder / tool).chmod(0o755)
    env = {"PATH": str(folder), **launch.env}
    assert "key" not in launch.script
    subprocess.run(["/bin/sh", "-c", launch.script], env=env, check=True, timeout=30)
    return out.read_text().split("\0")


def test_vllm_starts_on_the_loopback_with_every_value_quoted(tmp_path: Path) -> None:
    workload = vllm(NASTY, "--max-model-len=512", NASTY, port=8123)
    called = start(VllmAdapter().launch(workload, "the-key"), "vllm", tmp_path)
    arguments = ["--host", "127.0.0.1", "--port", "8123", "--served-model-name", NASTY, "--max-model-len=512", NASTY]
    assert called == ["serve", NASTY, *arguments, "the-key"]


def test_vllm_without_its_command_starts_the_module(tmp_path: Path) -> None:
    called = start(VllmAdapter().launch(vllm("tiny"), "the-key"), "python3", tmp_path)
    assert called[:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "tiny"]
    assert called[-1] == "the-key"


def test_vllm_needs_what_its_image_needs() -> None:
    assert vllm("m").cuda == IMAGE_CUDA
    assert vllm("m", image="mine").cuda == 0.0
    assert vllm("m", gpus=0).cuda == 0.0
    assert vllm("m", "-x", env={"B": "2", "A": "1"}) == vllm("m", "-x", env={"A": "1", "B": "2"})
    assert "secret" not in repr(vllm("m", env={"HF_TOKEN": "secret"}))


@pytest.mark.parametrize("adapter", [VllmAdapter(), CommandAdapter()])
def test_a_client_sends_the_key(adapter: VllmAdapter | CommandAdapter) -> None:
    assert adapter.headers(vllm("m"), "k") == {"Authorization": "Bearer k"}


READY = '\n@@ health 200\n{"data": [{"id": "tiny"}]}\n@@ models 200\n{"choices": [{"text": ""}]}\n@@ completion 200\n'


@pytest.mark.parametrize(
    ("log", "answers", "exit_code", "expected"),
    [
        ("", "", None, Warming(Progress("starting"))),
        ("good-vllm-serve-quiet-1", "", None, Warming(Progress("serving"))),
        ("good-vllm-serve-quiet-1", READY, None, Ready()),
        ("", READY, None, Ready()),
        ("", READY.replace("@@ completion 200", "@@ completion 000"), None, Warming(Progress("serving"))),
        ("", READY.replace("[{", "{"), None, Warming(Progress("starting"))),
    ],
)
def test_where_vllm_stands(log: str, answers: str, exit_code: int | None, expected: Readiness) -> None:
    seen = Observation({"answers": result("answers", answers)}, logs().get(log, ""), exit_code, 1.0)
    assert VllmAdapter().assess(vllm("tiny"), seen) == expected


@pytest.mark.parametrize(
    ("log", "answers", "exit_code", "failure", "reason"),
    [
        ("fail-port-in-use", "", 1, FailureClass.WORKLOAD_FATAL, "address_in_use"),
        ("fail-worker-sigkill-during-start", "", 1, FailureClass.UNKNOWN, "server_exited"),
        ("crash-enginecore-sigkill-while-serving", READY, 0, FailureClass.UNKNOWN, "server_died_after_ready"),
        ("", READY.replace("tiny", "other"), None, FailureClass.WORKLOAD_FATAL, "model_not_listed"),
        ("", "", 137, FailureClass.UNKNOWN, "server_exited"),
    ],
)
def test_how_vllm_is_lost(log: str, answers: str, exit_code: int | None, failure: FailureClass, reason: str) -> None:
    seen = Observation({"answers": result("answers", answers)}, logs().get(log, ""), exit_code, 1.0)
    found = VllmAdapter().assess(vllm("tiny"), seen)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (failure, reason)
    assert found.verdict.remedy


def test_a_gpu_that_goes_away_ends_the_start() -> None:
    gone = result("gpu", "Unable to determine the device handle for GPU0000:41:00.0: Unknown Error\n", 255)
    fine = result("gpu", "| NVIDIA-SMI 550.54.14  Driver Version: 550.54.14  CUDA Version: 12.4 |\n")
    for adapter, builder in ((VllmAdapter(), vllm), (CommandAdapter(), command)):
        found = adapter.assess(builder("x"), Observation({"gpu": gone}, "", None, 1.0))
        assert isinstance(found, Failed)
        assert found.verdict.reason == "gpu_fallen_off_bus"
        assert isinstance(adapter.assess(builder("x"), Observation({"gpu": fine}, "", None, 1.0)), Warming)
        assert isinstance(adapter.assess(builder("x", gpus=0), Observation({"gpu": gone}, "", None, 1.0)), Warming)


BUILDERS = ((VllmAdapter(), vllm), (CommandAdapter(), command))


@pytest.mark.parametrize(("adapter", "builder"), BUILDERS)
def test_words_in_a_log_condemn_a_server_only_when_it_has_ended_or_stands_still(
    adapter: VllmAdapter | CommandAdapter, builder: Callable[..., Workload]
) -> None:
    log = "OSError: [Errno 98] Address already in use\n"
    workload = builder("serve", gpus=0)
    for still_s in (0.0, 30.0, STILL_S - 1):
        seen = Observation({}, log, None, 999.0, still_s)
        assert adapter.assess(workload, seen) == Warming(Progress("starting"))
    for seen in (Observation({}, log, 1, 1.0), Observation({}, log, None, 999.0, STILL_S)):
        found = adapter.assess(workload, seen)
        assert isinstance(found, Failed)
        assert found.verdict.reason == "address_in_use"


def test_a_server_that_answers_without_its_gpu_has_failed() -> None:
    log = 'level=INFO msg="inference compute" id=cpu library=cpu\n'
    seen = Observation({"answers": result("answers", "\n@@ ready 200\n")}, log, None, 1.0)
    found = CommandAdapter().assess(command("serve"), seen)
    assert isinstance(found, Failed)
    assert found.verdict.failure_class is FailureClass.INFRA_FATAL
    assert CommandAdapter().assess(command("serve", gpus=0), seen) == Ready()


@pytest.mark.parametrize(
    ("log", "answers", "progress"),
    [
        ("", "", Progress("starting")),
        ("", "\n@@ ready 503\n", Progress("answering")),
        ("Loading safetensors checkpoint shards:  38% | 3/8 [00:01<00:03]\n", "", Progress("weights", 3, 8)),
        ("Loading safetensors checkpoint shards:  38% | 3/8 [00:01]\n", "\n@@ ready 503\n", Progress("weights", 3, 8)),
    ],
)
def test_how_far_an_unknown_server_is(log: str, answers: str, progress: Progress) -> None:
    seen = Observation({"answers": result("answers", answers)}, log, None, 1.0)
    assert CommandAdapter().assess(command("serve", gpus=0), seen) == Warming(progress)


@pytest.mark.parametrize("probe", SURROUNDINGS, ids=lambda probe: probe.name)
def test_surroundings_are_asked_for_seldom_and_on_any_machine(probe: Probe) -> None:
    done = subprocess.run(["/bin/sh", "-c", probe.command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert probe.every_s >= 10


def test_any_command(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text("print('hello')")
    workload = command(
        "python3 serve.py", port=9000, ready_path="/up", files={"serve.py": script}, env={"A": "b"}, gpus=0
    )
    assert workload.files == (("serve.py", str(script)),)
    assert CommandAdapter().launch(workload, "the-key") == Launch("python3 serve.py\n")
    assert hash(workload) == hash(
        command(
            "python3 serve.py", port=9000, ready_path="/up", files={"serve.py": str(script)}, env={"A": "b"}, gpus=0
        )
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": "x", "files": {"a": "/nowhere/b"}}, "/nowhere/b (for 'a') cannot be read (No such file"),
        (
            {"command": "x", "files": ["a.py"]},
            "files of the workload is a list; give a mapping, such as {'server.py': ",
        ),
        ({"command": "x", "files": "a.py"}, "files of the workload is a str; give a mapping"),
        ({"command": "x", "env": ["A=b"]}, "env of the workload is a list; give a mapping, such as {'NAME': 'value'}"),
        ({"command": "x", "files": {"../a": "/etc/hostname"}}, "'../a' must be a path below"),
        ({"command": "x", "files": {"/a": "/etc/hostname"}}, "'/a' must be a path below"),
    ],
)
def test_bad_commands(arguments: Mapping[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        command(**arguments)  # type: ignore[arg-type] # a table of arguments
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Mine:
    name = "mine"
    default_image = "mine:1"
    warmup_s = 60.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        return Launch("exec mine\n")

    def headers(self, workload: Workload, api_key: str) -> Mapping[str, str]:
        return {}

    def probes(self, workload: Workload) -> tuple[Probe, ...]:
        return ()

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        return Ready()


class Ending(Mine):
    def __init__(self) -> None:
        raise SystemExit("this module\nis a program")


INSTANCE = Mine()


def point(value: str, name: str = "mine") -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINT_GROUP)


def test_adapters_by_name() -> None:
    assert {"vllm", "command"} <= set(by_name(adapters()))
    assert by_name([(INSTANCE, "a conftest file")])["mine"] is INSTANCE
    assert isinstance(by_name(adapters([point(f"{__name__}:Mine")]))["mine"], Mine)
    assert by_name(adapters([point(f"{__name__}:INSTANCE")]))["mine"] is INSTANCE


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no.such.module:Adapter", "cannot be loaded: ModuleNotFoundError"),
        (f"{__name__}:Nothing", "cannot be loaded: AttributeError"),
        (f"{__name__}:Ending", "cannot be loaded: SystemExit: this module is a program"),
        (f"{__name__}:READY", "is no adapter: it lacks launch, headers, probes, assess, name"),
    ],
)
def test_a_broken_entry_point_is_named(value: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        adapters([point(value)])
    assert words in str(caught.value)
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_taken_twice_names_both() -> None:
    with pytest.raises(ConfigurationError, match=r"'mine': one of entry point mine = .*:Mine, one of a conftest file"):
        by_name([*adapters([point(f"{__name__}:Mine")]), (INSTANCE, "a conftest file (Mine)")])


def test_what_is_no_adapter() -> None:
    with pytest.raises(ConfigurationError, match=r"a conftest file gave builtins\.object, which is no adapter"):
        checked(object(), "a conftest file")
