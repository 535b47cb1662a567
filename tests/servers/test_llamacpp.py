"""The builder of llama.cpp, its start script, and the server of the wheel."""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vastgpu import llamacpp
from pytest_vastgpu.diagnosis.stages import progress_of
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.waiting import stage
from pytest_vastgpu.servers import xllamacpp_server
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.llamacpp import CPU_IMAGE
from pytest_vastgpu.servers.llamacpp import IMAGE_COMPUTE_CAP
from pytest_vastgpu.servers.llamacpp import IMAGE_CUDA
from pytest_vastgpu.servers.llamacpp import LlamaCppAdapter
from tests.support import tiny_gguf

HUB = "ggml-org/gemma-3-1b-it-GGUF:Q8_0"
NASTY = """it's "$HOME"; exit 3 `id` *"""
ADAPTER = LlamaCppAdapter()


# ---------------------------------------------------------------- the builder


def files_of(workload: Workload) -> dict[str, str]:
    return dict(workload.files)


def source_of(workload: Workload) -> str:
    return dict(workload.details)["source"]


def test_a_gguf_file_of_this_machine_is_brought_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_gguf.write(tmp_path / "tiny-q4.gguf")
    monkeypatch.chdir(tmp_path)
    for given in (file, str(file), "tiny-q4.gguf", Path("tiny-q4.gguf")):
        workload = llamacpp(given)
        assert files_of(workload) == {"tiny-q4.gguf": str(file)}
        assert (workload.model, source_of(workload)) == ("tiny-q4", "tiny-q4.gguf")
    assert llamacpp(file, alias="mine").model == "mine"


def test_a_model_in_several_files_is_brought_whole(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    for part in parts:  # llama.cpp is given the first one
        workload = llamacpp(part)
        assert files_of(workload) == {each.name: str(each) for each in parts}
        assert (workload.model, source_of(workload)) == ("big", parts[0].name)
    parts[1].unlink()
    with pytest.raises(ConfigurationError, match=r"big-00002-of-00002\.gguf.*cannot be read"):
        llamacpp(parts[0])


@pytest.mark.parametrize(
    ("model", "files", "name", "source"),
    [
        ("/models/qwen.gguf", {}, "qwen", "/models/qwen.gguf"),
        ("/models/qwen", {}, "qwen", "/models/qwen"),
        ("brought.gguf", {"brought.gguf": __file__}, "brought", "brought.gguf"),
        (HUB, {}, HUB, f"hf:{HUB}"),
        ("org/model", {}, "org/model", "hf:org/model"),
    ],
)
def test_a_model_that_is_not_here(model: str, files: dict[str, str], name: str, source: str) -> None:
    workload = llamacpp(model, files=files)
    assert (workload.model, source_of(workload)) == (name, source)
    assert files_of(workload).keys() == files.keys()


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("tiny.gguf", {}, r"is no file here \('/.*/tiny\.gguf'\), no absolute path in the image, and no repository"),
        ("models/tiny.gguf", {}, "is no file here"),
        ("tiny", {}, "'org/model:Q4_K_M'"),
        ("", {}, "model of the workload is empty"),
        (7, {}, "model of the workload is of type int"),
        (Path("nowhere.gguf"), {}, "nowhere.gguf.* cannot be read"),
        (Path("tests"), {}, "tests is a directory; name the GGUF file in it"),
        ("org/model", {"alias": "a,b"}, "comma"),
        ("org/model", {"alias": 3}, "alias of the workload is of type int"),
        ("org/model", {"ctx_size": -1}, "ctx_size=-1 of the workload is not a whole number"),
        ("org/model", {"gpu_layers": "all"}, "gpu_layers='all' of the workload is not a whole number"),
        ("org/model", {"files": ["a"]}, "files of the workload is a list"),
        ("org/model", {"contxt": 3}, "unexpected keyword argument 'contxt'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_rented(model: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        llamacpp(model, **more)


@pytest.mark.parametrize("argument", [3, ["--parallel", "4"]])
def test_an_argument_that_is_no_text_is_said(argument: Any) -> None:
    with pytest.raises(ConfigurationError, match="which is not text: give each argument as a text of its own"):
        llamacpp("org/model", argument)


@pytest.mark.parametrize(
    ("argument", "instead"),
    [("--alias", "alias="), ("-ngl", "gpu_layers="), ("-c", "ctx_size="), ("--port", "port="), ("--api-key", "key")],
)
def test_an_argument_that_a_parameter_has_is_refused(argument: str, instead: str) -> None:
    with pytest.raises(ConfigurationError, match=f"args of the workload hold '{argument}'; give .*{instead}"):
        llamacpp("org/model", argument, "x")


@pytest.mark.parametrize("name", ["big/model.bin", "model.bin", "./big/model.bin"])
def test_a_file_of_another_name_is_not_taken_for_a_repository(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    file = tiny_gguf.write(tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"is a file here, but its name does not end in .gguf; give Path\("):
        llamacpp(name)
    assert set(files_of(llamacpp(Path(name))).values()) == {str(file)}


def test_a_directory_may_have_the_name_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert source_of(llamacpp("org/model")) == "hf:org/model"


def test_a_home_that_is_not_there_is_no_crash() -> None:
    for model in ("~no-such-user/x.gguf", Path("~no-such-user/x.gguf")):
        with pytest.raises(ConfigurationError, match=r"'~no-such-user/x.gguf' leads nowhere .*; give an absolute path"):
            llamacpp(model)


def test_an_argument_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"args of the workload hold \['x'\], which is not text"):
        llamacpp("org/model", ["x"])  # type: ignore[arg-type] # the point


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(ConfigurationError, match="neither a file nor a directory"):
        llamacpp(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        (b"PK\3\4", "begins with b'PK"),
        (b"", "begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, begins: bytes, words: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(begins)
    with pytest.raises(ConfigurationError, match=f"model.gguf is no GGUF file, it .*{words}"):
        llamacpp(file)


def test_what_the_images_need() -> None:
    rented = llamacpp(HUB)
    assert (rented.image, rented.cuda, rented.compute_cap) == ("", IMAGE_CUDA, IMAGE_COMPUTE_CAP)
    assert (llamacpp(HUB, cuda=13.0).cuda, llamacpp(HUB, compute_cap=9.0).compute_cap) == (13.0, 9.0)
    other = llamacpp(HUB, image="mine")
    assert (other.image, other.cuda, other.compute_cap) == ("mine", 0.0, 0.0)
    without = llamacpp(HUB, gpus=0)
    assert (without.image, without.cuda, without.compute_cap) == (CPU_IMAGE, 0.0, 0.0)


def test_every_parameter_is_explained() -> None:
    assert llamacpp.__doc__
    for name in inspect.signature(llamacpp).parameters:
        assert f":param {name}:" in llamacpp.__doc__


# ---------------------------------------------------------------- the start


def start(workload: Workload, tmp_path: Path, **tools: str) -> list[str]:
    """Run a start script for real; each tool is a stand-in that runs a shell command."""
    launch = ADAPTER.launch(workload, "the-key")
    assert "the-key" not in launch.script
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in tools.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    env = {"PATH": str(folder), **launch.env, **dict(workload.env)}
    subprocess.run(["/bin/sh", "-c", launch.script], env=env, check=True, timeout=30)
    return (tmp_path / "called").read_text().split("\0")


def notes(tmp_path: Path, *variables: str) -> str:
    wanted = [f"os.environ.get({name!r}, '')" for name in variables]
    told = f"'\\0'.join([*sys.argv[1:], {', '.join(wanted)}])"
    code = f"import os, sys; open({str(tmp_path / 'called')!r}, 'w').write({told})"
    return f'exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"'


@pytest.mark.parametrize(
    ("workload", "arguments"),
    [
        (llamacpp(HUB), ["--hf-repo", HUB, "--gpu-layers", "999"]),
        (llamacpp(HUB, gpus=0), ["--hf-repo", HUB]),
        (llamacpp("/models/m.gguf", gpu_layers=20), ["--model", "/models/m.gguf", "--gpu-layers", "20"]),
        (
            llamacpp("/m.gguf", gpu_layers=0, ctx_size=512),
            ["--model", "/m.gguf", "--ctx-size", "512", "--gpu-layers", "0"],
        ),
        (llamacpp(f"/{NASTY}", "--jinja", NASTY, gpus=0), ["--model", f"/{NASTY}", "--jinja", NASTY]),
    ],
)
def test_how_the_server_is_started(tmp_path: Path, workload: Workload, arguments: list[str]) -> None:
    called = start(workload, tmp_path, llama_server=notes(tmp_path, "LLAMA_API_KEY", "LLAMA_ARG_LOG_VERBOSITY"))
    assert called == [
        *("--host", "127.0.0.1", "--port", "8080", "--alias", workload.model),
        *arguments,
        *("the-key", "4" if workload.gpus else ""),
    ]


def test_the_user_decides_how_much_the_server_says(tmp_path: Path) -> None:
    workload = llamacpp(HUB, env={"LLAMA_ARG_LOG_VERBOSITY": "3"})
    assert start(workload, tmp_path, llama_server=notes(tmp_path, "LLAMA_ARG_LOG_VERBOSITY"))[-1] == "3"


def test_without_the_command_the_server_of_the_wheel_is_started(tmp_path: Path) -> None:
    python = f'[ "$1" = -c ] || {{ /bin/cat > {shlex.quote(str(tmp_path / "program"))}; {notes(tmp_path)}; }}'
    called = start(llamacpp("/m.gguf", gpus=0), tmp_path, python3=python)
    assert called == ["-", "--host", "127.0.0.1", "--port", "8080", "--alias", "m", "--model", "/m.gguf"]
    assert (tmp_path / "program").read_text() == inspect.getsource(xllamacpp_server)


def test_where_neither_is_there_the_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as missing:
        start(llamacpp("/m.gguf", gpus=0), tmp_path, python3="exit 1")
    assert missing.value.returncode == 127


DOWNLOADS = """
import os, sys, time
from pathlib import Path
cache, log = Path(os.environ["LLAMA_CACHE"]), Path(sys.argv[1])
part = cache / "models--org--m/blobs/0123.downloadInProgress"
part.parent.mkdir(parents=True)
for mb, told in ((200, True), (210, False), (1000, True)):
    with part.open("ab") as file:
        file.truncate(mb * 10**6)
    while told and f"downloading: {mb}" not in log.read_text():
        time.sleep(0.01)
part.rename(cache / "m.gguf")
"""


@pytest.mark.parametrize(
    ("model_gb", "told"),
    [
        (0.0, [Progress("downloading", 200, 0, "MB"), Progress("downloading", 1000, 0, "MB")]),
        (1.2, [Progress("downloading", 200, 1200, "MB"), Progress("downloading", 1000, 1200, "MB")]),
    ],
)
def test_a_download_is_told_while_it_grows(tmp_path: Path, model_gb: float, told: list[Progress]) -> None:
    launch, folder, log = ADAPTER.launch(llamacpp("org/m", model_gb=model_gb), "k"), tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    tools = {
        "llama-server": f"exec {shlex.quote(sys.executable)} -c {shlex.quote(DOWNLOADS)} {shlex.quote(str(log))}",
        "sleep": "exec /bin/sleep 0.01",  # instead of the seconds between two looks
        "find": 'exec /usr/bin/find "$@"',
        "stat": 'exec /usr/bin/stat "$@"',
    }
    for name, does in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    env = {"PATH": str(folder), "LLAMA_CACHE": str(tmp_path / "cache"), **launch.env}
    with log.open("w") as file:
        subprocess.run(["/bin/sh", "-c", launch.script], env=env, stdout=file, check=True, timeout=30)
    progress = [progress_of(line) for line in log.read_text().splitlines()]
    assert [progress[0], progress[-1]] == told
    assert Progress("downloading", 210, told[0].total, "MB") not in progress


def test_nothing_is_looked_for_where_nothing_is_downloaded() -> None:
    assert "downloading" not in ADAPTER.launch(llamacpp("/m.gguf"), "k").script


def test_how_a_download_is_shown() -> None:
    assert str(Progress("downloading", 612, 0, "MB")) == "downloading 612 MB"
    assert str(Progress("downloading", 612, 4800, "MB")) == "downloading 612/4800 MB"
    assert stage(Progress("downloading", 612, 0, "MB")).endswith("downloading 612 MB")
    assert [str(Progress("weights")), str(Progress("weights", 3)), str(Progress("weights", 3, 8))] == [
        "weights",
        "weights",
        "weights 3/8",
    ]


# ---------------------------------------------------------------- the server of the wheel


def parameters(*words: str) -> Any:
    params = SimpleNamespace(model=SimpleNamespace(path=""), cpuparams=SimpleNamespace(n_threads=-1), embedding=False)
    xllamacpp_server.apply(list(words), params)
    return params


def test_the_arguments_of_the_server_reach_the_wheel() -> None:
    params = parameters("--model", "m.gguf", "-t", "3", "--embedding", "--alias", "a", "--port", "81", "-ngl", "999")
    assert (params.model.path, params.cpuparams.n_threads, params.embedding) == ("m.gguf", 3, True)
    assert (params.model_alias, params.port, params.n_gpu_layers) == ({"a"}, 81, 999)


def test_the_wheel_has_a_place_for_every_argument() -> None:
    params = pytest.importorskip("xllamacpp").CommonParams()
    for (name, *_), (path, value) in xllamacpp_server.ARGUMENTS.items():
        xllamacpp_server.apply([name] if isinstance(value, bool) else [name, "7"], params)
        owner, _, attribute = path.rpartition(".")
        found = getattr(getattr(params, owner) if owner else params, attribute)
        assert found in ((value,) if isinstance(value, bool) else (7, "7", {"7"}, ["7"])), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--no-such"], "error: invalid argument: --no-such"),
        (["--port"], 'error while handling argument "--port": expected value for argument'),
        (["--port", "x"], 'error while handling argument "--port": stoi'),
        (["--hf-repo", "org/m"], "error: invalid argument: --hf-repo: xllamacpp downloads no models"),
    ],
)
def test_what_the_server_refuses_the_wheel_refuses_in_its_words(words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        parameters(*words)
    observed = Observation({}, said + "\n", 1, 1.0)
    found = ADAPTER.assess(llamacpp("/m", gpus=0), observed)
    assert isinstance(found, Failed)
    assert (found.verdict.failure_class, found.verdict.reason) == (FailureClass.WORKLOAD_FATAL, "bad_cli_argument")
