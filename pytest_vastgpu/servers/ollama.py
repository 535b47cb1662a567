"""The adapter ``ollama``: starts Ollama, has it pull and load a model, and recognises the state of its start.

What Ollama prints and answers is taken from its documentation and its source; see each place.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.rules.gpu import BUILT_WITHOUT_GPU
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.model import WorkloadFields
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Launch
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.building import build
from pytest_vastgpu.servers.building import detail
from pytest_vastgpu.servers.building import requiring
from pytest_vastgpu.servers.http_server import HttpServer
from pytest_vastgpu.servers.http_server import wrong
from pytest_vastgpu.servers.openai_api import FIRST_TOKEN_S
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.workloads import builder
from pytest_vastgpu.servers.workloads import text

IMAGE = "ollama/ollama:0.40.12"
"""Ollama's official image, in the release that its documentation described when this module was written."""
IMAGE_CUDA = 12.4
"""What driver 550 supports, the oldest that Ollama's page "Hardware support" admits."""
IMAGE_COMPUTE_CAP = 5.0
"""Oldest GPU generation of the same page; up to 6.2 it asks for driver 570."""
DEFAULTS: WorkloadFields = {"disk_gb": 60.0, "image_gb": 5.0}
"""For the official image, which others have measured at 6 to 10 GB unpacked, and a small model."""
_LOADED_FOR_EVER = {"OLLAMA_KEEP_ALIVE": "-1"}

# - Ollama's client draws its progress into a file as on a terminal: all lines anew ten times a second, each with a
#   percentage. Only the newest percentage is told, once a second, and only if it is another one.
# - A load ends when the client that asked for it hangs up: "client connection closed before ... finished loading". So
#   it is asked for here, by a client that waits as long as it takes; without a question, `ollama run` only loads.
# - A client fails before its server has quite gone, so that is looked for a moment later.
# - A signal may come at any moment, also between the start of a child and the line that would note it: whom to end is
#   asked of the shell, through a file, since dash knows no jobs in $(). A child that was just forked still has the
#   traps of its shell and can swallow a SIGTERM, so one is not enough.
_SCRIPT = r"""
lines() { tail -c 9999 vastgpu-client.log | LC_ALL=C tr '\033\r' '\n\n' |
  LC_ALL=C sed 's/^\[[0-9;?]*[A-Za-z]//; s/ *[^ -~]* *$//; /^$/d'; }
serve_on() {
  kill -0 "$server" 2>/dev/null && return
  wait "$server"; code=$?
  echo "vastgpu: ollama serve ended with exit code $code $1"
  exit "$code"
}
tell() {
  told=
  while sleep 1; do
    now=$(lines | sed -n 's/^\([a-z][^%]*[0-9]%\).*/\1/p' | tail -n 1)
    [ "$now" = "$told" ] || echo "$now"
    told=$now
  done
}
ask_for() {
  echo "vastgpu: $*"
  "$@" >vastgpu-client.log 2>&1 </dev/null & client=$!
  tell & teller=$!
  wait "$client"; code=$?
  kill -9 "$teller"
  wait "$teller" 2>/dev/null
  [ "$code" = 0 ] && return
  lines | grep -v '[0-9]%' | uniq | tail -n 10
  sleep 0.3
  serve_on "while this was asked of it: $*"
  return "$code"
}
if ollama list >/dev/null 2>&1; then
  echo "Error: listen tcp $OLLAMA_HOST: bind: address already in use, by another Ollama"
  exit 1
fi
end_all() {
  jobs -p >vastgpu-jobs
  while read -r each; do while kill "$each" 2>/dev/null; do sleep 0.1; done; done <vastgpu-jobs
  wait
}
trap end_all EXIT
trap 'exit 143' TERM INT HUP
ollama serve & server=$!
until ollama list >/dev/null 2>&1; do serve_on "before it answered"; sleep 0.2; done
"""
_LOAD = r"""
ask_for ollama run "$model" || lines | grep -q 'embedding\|does not support generate' || exit "$code"
wait "$server"
"""


@builder(**DEFAULTS)
def ollama(
    model: str,
    *,
    modelfile: str = "",
    env: Mapping[str, str] | None = None,
    port: int = 11434,
    files: Mapping[str, str | Path] | None = None,
    **fields: Unpack[WorkloadFields],
) -> Workload:
    """A workload that serves a model with Ollama.

    Ollama requires no key: who reaches its port may use it. With Ollama's official image ``cuda`` and ``compute_cap``
    have that image's requirements, unless they are given. Ollama spreads a model over as many of the rented GPUs as it
    needs; one that is partly on the CPU although GPUs were rented has failed. ``gpus=0`` serves from the CPU.

    :param model: A name in Ollama's library, such as ``llama3.2:1b``, or of a repository of GGUF files,
        ``hf.co/org/model:Q4_K_M``; also the name that clients use. Without a tag it means ``:latest``, as in Ollama.
    :param modelfile: One of ``files``, a Modelfile from which the model is made instead of being pulled; its ``FROM``
        can name another of ``files``, such as ``./model.gguf``. Default: '', the model is pulled.
    :param env: Environment of the server, e.g. ``OLLAMA_CONTEXT_LENGTH``, or ``OLLAMA_MODELS``, the directory of the
        models. Sent over SSH, never on a command line. Models stay loaded unless it sets ``OLLAMA_KEEP_ALIVE``.
        Default: none.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 11434.
    :param files: Local files and directories to copy, by their path in the server's working directory; see
        :mod:`~pytest_vastgpu.servers.files`. Default: none.
    :param fields: What to rent; see :class:`~pytest_vastgpu.model.Workload`.
    :raises ConfigurationError: for a missing file, and as :class:`~pytest_vastgpu.errors.WorkloadInvalid` for a field
        that has a wrong value (one line: which field, its value, what is expected).
    """
    text("model", model, "'llama3.2:1b'")
    needs: WorkloadFields = {**DEFAULTS, **fields}
    made_from = {"modelfile": modelfile}
    workload = build("ollama", model=model, env=env, files=files, port=port, details=made_from, **needs)
    if modelfile and modelfile not in dict(workload.files):
        raise WorkloadInvalid(f"modelfile={modelfile!r} of the workload is none of its files: add it to files")
    return requiring(workload, cuda=IMAGE_CUDA, compute_cap=IMAGE_COMPUTE_CAP)


class OllamaAdapter(HttpServer):
    """Ollama: ready when it has the model, has generated one token or embedding, and says that it is on the GPU."""

    name = "ollama"
    kind = "ollama"
    default_image = IMAGE
    warmup_s = 900.0

    def launch(self, workload: Workload, api_key: str) -> Launch:
        """Start ``ollama serve``, have it pull or create the model, and load it.

        The script ends as the first of these ends that fails, with its message, and ends the server then.
        """
        modelfile = detail(workload, "modelfile")
        fetch = f'create "$model" -f {shlex.quote(modelfile)}' if modelfile else 'pull "$model"'
        script = (
            f"model={shlex.quote(workload.model)}\n"
            f'export OLLAMA_HOST="${{VASTGPU_HOST:-127.0.0.1}}:{workload.port}"\n'
            f"{_SCRIPT}"
            f"ask_for ollama {fetch} || exit"
            f"{_LOAD}"
        )
        return Launch(script, {} if "OLLAMA_KEEP_ALIVE" in dict(workload.env) else _LOADED_FOR_EVER)

    def questions(self, workload: Workload) -> tuple[Question, ...]:
        """Whether it has the model, generates one token or else an embedding, and where the model is."""
        model = workload.model
        one_token = {"model": model, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}}
        return (
            Question("tags", "/api/tags", holds=json.dumps(full_name(model), ensure_ascii=False)),
            Question(
                "token",
                "/api/generate",
                one_token,
                FIRST_TOKEN_S,
                otherwise=Question("embedding", "/api/embed", {"model": model, "input": "Hello"}, FIRST_TOKEN_S),
            ),
            Question("loaded", "/api/ps"),
        )

    def served(self, workload: Workload, answers: Mapping[str, http_probe.Answer]) -> Readiness | None:
        """Ready if the model is loaded, on the GPU where one was rented; failed if it is on the CPU there."""
        token, embedding = answers.get("token"), answers.get("embedding")
        if token is None:
            return None
        if embedding is not None and 400 <= embedding.status < 500:
            evidence = f"/api/generate answered {token.status}: {token.body}; /api/embed answered: {embedding.body}"
            remedy = "Ollama has the model and can neither generate nor embed with it: read its answers"
            return wrong("model_answers_nothing", shown(evidence), remedy)
        found = _loaded(workload.model, answers.get("loaded"))
        if found is None:
            return None
        size, in_vram = found
        if workload.gpus == 0 or round(100 * (size - in_vram) / max(1, size)) == 0:  # `ollama ps` says 100% GPU then
            return Ready()
        return _on_cpu(size, in_vram)


def full_name(model: str) -> str:
    """The name under which Ollama lists a model: with the tag that it implies, without a place that is the default.

    See ``DisplayShortest`` of Ollama's ``types/model/name.go``.
    """
    short = model.rpartition("://")[2].removeprefix("registry.ollama.ai/").removeprefix("library/")
    return short if ":" in short.rsplit("/", 1)[-1] else f"{short}:latest"


def _loaded(model: str, answer: http_probe.Answer | None) -> tuple[int, int] | None:
    """The sizes of the loaded model in memory and in GPU memory, in bytes; None if it is not loaded."""
    parsed = answer.json() if answer else None
    models = parsed.get("models") if isinstance(parsed, dict) else None
    for loaded in models if isinstance(models, list) else ():
        if isinstance(loaded, dict) and full_name(model) in (loaded.get("name"), loaded.get("model")):
            sizes = loaded.get("size"), loaded.get("size_vram", 0)
            if isinstance(sizes[0], int) and isinstance(sizes[1], int):
                return sizes[0], sizes[1]
    return None


def _on_cpu(size: int, in_vram: int) -> Failed:
    """The failure of a model that is not all in GPU memory. Where Ollama discovered no GPU, its log has said so."""
    evidence = f"/api/ps: {in_vram / 1e9:.1f} of {size / 1e9:.1f} GB of the model are in GPU memory"
    if in_vram:
        remedy = "a GPU with more memory would do: ask for it with gpu_ram_gb; a shorter context needs less"
        return Failed(Verdict(FailureClass.INCOMPATIBLE, "vram_too_small", evidence, remedy))
    remedy = "the model is on the CPU, and the log does not say why: too little GPU memory, or num_gpu in a Modelfile"
    return Failed(Verdict(FailureClass.UNKNOWN, BUILT_WITHOUT_GPU.reason, evidence, remedy))
