"""The builder and the adapter for Triton. Log lines and answers are those of Triton 2.51, as it printed them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import ProbeFailure
from pytest_vastgpu.model import ProbeResult
from pytest_vastgpu.model import Workload
from pytest_vastgpu.reporting.sentences import workload_line
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.triton import IMAGE_COMPUTE_CAP
from pytest_vastgpu.servers.triton import IMAGE_CUDA
from pytest_vastgpu.servers.triton import INFER_MOST
from pytest_vastgpu.servers.triton import TritonAdapter
from pytest_vastgpu.servers.triton import triton

ADAPTER = TritonAdapter()
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for model in ("add", "slow"):
        (tmp_path / "repository" / model / "1").mkdir(parents=True)
    (tmp_path / "repository" / "empty").mkdir()
    return tmp_path / "repository"


# ------------------------------------------------------------------ the builder, and the start


def started(workload: Workload, key: str = "secret") -> list[str]:
    launch = ADAPTER.launch(workload, key)
    assert key not in f"{launch}"
    return shlex.split(launch.script.replace('"${VASTGPU_HOST:-127.0.0.1}"', "HOST"))


def test_a_local_repository_is_brought_along(repository: Path) -> None:
    workload = triton(repository)
    assert workload.files == (("models", str(repository)),)
    assert workload == triton(str(repository))
    words = started(workload)
    assert words[:6] == ["exec", "tritonserver", "--http-address", "HOST", "--model-repository", "models"]
    assert not any("--load-model" in word or "--model-control-mode" in word for word in words)


@pytest.mark.parametrize("place", ["s3://bucket/models", "gs://bucket/models", "/nowhere/here/models"])
def test_another_repository_is_passed_on(place: str) -> None:
    workload = triton(place, env={"AWS_SECRET_ACCESS_KEY": "hush"})
    assert workload.files == ()
    words = started(workload)
    assert words[words.index("--model-repository") + 1] == place
    assert "hush" not in repr(workload)


def test_only_http_can_become_public(repository: Path) -> None:
    words = started(triton(repository, port=9000))
    for option, value in (("http-port", "9000"), ("grpc-address", "127.0.0.1"), ("metrics-address", "127.0.0.1")):
        assert words[words.index(f"--{option}") + 1] == value


def test_only_the_models_that_are_named_are_loaded(repository: Path) -> None:
    words = started(triton(repository, "--log-verbose=1", models={"add": 1}, infer=("slow", BODY)))
    assert words[-4:] == ["--model-control-mode=explicit", "--load-model=add", "--load-model=slow", "--log-verbose=1"]
    own = started(triton(repository, "--model-control-mode=poll", models="add"))
    assert own[-1] == "--model-control-mode=poll"
    assert not any(word.startswith("--load-model") for word in own)


def test_it_needs_what_its_image_needs(repository: Path) -> None:
    assert (triton(repository).cuda, triton(repository).compute_cap) == (IMAGE_CUDA, IMAGE_COMPUTE_CAP)
    assert (triton(repository, cuda=12.4).cuda, triton(repository, compute_cap=9.0).compute_cap) == (12.4, 9.0)
    for other in (triton(repository, image="mine"), triton(repository, gpus=0)):
        assert (other.cuda, other.compute_cap) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"repository": "nowhere"},
            f"repository='nowhere' of the workload does not exist ({str(Path.cwd() / 'nowhere')!r}); give a directory",
        ),
        ({"repository": Path("/nowhere")}, "repository='/nowhere' of the workload does not exist"),
        ({"repository": __file__}, "of the workload is a file; give a directory here"),
        ({"port": 8001}, "port=8001 of the workload is Triton's port for grpc, too; give another one"),
        ({"port": 8002}, "port=8002 of the workload is Triton's port for metrics, too"),
        ({"repository": ""}, "repository of the workload is empty"),
        ({"repository": "/" + "x" * 300}, "of the workload cannot be read (File name too long)"),
        ({"files": ["a"]}, "files of the workload is a list; give a mapping"),
        ({"models": ["adn"]}, "there are: add, "),
        ({"models": "empty"}, "empty' has no version, a directory such as '1'"),
        ({"models": {"add": 2}}, "add' has no version 2; there are: 1"),
        ({"models": {"add": "new"}}, "'new' is no version of 'add'; give a number, such as {'add': 1}"),
        ({"models": []}, "models of the workload is empty; name some, or leave it out"),
        ({"models": ["a/b"]}, "'a/b' is no model's name"),
        ({"models": 3}, "models=3 of the workload is no name and no list"),
        ({"models": [3]}, "3 is no model's name"),
        ({"infer": ("adn", BODY)}, "'adn' is not in "),
        ({"infer": "add"}, "infer of the workload is 'add'; give a model and a JSON body, such as ('add', {"),
        ({"infer": ("add", {"x": {1}})}, "infer of the workload is not JSON: Object of type set"),
        ({"infer": ("add", {"x": float("nan")})}, "infer of the workload is not JSON: Out of range float"),
        ({"infer": ("add", {"x": "y" * INFER_MOST})}, "characters of JSON, more than 100000: give a smaller one"),
        ({"files": ["labels.txt"]}, "files of the workload is a list; give a mapping"),
        ({"files": {"models": "labels.txt"}}, "files of the workload hold 'models', where the repository is brought"),
        ({"model": "add"}, "triton() got an unexpected keyword argument 'model'; it has model"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_rented(
    repository: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        triton(**{"repository": repository, **given})
    assert told in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("argument", [3, ["--log-verbose=1"]])
def test_an_argument_that_is_no_text_is_said(repository: Path, argument: Any) -> None:
    with pytest.raises(WorkloadInvalid, match="which is not text: give each argument as a text of its own"):
        triton(repository, argument)


def test_a_port_that_is_moved_away_is_free(repository: Path) -> None:
    assert triton(repository, "--grpc-port=9001", port=8001).port == 8001
    assert triton(repository, "--allow-metrics=false", port=8002).port == 8002
    with pytest.raises(WorkloadInvalid, match="port for metrics, too"):
        triton(repository, "--metrics-port=8000")


def test_an_empty_directory_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(WorkloadInvalid, match="has no model: each is a directory in it"):
        triton(tmp_path)


def test_models_of_a_second_repository_are_not_looked_for_here(repository: Path) -> None:
    assert triton(repository, "--model-repository=/opt/more", models="theirs")


@pytest.mark.parametrize(
    ("place", "models", "named"),
    [
        (None, ["add", "slow"], "add, slow"),
        (None, None, "repository"),
        ("s3://bucket/models", None, "s3://bucket/models"),
    ],
)
def test_it_is_called_after_what_it_serves(
    repository: Path, place: str | None, models: list[str] | None, named: str
) -> None:
    assert workload_line(triton(place or repository, models=models)) == f"triton {named!r}"


# ------------------------------------------------------------------ ready


def answer(name: str, status: int, body: object = "") -> str:
    return f"{body if isinstance(body, str) else json.dumps(body)}\n@@ {name} {status}\n"


def listed(*models: tuple[str, str, str, str]) -> str:
    """The index, as Triton answers it: without what is empty."""
    keys = ("name", "version", "state", "reason")
    return answer("index", 200, [{key: at for key, at in zip(keys, each, strict=True) if at} for each in models])


def assess(workload: Workload, answers: str = "", log: str = "", exit_code: int | None = None) -> Readiness:
    probe = ProbeResult("answers", ProbeFailure.NONE, 0, answers, "", 0.1)
    return ADAPTER.assess(workload, Observation({"answers": probe}, log, exit_code, 1.0))


ADD, SLOW = ("add", "1", "READY", ""), ("slow", "1", "READY", "")
WHY = "Internal: ModuleNotFoundError: No module named 'nothing'\n\nAt:\n  /x/add/1/model.py(1): <module>\n"
BROKEN = ("add", "1", "UNAVAILABLE", WHY)
HEALTHY = answer("live", 200) + answer("health", 200)


def asked(workload: Workload) -> list[str]:
    return [question.path for question in ADAPTER.questions(workload)]


def test_what_it_is_asked(repository: Path) -> None:
    assert asked(triton(repository)) == ["/v2/health/live", "/v2/repository/index", "/v2/health/ready"]
    assert asked(triton(repository, models={"add": 1, "slow": ""}, infer=("add", BODY)))[3:] == [
        "/v2/models/add/versions/1/ready",
        "/v2/models/slow/ready",
        "/v2/models/add/versions/1/infer",
    ]
    assert ADAPTER.questions(triton(repository, infer=("add", BODY)))[-1].body == BODY
    assert asked(triton("s3://x", models="a?b")) == [*asked(triton("s3://x")), "/v2/models/a%3Fb/ready"]


def test_it_is_ready_when_all_that_is_asked_for_is(repository: Path) -> None:
    both = triton(repository, models=["add", "slow"], infer=("add", BODY))
    answers = listed(ADD, SLOW) + HEALTHY + answer("model_0", 200) + answer("model_1", 200)
    assert isinstance(assess(both, answers), Warming)
    assert isinstance(assess(both, answers + answer("infer", 503)), Warming)
    assert assess(both, answers + answer("infer", 200)) == Ready()
    assert assess(triton(repository), listed(ADD, SLOW) + HEALTHY) == Ready()
    assert isinstance(assess(triton(repository), listed(ADD) + answer("health", 400)), Warming)
    loading = listed(("add", "1", "LOADING", ""))
    assert isinstance(assess(triton(repository, models="add"), loading), Warming)


def test_what_its_own_arguments_do_not_load_is_not_missed(repository: Path) -> None:
    own = triton(repository, "--model-control-mode=explicit", "--load-model=add")
    assert assess(own, listed(ADD, ("slow", "", "", "")) + HEALTHY) == Ready()
    assert assess(own, listed() + HEALTHY) == Ready()


@pytest.mark.parametrize(
    ("given", "answers", "evidence"),
    [
        ({}, listed(BROKEN), "model 'add' version 1 is not loaded: Internal: ModuleNotFoundError: No module"),
        ({"models": "add"}, listed(BROKEN, SLOW), "model 'add' version 1 is not loaded: Internal: ModuleNotFound"),
        ({}, listed(("add", "", "", "")), "model 'add' is not loaded: Triton gives no reason"),
        ({"models": "slow"}, listed(ADD), "model 'slow' is not loaded: it is not among the models that are ready: add"),
        ({"models": {"add": 1}}, listed(("add", "2", "READY", "")), "model 'add' version 1 is not loaded: it is not"),
        ({}, listed(), "Triton's index lists no model"),
        (
            {"infer": ("add", BODY)},
            listed(ADD) + HEALTHY + answer("infer", 400, {"error": "expected 2 inputs but got 1"}),
            'add answers 400: {"error": "expected 2 inputs but got 1"}',
        ),
    ],
)
def test_a_server_that_lives_without_its_models_is_given_up_at_once(
    repository: Path, given: dict[str, Any], answers: str, evidence: str
) -> None:
    found = assess(triton(repository, gpus=0, **given), answers)
    assert isinstance(found, Failed)
    assert found.verdict.failure_class is FailureClass.WORKLOAD_FATAL
    assert found.verdict.evidence.startswith(evidence)
    assert "At:" not in found.verdict.evidence
