from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import Unpack

import pytest

from pytest_vastgpu import Workload
from pytest_vastgpu import command
from pytest_vastgpu import llamacpp
from pytest_vastgpu import sglang
from pytest_vastgpu import triton
from pytest_vastgpu import vllm
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.plugin import marks
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import require_workload

BUILDERS = (vllm, command)
ANY_VLLM: Any = vllm
ANY_COMMAND: Any = command
ANY_WORKLOAD: Any = Workload


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_builder_shows_and_documents_every_parameter(builder: Callable[..., Workload]) -> None:
    parameters = inspect.signature(builder).parameters
    assert set(WorkloadFields.__annotations__) <= set(parameters)
    documented = inspect.getdoc(builder) or ""
    assert [name for name in parameters if f":param {name}: " not in documented] == []


@pytest.mark.parametrize("builder", BUILDERS)
def test_what_a_builder_shows_as_a_default_is_what_it_builds_with(builder: Callable[..., Workload]) -> None:
    built = builder("x", image="mine")
    parameters = inspect.signature(builder).parameters
    needs = [name for name in WorkloadFields.__annotations__ if name != "image"]
    assert {name: getattr(built, name) for name in needs} == {name: parameters[name].default for name in needs}


@pytest.mark.parametrize("builder", [*BUILDERS, marks.vast])
@pytest.mark.parametrize(
    ("name", "nearest"), [("gpu_ram", "gpu_ram_gb"), ("prot", None), ("gpuname", "gpu_name"), ("adapter", None)]
)
def test_a_keyword_that_is_unknown_is_told_with_all_there_are_the_nearest_first(
    builder: Callable[..., Any], name: str, nearest: str | None
) -> None:
    first = [] if builder is marks.vast else ["x"]
    with pytest.raises(TypeError) as caught:
        builder(*first, **{name: 1})
    what, _, known = str(caught.value).partition("; it has ")
    assert what == f"{builder.__name__}() got an unexpected keyword argument {name!r}"
    accepted = set(inspect.signature(builder).parameters) - {"args", "changes"} | set(WorkloadFields.__annotations__)
    assert set(known.split(", ")) == accepted
    assert nearest in (None, known.partition(", ")[0])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: ANY_COMMAND(["python3", "server.py"]),
            "command of the workload is of type list; give text, such as '",
        ),
        (lambda: ANY_COMMAND(b"serve"), "command of the workload is of type bytes; give text"),
        (lambda: ANY_COMMAND(None), "command of the workload is of type NoneType; give text"),
        (lambda: ANY_COMMAND(" "), "command of the workload is empty; give text"),
        (lambda: ANY_VLLM(["org/model"]), "model of the workload is of type list; give text, such as 'org/model'"),
        (lambda: ANY_VLLM(""), "model of the workload is empty"),
        (
            lambda: ANY_VLLM("m", ["--a", "--b"]),
            "args of the workload hold ['--a', '--b'], which is not text: give ",
        ),
        (lambda: ANY_VLLM("m", 3), "args of the workload hold 3, which is not text"),
        (lambda: ANY_VLLM("m", port="8000"), "port='8000' of the workload is not a TCP port"),
        (lambda: ANY_VLLM("m", gpus=1.5), "gpus=1.5 of the workload is not a whole number"),
        (lambda: ANY_VLLM("m", gpus=(1,)), "gpus=(1,) of the workload is not a whole number"),
        (lambda: ANY_VLLM("m", gpu_ram_gb="20"), "gpu_ram_gb='20' of the workload is not a number"),
        (lambda: ANY_VLLM("m", gpu_name=["A", "B"]), "gpu_name=['A', 'B'] of the workload is not text"),
        (lambda: ANY_VLLM("m", image=Path("x")), "of the workload is not text"),
        (lambda: ANY_VLLM("m", env=[("A", "b")]), "env of the workload is a list; give a mapping"),
        (lambda: ANY_VLLM("m", env={"A": 1}), "env of the workload: the value of A is of type int, not text"),
        (lambda: ANY_VLLM("m", env={1: "a"}), "env of the workload: 1 is no name for an environment variable"),
        (
            lambda: ANY_VLLM("m", env={1: "a", "B": "b"}),
            "env of the workload: 1 is no name for an environment variable",
        ),
        (lambda: ANY_COMMAND("x", files={"a": None}), "files: None is of type NoneType, not a path"),
        (lambda: ANY_COMMAND("x", files={1: "/etc/hostname"}), "files: 1 is of type int, not a path"),
        (
            lambda: ANY_COMMAND("x", files={"a": b"/etc/hostname"}),
            "files: b'/etc/hostname' is of type bytes, not a path",
        ),
        (lambda: ANY_COMMAND("x", files={"a": ["b"]}), "files: ['b'] is of type list, not a path"),
        (
            lambda: ANY_COMMAND("x", ready_path="up"),
            "ready_path of the workload must start with '/' and be",
        ),
        (lambda: ANY_COMMAND("x", ready_path="/a b"), "without blanks; it is '/a b'"),
        (lambda: ANY_COMMAND("x", ready_path=None), "ready_path=None of the workload is not text"),
        (lambda: ANY_WORKLOAD("command", args="--a"), "args of the workload is of type str; give a tuple of texts"),
        (lambda: ANY_WORKLOAD("command", env={"A": "b"}), "env of the workload is of type dict; give a tuple of pairs"),
        (lambda: ANY_WORKLOAD("command", files=(("a",),)), "files of the workload is not a tuple of pairs"),
        (lambda: ANY_WORKLOAD("command", files=((Path("a"), "b"),)), "is of type PosixPath, not a path as text"),
        (lambda: ANY_WORKLOAD(3), "adapter=3 of the workload is not text"),
        (
            lambda: "org/model",
            "it is 'org/model', of type str and no workload; vllm('org/model') and command('…') make one",
        ),
        (lambda: {"model": "m"}, "it is of type dict and no workload"),
    ],
)
def test_a_wrong_type_is_one_sentence(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(WorkloadInvalid) as caught:
        require_workload(build(), "it")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda *args: vllm("m", *args),
        lambda *args: sglang("m", *args),
        lambda *args: llamacpp("/m.gguf", *args),
    ],
    ids=["vllm", "sglang", "llamacpp"],
)
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--port", "3"), "args of the workload hold '--port'; give port="),
        (("--port=3",), "args of the workload hold '--port'; give port="),
        (("--x", "--host", "::1"), "args of the workload hold '--host'; give port=; the host is the instance's"),
        (
            ("--api_key=mine",),
            "args of the workload hold '--api_key'; give nothing: each instance has a key of its own",
        ),
    ],
)
def test_an_argument_that_the_plugin_gives_itself_is_refused(
    build: Callable[..., Workload], args: tuple[str, ...], words: str
) -> None:
    with pytest.raises(WorkloadInvalid) as caught:
        build(*args)
    assert str(caught.value).startswith(words)
    assert "mine" not in str(caught.value)


def test_the_ports_of_triton_are_told_apart() -> None:
    with pytest.raises(WorkloadInvalid, match="hold '--http-port'; give port="):
        triton("/models", "--http-port=9000")
    assert triton("/models", "--grpc-port=9001").args == ("--grpc-port=9001",)


@pytest.mark.parametrize(
    "build",
    [
        lambda: vllm("m", files={"a": "nowhere"}),
        lambda: vllm("m", "--port=3"),
        lambda: llamacpp(Path("nowhere.gguf")),
        lambda: triton("nowhere/at/all"),
        lambda: ANY_COMMAND("x", prot=1),
    ],
)
def test_an_error_of_a_builder_shows_the_users_line_and_nothing_of_ours(build: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build()
    text = str(caught.getrepr(style="short"))
    assert [Path(entry.path).name for entry in caught.traceback.filter(caught)] == ["test_workloads.py"] * 2
    assert "The above exception" not in text
    assert "During handling" not in text


def test_what_paths_and_files_there_may_be() -> None:
    files: Any = {"a": Path("/etc/hostname"), Path("b"): "/etc/hosts"}
    workload = command("x", ready_path="/v2/up?full=1&a=%20", files=files)
    assert require_workload(workload, "it") is workload
    assert workload.files == (("a", "/etc/hostname"), ("b", "/etc/hosts"))


def test_builders_and_marker_are_typed() -> None:
    # mypy checks these lines: a wrong name and a wrong type are errors where a test is written.
    assert vllm("m", "--seed=1", gpus=2, gpu_ram_gb=20, env={"A": "b"}).gpus == 2
    assert command("run", port=80, disk_gb=1.5, files=None).disk_gb == 1.5
    with pytest.raises(TypeError):
        vllm("m", gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(TypeError):
        command("run", gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(TypeError):
        marks.vast(gpu_ram=20)  # type: ignore[call-arg] # such a name
    with pytest.raises(WorkloadInvalid, match="gpus='2' of the workload is not a whole number"):
        vllm("m", gpus="2")  # type: ignore[arg-type] # such a type


def test_the_marker_lists_what_it_takes(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess("--markers").stdout.str()
    line = next(line for line in shown.splitlines() if line.startswith("@pytest.mark.vast("))
    assert line.startswith("@pytest.mark.vast(workload=None, *, image, image_login, gpus, gpu_name, gpu_ram_gb,")
    assert [name for name in WorkloadFields.__annotations__ if name not in line] == []


def test_every_field_says_what_it_means() -> None:
    silent = [each.name for each in dataclasses.fields(Workload) if not each.metadata.get("meaning")]
    assert silent == ["adapter"]  # it has no default, and so is declared as it is


def test_a_builder_from_outside_takes_only_names_that_there_are() -> None:
    @builder()
    def mine(what: str, *, port: int = 1, **fields: Unpack[WorkloadFields]) -> Workload:
        return build("mine", command=what, port=port, **fields)

    assert mine("x", port=2, gpus=0) == Workload("mine", command="x", port=2, gpus=0)
    for name in ("command", "gpu"):  # a field of the workload that no builder takes by name, and none
        with pytest.raises(WorkloadInvalid, match=rf"mine\(\) got an unexpected keyword argument '{name}'; it has "):
            mine("x", **{name: "y"})  # type: ignore[arg-type] # on purpose
