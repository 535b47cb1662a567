"""A stand-in for the program ``ollama``: the same commands, API, and way to draw progress, without any model.

It answers as Ollama's API documentation shows, and prints as its source does (``cmd/cmd.go``, ``progress/``). What it
shall do differently is in the environment variable ``STAND_IN``, one word for each thing:

* ``missing``, ``unreachable``: a pull ends with Ollama's own message for this
* ``held``: a pull waits, at 42 %, until there is a file ``go``, or the server is gone
* ``dies``: the server ends as soon as it is asked to pull
* ``embeds``: the model generates nothing
* ``half``, ``none``: so much of the model is in GPU memory
* ``too_big``: the model cannot be loaded
"""

# ruff: noqa: T201 - it prints as the program does
from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from typing import ClassVar

HOST, _, PORT = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
DOES = os.environ.get("STAND_IN", "").split()
ERRORS = {
    "missing": "pull model manifest: file does not exist",
    "unreachable": 'pull model manifest: Get "https://registry.ollama.ai/v2/library/tiny/manifests/latest": dial tcp: '
    "lookup registry.ollama.ai on 127.0.0.53:53: server misbehaving",
    "too_big": "model requires more system memory (38.4 GiB) than is available (15.1 GiB)",
}
SIZE = 1_000_000_000


class Handler(BaseHTTPRequestHandler):
    """The part of Ollama's API that its client and the adapter use."""

    models: ClassVar[list[str]] = []
    loaded: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.path == "/api/tags":
            self._send(200, {"models": [{"name": name, "model": name, "size": SIZE} for name in self.models]})
        elif self.path == "/api/ps":
            in_vram = SIZE // 2 if "half" in DOES else 0 if "none" in DOES else SIZE
            sizes = {"size": SIZE, "size_vram": in_vram, "context_length": 4096}
            self._send(200, {"models": [{"name": name, "model": name, **sizes} for name in self.loaded]})
        else:
            self._send(404, {"error": "not found"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["model"] if ":" in asked["model"].rsplit("/", 1)[-1] else asked["model"] + ":latest"
        if "dies" in DOES and self.path == "/api/pull":
            print("panic: runtime error: index out of range", flush=True)
            os._exit(2)
        error = next((text for word, text in ERRORS.items() if word in DOES), "")
        if self.path in ("/api/pull", "/api/create"):
            if error and "too_big" not in DOES:
                self._send(500, {"error": error})
                return
            self.models.append(name)
            self._send(200, {"status": "success"})
        elif name not in self.models:
            self._send(404, {"error": f"model '{asked['model']}' not found"})
        elif "too_big" in DOES:
            self._send(500, {"error": error})
        elif ("embeds" in DOES) == (self.path == "/api/generate"):
            self._send(400, {"error": f'"{asked["model"]}" does not support {self.path.removeprefix("/api/")}'})
        else:
            self.loaded[:] = [name]
            self._send(
                200, {"embeddings": [[0.1]]} if "embeds" in DOES else {"response": asked["prompt"], "done": True}
            )

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


def serve() -> None:
    """Listen, and say what Ollama says of itself and of the GPU that it has discovered."""
    try:
        server = ThreadingHTTPServer((HOST, int(PORT)), Handler)
    except OSError:
        sys.exit(f"Error: listen tcp {HOST}:{PORT}: bind: address already in use")
    print(f'time=2026-11-01T10:00:00.000Z level=INFO source=routes.go:1 msg="Listening on {HOST}:{PORT}"', flush=True)
    keep_alive = os.environ["OLLAMA_KEEP_ALIVE"]
    print(f'level=INFO source=routes.go:1 msg="server config" env="map[OLLAMA_KEEP_ALIVE:{keep_alive}]"', flush=True)
    server.serve_forever()


def ask(path: str, **body: object) -> dict[str, Any]:
    """What the client asks the server; an error ends it as it ends Ollama's."""
    data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(f"http://{HOST}:{PORT}{path}", data) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        sys.exit("Error: " + json.load(error)["error"])
    except OSError:
        sys.exit("Error: unexpected EOF" if body else "Error: could not connect to ollama server")


def draw(lines: list[str]) -> None:
    """Draw all lines anew, as Ollama does on a terminal and in a file."""
    text = "\x1b[?2026h\x1b[?25l" + "\x1b[A" * (len(lines) - 1) + "\x1b[1G"
    print(text + "\n".join(line + "\x1b[K" for line in lines), end="\x1b[?25h\x1b[?2026l", flush=True, file=sys.stderr)


def fetch(model: str) -> None:
    """Pull, and draw how far that is; there is the layer of the weights, and a small one."""
    draw(["pulling manifest \N{BRAILLE PATTERN DOTS-1} "])
    if not set(DOES) & {"missing", "unreachable", "dies"}:
        bar = "\N{RIGHT ONE EIGHTH BLOCK}{}\N{LEFT ONE EIGHTH BLOCK}".format
        for percent in (0, 42):
            draw(
                [
                    "pulling manifest ",
                    f"pulling 74701a8c35f6: {percent:3}% {bar('    ')} 540 MB/1.3 GB   20 MB/s    37s",
                ]
            )
            while "held" in DOES and percent and not Path("go").exists():
                time.sleep(0.1)
                ask("/api/tags")
        done = f"pulling 74701a8c35f6: 100% {bar('####')} 1.3 GB"
        draw(["pulling manifest ", done, "verifying sha256 digest ", "success "])
    ask("/api/pull", model=model)


def main() -> None:
    """The commands that the adapter's start script gives."""
    command, *rest = sys.argv[1:]
    if command == "serve":
        serve()
    elif command == "list":
        ask("/api/tags")
    elif command == "pull":
        fetch(*rest)
    elif command == "create":
        model, _, modelfile = rest
        print(Path(modelfile).read_text(), file=sys.stderr)
        ask("/api/create", model=model)
    elif command == "run":
        ask("/api/generate", model=rest[0], prompt=sys.stdin.read())


if __name__ == "__main__":
    main()
