"""The adapter ``llamacpp``: starts llama.cpp's own server and recognises the state of its start."""

from __future__ import annotations

import functools
import re
import shlex
import stat
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.core import real_paths
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers import llamacpp_gpu
from pytest_vastgpu.servers import openai_api
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Observation
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.files import whole
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import mapping
from pytest_vastgpu.servers.workloads import refuse_own
from pytest_vastgpu.servers.workloads import text

IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"
"""llama.cpp's official image of its server, built with CUDA."""
CPU_IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
"""The same, built without: for ``gpus=0``."""
IMAGE_CUDA = 12.8
"""CUDA version that the image is built with, according to llama.cpp's ``.devops/cuda.Dockerfile`` (12.8.1): the driver
must support it."""
IMAGE_COMPUTE_CAP = 5.0
"""Oldest GPU generation that the image's kernels are built for: ``ggml/src/ggml-cuda/CMakeLists.txt`` names 50."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0}
HUB = "hf:"
"""Begins the source of a model that the server downloads from the Hub."""
_MAGIC = b"GGUF"
_HUB = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")
"""What ``--hf-repo`` takes."""
_PART = re.compile(r"-\d{5}-of-(\d{5})$")
"""The end of the name of one of several files that hold a model together, as ``llama-gguf-split`` makes them."""
_OWN_ARGUMENTS = {
    **dict.fromkeys(("-m", "--model", "-hf", "-hfr", "--hf-repo", "-mu", "--model-url"), "the first argument, model"),
    **dict.fromkeys(("-a", "--alias"), "alias="),
    **dict.fromkeys(("-c", "--ctx-size"), "ctx_size="),
    **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers"), "gpu_layers="),
    **dict.fromkeys(("--host", "--port"), "port=; the host is the instance's loopback"),
    **dict.fromkeys(("--api-key", "--api-key-file"), "nothing: each instance has a key of its own"),
}
"""Arguments of the server that follow from the builder's parameters, and what to give instead."""
ALL_LAYERS = "999"
"""More layers than any model has. The word ``all`` is known to new builds only. A number keeps the server from leaving
layers on the CPU where they do not fit: it then makes its context smaller, or fails (``common/fit.cpp``)."""
VERBOSITY = "4"
"""What tells the build, the GPUs and the layers on them; the default of new builds, 3, does not (``common/log.h``)."""
_TELL_DOWNLOAD = """\
cache=${LLAMA_CACHE:-${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}}}}}
while sleep 5 && kill -0 $$ && [ "${looks:=0}" -lt 24 ]; do
  bytes=0
  for size in $(find "$cache" -name '*.downloadInProgress' -exec stat -c %s {} +); do bytes=$((bytes + size)); done
  mb=$((bytes / 1000000)) looks=$((looks + 1))
  [ "$bytes" = 0 ] || looks=0
  [ "$mb" -ge "${told:=0}" ] || told=0  # a file is complete
  [ $((mb * 10)) -le $((told * 11)) ] || { told=$mb; echo "downloading: $mb@ MB"; }
done 2>/dev/null &
"""
"""Tells how much the server has downloaded, each time that it is a tenth more: it does so itself on a terminal only.
The cache and the names of unfinished files are those of ``common/hf-cache.cpp`` and ``common/download.cpp``."""
_BAD_FILE = ("model_file_truncated", "model_file_invalid")
_SERVER_OF_WHEEL = Path(__file__).with_name("xllamacpp_server.py")


@builder(**DEFAULTS)
def llamacpp(
    model: str | Path,
    *args: str,
    alias: str = "",
    ctx_size: int = 0,
    gpu_layers: int | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 8080,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with llama.cpp's ``llama-server``.

    With llama.cpp's official image ``cuda`` and ``compute_cap`` have that image's requirements, unless they are given.
    With another image give its ``cuda``. ``gpus=0`` takes the official image without CUDA.

    :param model: A GGUF file of this machine, which is brought along: a ``Path``, or text that names an existing file
        ``….gguf``; of a model in several files, any one of them. Or a GGUF file on the instance: its absolute path in
        the image, or its name in ``files``. Or a repository of the Hugging Face Hub, ``org/model`` or
        ``org/model:Q4_K_M``, from which the server downloads it.
    :param args: Further arguments of ``llama-server``, one string each, e.g. ``"--parallel", "4"``.
    :param alias: The name that clients use. Default: a file's name without ``.gguf``, or the repository as given.
    :param ctx_size: Tokens of context that the server reserves memory for, all its slots together. Default: 0, what the
        model was trained with, or as much of it as fits into the GPUs' memory.
    :param gpu_layers: How many of the model's layers shall be on the GPUs. Default: all. A start that has fewer there
        than asked for has failed.
    :param env: Environment of the server, e.g. ``HF_TOKEN``. Sent over SSH, never on a command line. Default: none,
        and with GPUs ``LLAMA_ARG_LOG_VERBOSITY=4``, with which the log tells how many layers are on them.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8080.
    :param files: Local files and directories to copy, such as a chat template, by their path in the server's working
        directory; see :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    refuse_own(args, _OWN_ARGUMENTS)
    given = mapping("files", files, "{'template.jinja': 'path/to/template.jinja'}")
    source, name, brought = _model(model, given)
    if alias:
        name = text("alias", alias, "'my-model'")
    if "," in name:
        raise WorkloadInvalid(f"{name!r}, the model's name, has a comma, which the server splits it at; give alias=")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    workload = build(
        "llamacpp",
        model=name,
        args=args,
        env=env,
        files={**brought, **given},
        port=port,
        details={
            "source": source,
            "ctx_size": "" if ctx_size == 0 else _whole("ctx_size", ctx_size),
            "gpu_layers": "" if gpu_layers is None else _whole("gpu_layers", gpu_layers),
        },
        **needs,
    )
    if workload.gpus == 0 and not workload.image:
        return replace(workload, image=CPU_IMAGE)
    return requiring(workload, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)


def _whole(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise WorkloadInvalid(f"{name}={value!r} of the workload is not a whole number from 0 on")
    return str(value)


def _model(model: object, files: Mapping[str, str | Path]) -> tuple[str, str, dict[str, str | Path]]:
    """Where the server finds the model, the name that follows from it, and the local files to bring along."""
    given = model if isinstance(model, Path) else text("model", model, "'org/model:Q4_K_M' or 'models/tiny.gguf'")
    if isinstance(given, Path) or (given.endswith(".gguf") and given not in files and _is_here(given)):
        path = whole(given)
        _require_gguf(path)
        parts = list(_parts(path))
        return parts[0].name, _stem(path), {each.name: each for each in parts}
    if given in files or given.startswith("/"):
        return given, _stem(Path(given)), {}
    if _is_here(given, stat.S_ISREG):
        raise WorkloadInvalid(
            f"model={given!r} of the workload is a file here, but its name does not end in .gguf; give Path({given!r}) "
            "if it is a GGUF file"
        )
    if _HUB.fullmatch(given) and not given.endswith(".gguf"):
        return HUB + given, given, {}
    raise WorkloadInvalid(
        f"model={given!r} of the workload is no file here ({str(whole(given))!r}), no absolute path in the image, and "
        "no repository of the Hugging Face Hub such as 'org/model:Q4_K_M'; give one of them"
    )


def _require_gguf(path: Path) -> None:
    """Check how a file begins; one that cannot be read is reported with the other files."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise WorkloadInvalid(f"model: {path} is a directory; name the GGUF file in it")
        if not stat.S_ISREG(kind):  # opening it might wait without end
            return
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC))
    except OSError:
        return
    if begins != _MAGIC:
        remedy = "run 'git lfs pull'" if begins == b"vers" else "download or convert the model again"
        raise WorkloadInvalid(f"model: {path} is no GGUF file, it begins with {begins!r} and not {_MAGIC!r}; {remedy}")


def _is_here(path: str, kind: Callable[[int], bool] = lambda _: True) -> bool:
    """Whether there is such a path on this machine, of a kind that is told from its mode."""
    try:
        return kind(real_paths.stat(str(whole(path))).st_mode)
    except (ConfigurationError, OSError, ValueError):
        return False


def _stem(path: Path) -> str:
    return _PART.sub("", path.name.removesuffix(".gguf"))


def _parts(path: Path) -> Iterator[Path]:
    """The file, or all files of its model."""
    stem = path.name.removesuffix(".gguf")
    if not (found := _PART.search(stem)):
        yield path
        return
    for number in range(1, int(found[1]) + 1):
        yield path.with_name(f"{_stem(path)}-{number:05}-of-{found[1]}.gguf")


class LlamaCppAdapter(HttpServer):
    """llama.cpp: ready when it is healthy, lists the workload's model, has completed one token and uses the GPUs."""

    name = "llamacpp"
    kind = "llama.cpp"
    default_image = IMAGE
    warmup_s = 600.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``llama-server``, or the same server from the wheel ``xllamacpp`` where only that is installed."""
        source = detail(workload, "source")
        served = ["--port", str(workload.port), "--alias", workload.model]
        served += ["--hf-repo", source.removeprefix(HUB)] if source.startswith(HUB) else ["--model", source]
        if context := detail(workload, "ctx_size"):
            served += ["--ctx-size", context]
        if layers := detail(workload, "gpu_layers") or (ALL_LAYERS if workload.gpus else ""):
            served += ["--gpu-layers", layers]
        tell = _TELL_DOWNLOAD.replace("@", f"/{workload.model_gb * 1000:.0f}" if workload.model_gb else "")
        arguments = f'--host "${{VASTGPU_HOST:-127.0.0.1}}" {shlex.join([*served, *workload.args])}'
        script = (
            'PATH="$PATH:/app"\n'  # where the official image has it
            f"{tell if source.startswith(HUB) else ''}"
            "if ! command -v llama-server >/dev/null 2>&1 && python3 -c 'import xllamacpp' 2>/dev/null; then\n"
            f"exec python3 - {arguments} <<'VASTGPU_PYTHON'\n{_server_of_wheel()}VASTGPU_PYTHON\n"
            "fi\n"
            f"exec llama-server {arguments}\n"
        )
        verbosity = {"LLAMA_ARG_LOG_VERBOSITY": VERBOSITY} if workload.gpus else {}
        return Launch(script, {"LLAMA_API_KEY": api_key, **verbosity})

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it is healthy, lists the model, and completes one token."""
        return (Question("health", "/health"), *openai_api.questions(workload.model))

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """See :func:`~pytest_vastgpu.servers.openai_api.served`."""
        return openai_api.served(workload.model, answers)

    def assess(self, workload: Workload, seen: Observation) -> Readiness:
        """As any HTTP server; but one that has not put on the GPUs what was asked for has failed, though it answers."""
        if seen.exit_code is None and (unmet := llamacpp_gpu.unmet(workload, detail(workload, "gpu_layers"), seen)):
            return unmet
        found = super().assess(workload, seen)
        if isinstance(found, Warming) and (loaded := llamacpp_gpu.loaded(seen.log)):
            return Warming(loaded)
        if isinstance(found, Failed) and found.verdict.reason in _BAD_FILE and _same_everywhere(workload):
            remedy = "the file is broken, and the same on every host: download or convert the model again"
            return Failed(replace(found.verdict, failure_class=FailureClass.WORKLOAD_FATAL, remedy=remedy))
        return found


def _same_everywhere(workload: Workload) -> bool:
    """Whether the model was brought along, or is in the image; what an instance has downloaded may be broken there."""
    source = detail(workload, "source")
    return source in dict(workload.files) or not (source.startswith(HUB) or workload.setup)


@functools.cache
def _server_of_wheel() -> str:
    return _SERVER_OF_WHEEL.read_text(encoding="utf-8")
