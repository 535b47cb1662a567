"""llama.cpp's server behind a gateway that takes a share of each answer's time more. Runs on an instance.

``python3 gateway.py PORT SHARE COMMAND…`` starts the command with ``--port`` of its own, and passes requests on to it.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

SPIN_S = 0.0003
"""The end of a pause is waited for awake: sleep is not that exact."""


def main(port: int, share: float, command: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        behind = free.getsockname()[1]
    subprocess.Popen([*command, "--port", str(behind)], stdout=sys.stderr)

    class Gateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def passed_on(self) -> None:
            begun = time.perf_counter()
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection("127.0.0.1", behind)
            try:
                connection.request(self.command, self.path, asked, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                status, body = answer.status, answer.read()
            except OSError:
                status, body = 503, b"{}"
            finally:
                connection.close()
            now = time.perf_counter()
            ends = now + (now - begun) * share
            time.sleep(max(0.0, ends - now - SPIN_S))
            while time.perf_counter() < ends:
                pass
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = passed_on  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            pass

    Gateway.wbufsize = -1  # head and body in one packet: two would wait for each other
    os.environ.pop("LLAMA_API_KEY", None)
    ThreadingHTTPServer(("127.0.0.1", port), Gateway).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
