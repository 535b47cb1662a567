"""A search server: documents as vectors of weighted letter groups, ranked by the cosine to the query's vector.

Its ways are its own, which is why it needs an adapter: ``/status`` always answers 200 and says how far the index is;
the key travels in a header of its own; a document that cannot be indexed ends it with exit code 3.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs
from urllib.parse import urlsplit

SHORTEST = 3


def groups(text: str) -> Counter[str]:
    """How often each group of three letters occurs."""
    plain = f" {text.lower()} "
    return Counter(plain[start : start + SHORTEST] for start in range(len(plain) - SHORTEST + 1))


def cosine(one: dict[str, float], other: dict[str, float]) -> float:
    shared = sum(weight * other.get(group, 0.0) for group, weight in one.items())
    return shared / (math.hypot(*one.values()) * math.hypot(*other.values()) or 1.0)


class Index:
    """Documents, and how far they have been read."""

    def __init__(self, documents: list[str]) -> None:
        self.documents = documents
        self.counted: list[Counter[str]] = []
        self.vectors: list[dict[str, float]] = []

    def build(self) -> None:
        for number, text in enumerate(self.documents, 1):
            if len(text) < SHORTEST:
                print(f"cannot index document {number} of {len(self.documents)}: {text!r} is too short", flush=True)
                os._exit(3)
            self.counted.append(groups(text))
            print(f"indexed {number}/{len(self.documents)}", flush=True)
        self.vectors = [self.weighted(counts) for counts in self.counted]

    def weighted(self, counts: Counter[str]) -> dict[str, float]:
        """Groups that few documents have weigh more."""
        total = len(self.counted)
        return {
            group: count * math.log((1 + total) / (1 + sum(group in other for other in self.counted)))
            for group, count in counts.items()
        }

    def search(self, query: str) -> list[dict[str, object]]:
        wanted = self.weighted(groups(query))
        scored = [(cosine(wanted, vector), text) for vector, text in zip(self.vectors, self.documents, strict=True)]
        return [{"score": round(score, 4), "text": text} for score, text in sorted(scored, reverse=True)]


class Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/status":
            self.reply(200, {"indexed": len(self.index.vectors), "documents": len(self.index.documents)})
        elif asked.path != "/search":
            self.reply(404, {"error": f"no such path: {asked.path}"})
        elif self.headers.get("X-Search-Key") != os.environ["SEARCH_KEY"]:
            self.reply(403, {"error": "wrong or missing X-Search-Key"})
        else:
            self.reply(200, self.index.search(parse_qs(asked.query)["q"][0]))

    def reply(self, status: int, content: object) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main() -> None:
    Handler.index = Index(Path("documents.txt").read_text(encoding="utf-8").splitlines())
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    threading.Thread(target=Handler.index.build, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
