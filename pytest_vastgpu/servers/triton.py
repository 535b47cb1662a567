"""The adapter ``triton``: starts NVIDIA's Triton Inference Server and recognises the state of its start."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from pytest_vastgpu.core.text.nearest import nearest_first
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers import triton_models
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.building import FURTHER_PORTS
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.files import whole
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.http_server import wrong
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import mapping
from pytest_vastgpu.servers.workloads import refuse_own
from pytest_vastgpu.servers.workloads import text

IMAGE = "nvcr.io/nvidia/tritonserver:26.10-py3"
"""Triton's official image, with all its backends."""
IMAGE_CUDA = 13.0
"""CUDA version that the driver must support. The image has CUDA 13.4, according to Triton's release notes for 26.10;
by CUDA's minor version compatibility, to which they refer, a driver for any CUDA 13 runs it."""
IMAGE_COMPUTE_CAP = 7.5
"""Oldest GPU generation that the image supports, according to the same release notes."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0, "image_gb": 10.0}
"""For Triton's official image and small models."""
REPOSITORY = "models"
"""A model repository that is brought along, in the server's working directory."""
INFER_S = 60
"""Time limit of the inference that is asked for before the server counts as ready, in seconds."""
INFER_MOST = 100_000
"""Most characters of its body: the kernel takes 131,072 bytes in one argument of a command (``MAX_ARG_STRLEN``)."""
_OTHER_PORTS = {"grpc": 8001, "metrics": 8002}
"""Where Triton listens beside HTTP, unless its arguments say otherwise."""
_OWN_ARGUMENTS = dict.fromkeys(("--http-port", "--http-address"), "port=; the address is the instance's loopback")
"""Arguments of the server that the plugin gives itself, and what to give instead."""
_CONTROL = "--model-control-mode"
_REFUSED = "inference_refused"
"""Reason for a model that is ready and refuses: what other models failed of, in the log, is not why."""
_FIRST = (Question("live", "/v2/health/live"), Question("index", "/v2/repository/index", body={"ready": False}))


@builder(**DEFAULTS)
def triton(
    repository: str | Path,
    *args: str,
    models: str | Iterable[str] | Mapping[str, int | str] | None = None,
    infer: tuple[str, Mapping[str, object]] | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 8000,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model repository with Triton.

    With Triton's official image ``cuda`` and ``compute_cap`` have that image's requirements, unless they are given.
    With another image give its ``cuda``. ``gpus=0`` is for models that run on the CPU.

    Besides HTTP, Triton listens on the instance's loopback at its own default ports, 8001 for gRPC and 8002 for
    metrics: ``vast_instance.address(8001)`` leads there.

    :param repository: The model repository: a local directory, which is brought along; a path in the image, which
        begins with ``/`` and does not exist here; or a URL that Triton reads itself, such as ``s3://bucket/models``,
        with what it needs to log in there in ``env``.
    :param args: Further arguments of ``tritonserver``, one string each, e.g. ``"--log-verbose=1"``.
    :param models: The models that must be ready: one name, several, or a mapping from names to versions (an empty text:
        any). Only these are loaded (``--model-control-mode=explicit``), with the models that an ensemble among them
        consists of; name also those that a model calls by itself. ``args`` with a ``--model-control-mode`` decide
        instead. None: all models in the repository are loaded, and must be ready.
    :param infer: A model, and the JSON body of an inference that it must answer with 200 before the server counts as
        ready: ``("add", {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]})``. None: no
        inference.
    :param env: Environment of the server, e.g. ``AWS_SECRET_ACCESS_KEY``. Sent over SSH, never on a command line.
        Default: none.
    :param port: The TCP port that the server listens on for HTTP, on the instance's loopback. Default: 8000.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    refuse_own(args, _OWN_ARGUMENTS)
    try:
        where = _repository(repository)
    except OSError as error:
        raise _unreadable(repository, error) from error
    wanted = _models(models)
    details = {"repository": REPOSITORY if isinstance(where, Path) else where}
    if infer is not None:
        details["infer_model"], details["infer"] = _inference(infer)
        if wanted:
            wanted.setdefault(details["infer_model"], "")
    details[FURTHER_PORTS] = " ".join(_further_ports([each for each in args if isinstance(each, str)]))
    details["models"] = "\n".join(f"{name} {version}".rstrip() for name, version in wanted.items())
    brought = dict(mapping("files", files, "{'labels.txt': 'path/to/labels.txt'}"))
    if isinstance(where, Path):
        if REPOSITORY in brought:
            raise WorkloadInvalid(
                f"files of the workload hold {REPOSITORY!r}, where the repository is brought: rename it"
            )
        brought[REPOSITORY] = where
    needs: WorkloadFields = {**DEFAULTS, **fields}
    shown = ", ".join(wanted) or (where.resolve().name if isinstance(where, Path) else where)
    workload = build("triton", model=shown, args=args, env=env, files=brought, port=port, details=details, **needs)
    if isinstance(where, Path) and not any(argument.startswith("--model-repository") for argument in workload.args):
        _find(where, wanted if infer is None else {**wanted, details["infer_model"]: ""})
    for service, its in _OTHER_PORTS.items():
        moved = any(argument.startswith((f"--{service}-port", f"--allow-{service}")) for argument in args)
        if f"--{service}-port={port}" in args or (port == its and not moved):
            raise WorkloadInvalid(
                f"port={port} of the workload is Triton's port for {service}, too; give another one, or another "
                f"--{service}-port among the arguments"
            )
    return requiring(workload, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)


class TritonAdapter(HttpServer):
    """Triton: ready when it and the workload's models are, and an inference is answered if the workload names one."""

    name = kind = "triton"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``tritonserver``. Only HTTP can become public; gRPC and metrics stay on the loopback.

        It is given no key: it takes one on its command line alone (``--http-restricted-api``), where ``ps`` shows it.
        """
        wanted = triton_models.wanted(detail(workload, "models"))
        only = []
        if wanted and not _controlled(workload):
            only = [f"{_CONTROL}=explicit", *(f"--load-model={name}" for name in wanted)]
        loopback = ["--grpc-address", "127.0.0.1", "--metrics-address", "127.0.0.1"]
        here = ["--model-repository", detail(workload, "repository"), "--http-port", str(workload.port)]
        arguments = shlex.join([*here, *loopback, *only, *workload.args])
        return Launch(f'exec tritonserver --http-address "${{VASTGPU_HOST:-127.0.0.1}}" {arguments}\n')

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it lives, and what is loaded; then whether it and each model are ready; then the inference.

        The index comes before readiness: with ``--exit-on-error=false`` a server lives on without the models that have
        failed.
        """
        wanted = triton_models.wanted(detail(workload, "models"))
        ready = (
            Question(f"model_{number}", f"{_path(name, version)}/ready")
            for number, (name, version) in enumerate(wanted.items())
        )
        asked = (*_FIRST, Question("health", "/v2/health/ready"), *ready)
        if not (model := detail(workload, "infer_model")):
            return asked
        body = json.loads(detail(workload, "infer"))
        path = f"{_path(model, wanted.get(model, ''))}/infer"
        return (*asked, Question("infer", path, body=body, timeout_s=INFER_S))

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """Ready once every question is answered with 200; failed if a model is not loaded, or refuses the inference."""
        index = triton_models.index(answers["index"]) if "index" in answers else None
        if index is None:
            return None
        wanted = triton_models.wanted(detail(workload, "models"))
        found = triton_models.unavailable(index, wanted, all_of_them=not _controlled(workload))
        if found is not None:
            return Failed(triton_models.verdict(found, workload.gpus))
        if not index and not wanted and not _controlled(workload):
            return wrong("no_model", "Triton's index lists no model", "the model repository has no model: fill it")
        refused = answers.get("infer")
        if refused is not None and 400 <= refused.status < 500:
            return wrong(
                _REFUSED,
                f"{detail(workload, 'infer_model')} answers {refused.status}: {' '.join(refused.body.split())[:300]}",
                "mend infer of the workload, or the model: the server is ready, and refuses this inference",
            )
        asked = [question.name for question in self.questions(workload)]
        return Ready() if all(name in answers and answers[name].status == 200 for name in asked) else None

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """As of every HTTP server, but never ready on the CPU where a GPU was rented.

        A failure has the failed model's own reason; progress counts models.
        """
        lost = triton_models.without_gpu(seen.log) if workload.gpus else None
        found = Failed(lost) if lost else super().assess(workload, seen)
        if isinstance(found, Warming):
            return Warming(triton_models.progress(seen.log) or found.progress)
        if isinstance(found, Failed) and found.verdict.reason != _REFUSED:
            wanted = triton_models.wanted(detail(workload, "models"))
            return Failed(triton_models.explained(found.verdict, seen.log, wanted, workload.gpus))
        return found


def _controlled(workload: Workload) -> bool:
    """Whether the workload's own arguments say which models are loaded."""
    return any(argument.startswith(_CONTROL) for argument in workload.args)


def _further_ports(args: Sequence[str]) -> list[str]:
    """Those of gRPC and of the metrics, unless the arguments turn them off."""
    on = [each for each in _OTHER_PORTS if _given(args, f"--allow-{each}").lower() not in ("false", "0")]
    return [_given(args, f"--{each}-port") or str(_OTHER_PORTS[each]) for each in on]


def _given(args: Sequence[str], option: str) -> str:
    """The value of the server's argument of that name; empty: it has none."""
    words = [word for argument in args for word in argument.split("=", 1)]
    return next((value for name, value in pairwise(words) if name == option), "")


def _path(name: str, version: str) -> str:
    below = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(name, safe='')}{below}"


def _repository(given: str | Path) -> Path | str:
    """The local directory, or what Triton is given as it is."""
    if not isinstance(given, Path):
        text("repository", given, "'models'")
        if "://" in given:
            return given
    path = whole(given)
    if path.is_dir():
        return path
    if isinstance(given, str) and given.startswith("/") and not path.exists():
        return given
    what = "is a file" if path.exists() else f"does not exist ({str(path)!r})"
    raise WorkloadInvalid(
        f"repository={str(given)!r} of the workload {what}; give a directory here, a path in the image that begins "
        "with /, or a URL such as s3://bucket/models"
    )


def _models(given: object) -> dict[str, str]:
    """The models that must be ready, with their versions; empty where none is asked for."""
    pairs: Iterable[tuple[object, object]]
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = given.items()
    elif isinstance(given, str):
        pairs = [(given, "")]
    elif isinstance(given, Iterable):
        pairs = [(name, "") for name in given]
    else:
        raise WorkloadInvalid(f"models={given!r} of the workload is no name and no list; give names, such as ['add']")
    found = {}
    for name, version in pairs:
        if not isinstance(name, str) or not name or name.split() != [name] or "/" in name:
            raise WorkloadInvalid(f"models of the workload: {name!r} is no model's name, the name of a directory")
        if not str(version).isdecimal() and version != "":
            raise WorkloadInvalid(
                f"models of the workload: {version!r} is no version of {name!r}; give a number, such as {{{name!r}: 1}}"
            )
        found[name] = str(version)
    if not found:
        raise WorkloadInvalid("models of the workload is empty; name some, or leave it out for all of the repository")
    return found


def _inference(given: object) -> tuple[str, str]:
    """The model, and the body as JSON."""
    example = "('add', {'inputs': [{'name': 'x', 'shape': [1], 'datatype': 'INT32', 'data': [1]}]})"
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not isinstance(given[1], Mapping):
        raise WorkloadInvalid(
            f"infer of the workload is {given!r:.80}; give a model and a JSON body, such as {example}"
        )
    (name,) = _models(given[0]) if isinstance(given[0], str) else _models([given[0]])
    try:
        body = json.dumps(given[1], sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkloadInvalid(f"infer of the workload is not JSON: {error}; give a body such as {example}") from error
    if len(body) > INFER_MOST:
        raise WorkloadInvalid(
            f"infer of the workload has {len(body)} characters of JSON, more than {INFER_MOST}: give a smaller one"
        )
    return name, body


def _find(repository: Path, wanted: Mapping[str, str]) -> None:
    """Check that the local repository has the models, and their versions."""
    try:
        problem = next(_missing(repository, wanted), "")
    except OSError as error:
        raise _unreadable(repository, error) from error
    if problem:
        raise WorkloadInvalid(problem)


def _unreadable(repository: object, error: OSError) -> WorkloadInvalid:
    return WorkloadInvalid(f"repository={str(repository)!r:.200} of the workload cannot be read ({error.strerror})")


def _missing(repository: Path, wanted: Mapping[str, str]) -> Iterator[str]:
    there = sorted(each.name for each in repository.iterdir() if each.is_dir())
    if not there:
        yield f"repository={str(repository)!r} of the workload has no model: each is a directory in it"
    for name, version in wanted.items():
        if name not in there:
            known = ", ".join(nearest_first(name, there))
            yield f"models of the workload: {name!r} is not in {str(repository)!r}; there are: {known}"
            continue
        versions = sorted(
            each.name for each in (repository / name).iterdir() if each.is_dir() and each.name.isdecimal()
        )
        if not versions:
            yield (
                f"models of the workload: {str(repository / name)!r} has no version, a directory such as '1' (also for "
                "an ensemble, where it is empty; Git keeps no empty directory)"
            )
        elif version and version not in versions:
            yield (
                f"models of the workload: {str(repository / name)!r} has no version {version}; there are: "
                f"{', '.join(versions)}"
            )
