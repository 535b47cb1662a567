"""A search server: ``python3 search_server.py HOST PORT SHORTEST`` searches the lines of ``documents.txt``.

``/status`` answers from the first moment on and says how far the index is, so "it answers" is not "it is ready". A
document that is too short to be indexed ends the server with exit code 3.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path


class Index:
    """Documents by the letters they have; more of the query's letters is a better match."""

    def __init__(self, documents: list[str]) -> None:
        self.documents = documents
        self.letters: list[Counter[str]] = []

    def read(self, shortest: int) -> None:
        for number, text in enumerate(self.documents, 1):
            if len(text) < shortest:
                print(f"cannot index document {number} of {len(self.documents)}: {text!r} is too short", flush=True)
                os._exit(3)
            letters = Counter(text.lower())
            print(f"indexed {number}/{len(self.documents)}", flush=True)
            self.letters.append(letters)  # once it is printed: the last one makes the index complete

    def status(self) -> dict[str, object]:
        return {
            "complete": len(self.letters) == len(self.documents),
            "indexed": len(self.letters),
            "documents": len(self.documents),
        }

    def best(self, query: str) -> str:
        wanted = Counter(query.lower())
        return max(zip(self.letters, self.documents, strict=True), key=lambda each: (each[0] & wanted).total())[1]


class Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        if self.path == "/status":
            self.reply(200, self.index.status())
        else:
            self.reply(404, {"error": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {os.environ['SEARCH_KEY']}":
            self.reply(401, {"error": "wrong or missing key"})
        elif self.path != "/search":
            self.reply(404, {"error": f"no such path: {self.path}"})
        else:
            self.reply(200, {"found": self.index.best(asked["query"])})

    def reply(self, status: int, content: object) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main(host: str, port: str, shortest: str) -> None:
    Handler.index = Index(Path("documents.txt").read_text(encoding="utf-8").splitlines())
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=Handler.index.read, args=(int(shortest),), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
