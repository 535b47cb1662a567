"""llama.cpp's own server from the wheel ``xllamacpp``, started with the arguments of ``llama-server``.

Runs on the instance, with nothing but the standard library and that wheel, which has the server but neither the reader
of its command line (llama.cpp's ``common/arg.cpp``) nor its downloads. What that reader refuses is refused here in the
same words, and so are its arguments that are not in :data:`ARGUMENTS`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

ARGUMENTS: dict[tuple[str, ...], tuple[str, Callable[[str], object] | bool]] = {
    ("-m", "--model"): ("model.path", str),
    ("-a", "--alias"): ("model_alias", lambda value: {value}),
    ("--host",): ("hostnames", lambda value: [value]),
    ("--port",): ("port", int),
    ("-c", "--ctx-size"): ("n_ctx", int),
    ("-n", "--predict", "--n-predict"): ("n_predict", int),
    ("-b", "--batch-size"): ("n_batch", int),
    ("-ub", "--ubatch-size"): ("n_ubatch", int),
    ("-np", "--parallel"): ("n_parallel", int),
    ("-t", "--threads"): ("cpuparams.n_threads", int),
    ("-ngl", "--gpu-layers", "--n-gpu-layers"): ("n_gpu_layers", int),
    ("--chat-template",): ("chat_template", str),
    ("--check-tensors",): ("check_tensors", True),
    ("--embedding", "--embeddings"): ("embedding", True),
    ("--no-warmup",): ("warmup", False),
}
"""Where the server's parameters hold the value of an argument, and how to convert it; or the value of a switch."""

LAST_LINES_S = 0.5
"""Time for the server's own thread to write its last lines: an exit at once lost them in one of some hundred starts."""


def main(words: list[str]) -> None:
    """Serve until a signal ends it.

    :param words: The arguments of ``llama-server``.
    """
    wheel: Any = importlib.import_module("xllamacpp")
    sys.stderr.write(f"llama.cpp's server of xllamacpp {wheel.__version__}\n")
    params = wheel.CommonParams()
    params.verbosity = int(os.environ.get("LLAMA_ARG_LOG_VERBOSITY") or params.verbosity)
    params.api_keys = [key] if (key := os.environ.get("LLAMA_API_KEY")) else []
    apply(words, params)
    if params.n_gpu_layers > 0 and not any(device["type"].name.endswith("GPU") for device in wheel.get_device_info()):
        sys.stderr.write("warning: no usable GPU found, --gpu-layers option will be ignored\n")
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: os._exit(0))
    try:
        server = wheel.Server(params)
    except RuntimeError:  # it has told its log why
        time.sleep(LAST_LINES_S)
        sys.exit(1)
    while server:
        signal.pause()


def apply(words: list[str], params: Any) -> None:
    """Set the parameters that arguments name.

    :raises SystemExit: with the server's words for an argument that it refuses.
    """
    by_name = {name: target for names, target in ARGUMENTS.items() for name in names}
    rest = iter(words)
    for word in rest:
        if word in ("-hf", "--hf-repo"):
            sys.exit(f"error: invalid argument: {word}: xllamacpp downloads no models; give a GGUF file")
        if word not in by_name:
            sys.exit(f"error: invalid argument: {word}")
        path, converts = by_name[word]
        value: object = converts
        if callable(converts):
            if (given := next(rest, None)) is None:
                sys.exit(f'error while handling argument "{word}": expected value for argument')
            try:
                value = converts(given)
            except ValueError:
                sys.exit(f'error while handling argument "{word}": stoi')
        *owners, attribute = path.split(".")
        owner = params
        for name in owners:
            owner = getattr(owner, name)
        setattr(owner, attribute, value)


if __name__ == "__main__":
    main(sys.argv[1:])
