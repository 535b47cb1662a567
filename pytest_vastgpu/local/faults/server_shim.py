"""A program that replaces a server in an instance, and fails as servers do.

It has the server's name and lies in a directory that comes first in the instance's ``PATH``. For calls that do not
start the server it executes the real program. Run as a program, this file imports the standard library only.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from typing import TextIO

CONFIG_FILE = "server_fault.json"
"""The file beside the program that says what it does."""
NOT_FOUND_STATUS = 127
"""A shell's exit status for a program that does not exist."""
_LOOK_S = 0.05
_SIGNALLED = 128
"""A shell adds the number of the signal to this."""


def install(directory: Path, fault: dict[str, Any]) -> None:
    """Install the program for a fault."""
    directory.mkdir(exist_ok=True)
    config_file = directory / CONFIG_FILE
    config_file.write_text(json.dumps(fault))
    program = directory / fault["program"]
    own = shutil.copy(__file__, directory / "server_shim.py")  # the instance may not see the package, or its venv
    call = shlex.join([str(Path(sys.executable).resolve()), "-I", "-S", str(own), str(config_file)])
    program.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    program.chmod(0o755)


def main(config_file: Path, arguments: list[str]) -> int:
    """Act the fault, or execute the real program.

    :returns: The exit status of a server that ended.
    """
    fault: dict[str, Any] = json.loads(config_file.read_text())
    if not any(fault["argument"] in each for each in arguments):
        return _become(fault["program"], config_file.parent, arguments)
    if fault["kind"] in {"dies", "freezes"}:
        return _run_for_a_while(fault, config_file.parent, arguments)
    if fault["kind"] == "floods":
        while True:
            sys.stdout.write("x" * 65536)
    for line in fault["lines"]:
        _say(sys.stdout, line)
    if fault["kind"] == "serves":
        _serve(fault, arguments)
    if fault["kind"] == "hangs":
        while True:
            signal.pause()
    time.sleep(fault["after_s"])
    _say(sys.stderr, fault["text"])
    return int(fault["exit_code"])


def _real(program: str, shims: Path) -> str | None:
    ours = shims.resolve()
    path = [each for each in os.get_exec_path() if each and Path(each).resolve() != ours]
    return shutil.which(program, path=os.pathsep.join(path))


def _become(program: str, shims: Path, arguments: Sequence[str]) -> int:
    real = _real(program, shims)
    if real is not None:
        os.execv(real, [real, *arguments])  # noqa: S606 - it is a command line already
    return _not_found(program)


def _not_found(program: str) -> int:
    _say(sys.stderr, f"{program}: not found")
    return NOT_FOUND_STATUS


def _say(where: TextIO, text: str) -> None:
    where.write(f"{text}\n")
    where.flush()


def _run_for_a_while(fault: dict[str, Any], shims: Path, arguments: Sequence[str]) -> int:
    """Run the real server, and kill or freeze it some time after its port first answered."""
    real = _real(fault["program"], shims)
    if real is None:
        return _not_found(fault["program"])
    with subprocess.Popen([real, *arguments]) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        while server.poll() is None and not _answers(int(fault["port"])):
            time.sleep(_LOOK_S)
        try:
            return server.wait(fault["after_s"])
        except subprocess.TimeoutExpired:
            _say(sys.stderr, fault["text"])
            server.send_signal(signal.SIGKILL if fault["kind"] == "dies" else signal.SIGSTOP)
            return _SIGNALLED - server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _serve(fault: dict[str, Any], arguments: Sequence[str]) -> None:
    """Serve OpenAI's API: list a model, and answer completions once the time ``for_s`` is over.

    With ``status``, answer that to everything instead; with ``instead``, listen on that port.
    """
    model = fault["model"] or _option(arguments, "--served-model-name") or _requested_model(arguments)
    ready_at = time.monotonic() + fault["for_s"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(int(fault["status"]) or 200, {"object": "list", "data": [{"id": model, "object": "model"}]})

        def do_POST(self) -> None:
            requested = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}").get("model")
            if fault["status"]:
                self._send(int(fault["status"]), {"error": {"message": "Not here.", "code": int(fault["status"])}})
            elif time.monotonic() < ready_at:
                self._send(503, {"error": {"message": "The engine is still starting.", "code": 503}})
            elif requested != model:
                self._send(404, {"error": {"message": f"The model `{requested}` does not exist.", "code": 404}})
            else:
                message = {"role": "assistant", "content": "simulated"}
                choice = {"index": 0, "text": "simulated", "message": message, "finish_reason": "length"}
                self._send(200, {"id": "cmpl-0", "model": model, "choices": [choice]})

        def _send(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    port = int(fault["instead"] or _option(arguments, "--port") or fault["port"])
    ThreadingHTTPServer((_option(arguments, "--host") or "127.0.0.1", port), Handler).serve_forever()


def _option(arguments: Sequence[str], name: str) -> str:
    for each, following in zip(arguments, [*arguments[1:], ""]):  # noqa: B905 - the lengths are equal
        if each == name:
            return following
        if each.startswith(f"{name}="):
            return each.partition("=")[2]
    return ""


def _requested_model(arguments: Sequence[str]) -> str:
    """Return the model of ``vllm serve MODEL`` or ``--model MODEL``."""
    if named := _option(arguments, "--model"):
        return named
    after = arguments[arguments.index("serve") + 1 :] if "serve" in arguments else []
    return after[0] if after else ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
