"""A stand-in for ``python3 -m sglang.launch_server``: its arguments, lines and answers, without any model.

The arguments are read as SGLang's parser reads them (``server_args.py``): those of the file ``--config``, which is
YAML, come first. It prints what SGLang prints, and requires the key as SGLang does, but for paths that begin with
``/health`` (``utils/auth.py``).
"""

# ruff: noqa: T201 - it prints as the program does
from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

LINES = """\
[2026-11-01 10:00:00] server_args=ServerArgs(model_path='{model}', api_key='{key}', device='{device}')
[2026-11-01 10:00:05] Init torch distributed begin.
[2026-11-01 10:00:06] Load weight begin. avail mem=22.46 GB
Loading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]
Loading safetensors checkpoint shards: 100% Completed | 2/2 [00:01<00:00,  2.04it/s]
[2026-11-01 10:00:08] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=20.10 GB.
[2026-11-01 10:00:08] KV Cache is allocated. #tokens: 83461, K size: 5.41 GB, V size: 5.41 GB
[2026-11-01 10:00:09] Capture cuda graph begin. This can take up to several minutes. avail mem=9.95 GB
Capturing batches (bs=1 avail_mem=9.90 GB): 100%|##########| 4/4 [00:01<00:00,  3.73it/s]
[2026-11-01 10:00:11] INFO:     Application startup complete.
[2026-11-01 10:00:11] INFO:     Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)
[2026-11-01 10:00:12] The server is fired up and ready to roll!
"""


def arguments() -> argparse.Namespace:
    """What it was told, by the file and the command line."""
    parser = argparse.ArgumentParser(prog="sglang serve")
    for name in ("--model-path", "--served-model-name", "--host", "--api-key", "--device", "--config"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int)
    told = sys.argv[1:]
    at = told.index("--config")
    name, _, value = Path(told[at + 1]).read_text().strip().partition(": ")
    return parser.parse_args([f"--{name}", value.strip('"'), *told[:at], *told[at + 2 :]])


class Handler(BaseHTTPRequestHandler):
    """The part of SGLang's API that the adapter asks."""

    told: argparse.Namespace

    def do_GET(self) -> None:
        if self.path.startswith("/health"):
            self._send(200, {})
        elif self._allowed() and self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": self.told.served_model_name, "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self._allowed():
            self._send(200, {"choices": [{"index": 0, "text": " blue"}], "model": self.told.served_model_name})

    def _allowed(self) -> bool:
        allowed: bool = self.headers["Authorization"] == f"Bearer {self.told.api_key}"
        if not allowed:
            self._send(401, {"error": "Unauthorized"})
        return allowed

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


def main() -> None:
    """Print a start, and serve."""
    Handler.told = told = arguments()
    server = ThreadingHTTPServer((told.host, told.port), Handler)
    print(
        LINES.format(
            model=told.model_path, key=told.api_key, device=told.device or "cuda", host=told.host, port=told.port
        ),
        flush=True,
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
