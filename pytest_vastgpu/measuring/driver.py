"""The program that makes the load, on the instance itself. It needs Python 3.8 and its standard library, nothing else.

It reads its orders as one line of JSON from standard input, and prints what it saw as one line of JSON. The server's
key comes in the orders, so that no process list shows it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from typing import Any


def ask(orders: dict[str, Any], number: int) -> dict[str, Any]:
    """Send one request; returns what came when: ``{"start", "first", "gaps", "end", "tokens", "error"}``.

    Times are seconds on a clock that never jumps. ``gaps`` are those between pieces of a stream.
    """
    seen: dict[str, Any] = {"start": time.monotonic(), "first": None, "gaps": [], "tokens": 0, "error": ""}
    try:
        if orders["kind"] == "command":
            command = ["sh", "-c", orders["path"]]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=orders["timeout_s"], check=False)
            seen["error"] = f"exit code {done.returncode}" if done.returncode else ""
        else:
            _http(orders, number, seen)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer's
        seen["error"] = f"{type(error).__name__}: {error}"
    seen["end"] = time.monotonic()
    return seen


def _http(orders: dict[str, Any], number: int, seen: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", orders["port"], timeout=orders["timeout_s"])
    body = json.dumps(orders["body"]).replace("{n}", str(number))
    try:
        connection.request("POST", orders["path"], body, {"Content-Type": "application/json", **orders["headers"]})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}: {answer.read(200).decode(errors='replace')}")
        if not orders["stream"]:
            answer.read()
            return
        last = seen["start"]
        for line in answer:
            if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                continue
            piece, now = json.loads(line[5:]), time.monotonic()
            if piece.get("usage"):
                seen["tokens"] = piece["usage"].get("completion_tokens", 0)
            if not piece.get("choices"):
                continue
            if seen["first"] is None:
                seen["first"] = now
            else:
                seen["gaps"].append(now - last)
            last = now
    finally:
        connection.close()


def drive(orders: dict[str, Any]) -> dict[str, Any]:
    """Make the load until its time is over; returns all that was asked."""
    ends = time.monotonic() + orders["warmup_s"] + orders["seconds"]
    seen: list[dict[str, Any]] = []
    numbers, lock = iter(range(1 << 62)), threading.Lock()

    def loop() -> None:
        while time.monotonic() < ends:
            with lock:
                number = next(numbers)
            found = ask(orders, number)
            with lock:
                seen.append(found)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(orders["concurrency"])]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"begun": begun, "ends": ends, "seen": seen}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(drive(json.loads(sys.stdin.readline()))))
