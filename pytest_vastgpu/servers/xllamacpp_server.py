"""llama.cpp's own server from the wheel ``xllamacpp``, started with the arguments of ``llama-server``.

Runs on the instance, with nothing but the standard library and that wheel: the wheel has the server, but not the
reader of its command line. An argument that is not in :data:`ARGUMENTS` ends it as ``llama-server`` is ended by one
that it does not know.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

ARGUMENTS = {
    ("-m", "--model"): ("model.path", str),
    ("-hf", "-hfr", "--hf-repo"): ("model.hf_repo", str),
    ("-hff", "--hf-file"): ("model.hf_file", str),
    ("-a", "--alias"): ("model_alias", lambda value: {value}),
    ("--host",): ("hostnames", lambda value: [value]),
    ("--port",): ("port", int),
    ("-c", "--ctx-size"): ("n_ctx", int),
    ("-n", "--predict", "--n-predict"): ("n_predict", int),
    ("-b", "--batch-size"): ("n_batch", int),
    ("-ub", "--ubatch-size"): ("n_ubatch", int),
    ("-np", "--parallel"): ("n_parallel", int),
    ("-t", "--threads"): ("cpuparams.n_threads", int),
    ("-ngl", "--gpu-layers", "--n-gpu-layers"): (
        "n_gpu_layers",
        lambda value: {"auto": -1, "all": -2}.get(value) or int(value),
    ),
    ("-lv", "--verbosity", "--log-verbosity"): ("verbosity", int),
    ("--chat-template",): ("chat_template", str),
    ("--embedding", "--embeddings"): ("embedding", True),
    ("--no-warmup",): ("warmup", False),
    ("--offline",): ("offline", True),
}
"""Where the server's parameters hold the value of an argument, and how to convert it; or the value of a switch."""


def main(words: list[str]) -> None:
    """Serve until a signal ends it.

    :param words: The arguments of ``llama-server``.
    """
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    by_name = {name: target for names, target in ARGUMENTS.items() for name in names}
    rest = iter(words)
    for word in rest:
        if word not in by_name:
            sys.exit(f"error: invalid argument: {word}")
        path, convert = by_name[word]
        owner = params
        *parents, attribute = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        if callable(convert):
            value = next(rest, None)
            if value is None:
                sys.exit(f'error while handling argument "{word}": expected value for argument')
            try:
                convert = convert(value)
            except ValueError:
                sys.exit(f'error while handling argument "{word}": stoi')
        setattr(owner, attribute, convert)
    if key := os.environ.get("LLAMA_API_KEY"):
        params.api_keys = [key]
    params.hf_token = os.environ.get("HF_TOKEN", "")
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: os._exit(0))
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:  # the server has printed why
        sys.exit(1)
    while server:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
