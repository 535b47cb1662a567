"""A language model and its OpenAI-compatible server, in nothing but Python's standard library.

The model is a transformer over characters that ``train.py`` has trained: 2 layers, 4 heads, 30,000 weights. It is
small enough to be computed in plain Python, so it starts at once on any machine that has a ``python3``.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import random
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from operator import add
from operator import mul
from pathlib import Path

NAME = "quickstart-30k"


def dot(a, b):
    return sum(map(mul, a, b))


def times(matrix, vector):
    return [dot(row, vector) for row in matrix]


def plus(a, b):
    return list(map(add, a, b))


def normed(vector, scale):
    root = math.sqrt(dot(vector, vector) / len(vector) + 1e-6)
    return [x / root * s for x, s in zip(vector, scale, strict=True)]


def softmax(values):
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


class Model:
    """The trained weights, and the way from a text to its next character."""

    def __init__(self, path: Path) -> None:
        stored = json.loads(path.read_text(encoding="utf-8"))
        self.vocabulary, self.context, self.heads = stored["vocabulary"], stored["context"], stored["heads"]
        self.token_of = {text: token for token, text in enumerate(self.vocabulary)}
        weights = {}
        for number, (name, (rows, columns, packed)) in enumerate(stored["weights"].items(), 1):
            print(f"loading weights {number}/{len(stored['weights'])}: {name}", flush=True)
            flat = struct.unpack(f"<{rows * columns}e", base64.b64decode(packed))
            weights[name] = [flat[start : start + columns] for start in range(0, len(flat), columns)]
        self.weights = weights

    def next_scores(self, token: int, cache: list[dict[str, list[list[float]]]]) -> list[float]:
        """Scores of every next token after one more token; the cache holds what is known of those before it."""
        w, position = self.weights, len(cache[0]["key"])
        x = plus(w["embedding"][token], w["position"][position])
        size = len(x) // self.heads
        for layer, past in enumerate(cache):
            h = normed(x, w[f"{layer}.attention.norm"][0])
            query = times(w[f"{layer}.query"], h)
            past["key"].append(times(w[f"{layer}.key"], h))
            past["value"].append(times(w[f"{layer}.value"], h))
            mixed = []
            for start in range(0, len(x), size):
                part = slice(start, start + size)
                shares = softmax([dot(query[part], key[part]) / math.sqrt(size) for key in past["key"]])
                mixed += [dot(shares, column) for column in zip(*(v[part] for v in past["value"]), strict=True)]
            x = plus(x, times(w[f"{layer}.output"], mixed))
            h = normed(x, w[f"{layer}.mlp.norm"][0])
            x = plus(x, times(w[f"{layer}.down"], [max(0.0, y) for y in times(w[f"{layer}.up"], h)]))
        return times(w["embedding"], normed(x, w["norm"][0]))

    def complete(self, prompt: str, max_tokens: int, temperature: float, seed: int | None) -> tuple[str, int, str]:
        """The text that follows, its number of tokens, and why it ended. Token 0 begins and ends every text."""
        tokens = [0, *(self.token_of[character] for character in prompt)]
        cache = [{"key": [], "value": []} for name in self.weights if name.endswith(".query")]
        for token in tokens[:-1]:
            self.next_scores(token, cache)
        chance, token, written = random.Random(seed), tokens[-1], []
        for _ in range(min(max_tokens, self.context - len(tokens))):
            scores = self.next_scores(token, cache)
            if temperature > 0:
                shares = softmax([score / temperature for score in scores])
                token = chance.choices(range(len(scores)), shares)[0]
            else:
                token = scores.index(max(scores))
            if token == 0:
                return "".join(written), len(written), "stop"
            written.append(self.vocabulary[token])
        return "".join(written), len(written), "length"


class BadRequest(Exception):
    """Said to the client as 400."""


class Handler(BaseHTTPRequestHandler):
    """The OpenAI API's paths, over the server's model."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ModelServer

    def do_GET(self) -> None:
        self.answer({"/health": dict, "/v1/models": self.models})

    def do_POST(self) -> None:
        self.answer({"/v1/completions": self.completion, "/v1/chat/completions": self.chat})

    def answer(self, routes) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if self.path not in routes:
                status, reply = 404, error(f"no such path: {self.path}")
            elif self.path != "/health" and self.server.key not in ("", bearer):
                status, reply = 401, error("wrong or missing key")
            else:
                status, reply = 200, routes[self.path]()
        except BadRequest as bad:
            status, reply = 400, error(str(bad))
        payload = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def models(self):
        return {"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "pytest-vastgpu"}]}

    def completion(self):
        asked = self.asked()
        return self.reply("text_completion", asked, str(asked.get("prompt", "")), lambda text: {"text": text})

    def chat(self):
        asked = self.asked()
        try:
            prompt = "".join(f"{message['content']}\n" for message in asked["messages"])
        except (KeyError, TypeError):
            raise BadRequest("messages must be a list of {role, content}") from None
        return self.reply(
            "chat.completion", asked, prompt, lambda text: {"message": {"role": "assistant", "content": text}}
        )

    def asked(self):
        try:
            asked = json.loads(self.body)
        except ValueError:
            raise BadRequest("the body is not JSON") from None
        if not isinstance(asked, dict) or asked.get("model") != NAME:
            raise BadRequest(f"the model here is {NAME}")
        return asked

    def reply(self, kind, asked, prompt, choice):
        model = self.server.model
        if unknown := sorted(set(prompt) - set(model.token_of)):
            raise BadRequest(f"characters that the model does not know: {unknown}")
        if len(prompt) > model.context - 2:
            raise BadRequest(f"the prompt has {len(prompt)} characters; {model.context - 2} fit")
        try:
            limit, temperature = int(asked.get("max_tokens", 64)), float(asked.get("temperature", 1.0))
        except (TypeError, ValueError):
            raise BadRequest("max_tokens and temperature must be numbers") from None
        with self.server.one_at_a_time:
            text, count, reason = model.complete(prompt, limit, temperature, asked.get("seed"))
        return {
            "id": f"{kind}-{time.time_ns()}",
            "object": kind,
            "created": int(time.time()),
            "model": NAME,
            "choices": [{"index": 0, **choice(text), "finish_reason": reason}],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count},
        }

    def log_message(self, text, *values) -> None:
        print(text % values, flush=True)


def error(message: str):
    return {"error": {"message": message, "type": "invalid_request_error"}}


class ModelServer(ThreadingHTTPServer):
    """Listens on its machine's loopback only: the tunnel from the tests ends there."""

    def __init__(self, port: int, model: Model, key: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.model, self.key, self.one_at_a_time = model, key, threading.Lock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--weights", type=Path, default=Path(__file__).with_name("weights.json"))
    given = parser.parse_args()
    model = Model(given.weights)
    server = ModelServer(given.port, model, os.environ.get("VASTGPU_API_KEY", ""))
    print(f"serving {NAME} on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
