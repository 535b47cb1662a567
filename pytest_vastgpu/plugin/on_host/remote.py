"""The program of a worker on a host: it makes the host look like home to xdist's own worker, and becomes that.

execnet sends its source, so it imports nothing of this package. What it is told, :mod:`.worker_input` says.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def _plain(value: Any) -> Any:
    """A value as it can be sent: of what execnet does not know, its text."""
    if value is None or type(value) in {bool, int, float, complex, bytes}:
        return value
    if isinstance(value, dict):
        return {_plain(key): _shown(each) if key == "user_properties" else _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return kind(_plain(each) for each in value)
    return _text(value)


def _shown(properties: Any) -> Any:
    """The properties of a test as a JUnit file shows them."""
    return [(_text(name), _text(value)) for name, value in properties]


def _text(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception as error:  # noqa: BLE001 - whatever the class of a test's author raises
        return f"<{type(value).__name__} whose text is not to be had: {type(error).__name__}>"


class _Channel:
    """The channel. What it has received already is there once more; what it cannot send is sent as text."""

    def __init__(self, channel: Any, received: Any) -> None:
        self._channel = channel
        self._received = received

    def receive(self) -> Any:
        return self._received

    def send(self, item: Any) -> None:
        try:
            self._channel.send(item)
        except OSError:  # it is closed
            raise
        except Exception:  # noqa: BLE001 - execnet's own kinds, which cannot be imported here
            self._channel.send(_plain(item))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


def _lead_home(channel: Any, workerinput: dict[str, Any], key: str) -> None:
    """Name a port of this machine to a plugin that calls one of its own at home; it leads there."""
    server = socket.create_server(("127.0.0.1", 0))
    workerinput[key] = server.getsockname()[1]

    def take(caller: socket.socket) -> None:
        def answer(data: bytes) -> None:
            with contextlib.suppress(OSError):  # either side may end first
                caller.sendall(data) if data else caller.shutdown(socket.SHUT_RDWR)

        line = channel.gateway.newchannel()
        line.setcallback(answer, endmarker=b"")
        channel.send(("vastgpu_call", {"line": line, "key": key}))
        with caller, contextlib.suppress(OSError):
            while data := caller.recv(1 << 16):
                line.send(data)
            line.close()

    def serve() -> None:
        while True:
            caller, _ = server.accept()
            threading.Thread(target=take, args=(caller,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def _gpus(places: list[int]) -> str:
    """``CUDA_VISIBLE_DEVICES`` for the GPUs at these places of what this host has for us."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    known = visible.split(",") if visible else [str(place) for place in places]
    return ",".join(known[place] for place in places if place < len(known)) if visible else ",".join(known)


def _write(path: Path, text: str) -> None:
    """Other workers of this host write the same, and read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _settle(told: dict[str, Any]) -> None:
    """Take the place in the project, with the environment that the tests shall find."""
    os.environ.update(told["environ"])
    # For a Python that a test starts: here, pytest is installed where it finds it.
    path = [told["runner"], *told["python_path"], os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if told["gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = _gpus(told["gpus"])
    own = [entry for entry in sys.path if entry]  # "" is there because of how execnet starts a Python
    sys.path[:] = list(dict.fromkeys([told["runner"], *told["first"], *own, *told["last"]]))
    os.chdir(told["directory"])
    Path(told["basetemp"]).parent.mkdir(parents=True, exist_ok=True)
    for name, text in told["cache"].items():
        _write(Path(told["cache_dir"], name), text)


def _unknown_plugins(known: list[str]) -> list[str]:
    """Arguments that keep pytest from loading what only the image has: its options would be unknown at home."""
    found = {each.name for each in entry_points(group="pytest11")} - set(known)
    return [word for name in sorted(found) for word in ("-p", f"no:{name}")]


def _become(channel: Any) -> None:
    workerinput, _, options, _ = channel.receive()
    told = workerinput["vastgpu_host"]
    workerinput["vastgpu_host"] = {name: told[name] for name in ("name", "fetch") if name in told}
    _settle(told)
    for key in told["ports"]:
        _lead_home(channel, workerinput, key)
    options["basetemp"] = told["basetemp"]
    # Its source is read, and it is not imported: pytest shall be the first to import a plugin.
    spec = find_spec("xdist")
    assert spec is not None  # noqa: S101 - it was brought
    file = Path(spec.submodule_search_locations[0], "remote.py")  # type: ignore[index]
    arguments = [*told["arguments"], *_unknown_plugins(told["plugins"])]
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True)
    ours = _Channel(channel, (workerinput, arguments, options, sys.path))
    exec(code, {"__name__": __name__, "channel": ours})  # noqa: S102 - such a program, too


if __name__ == "__channelexec__":
    _become(channel)  # type: ignore[name-defined] # noqa: F821 - execnet's
