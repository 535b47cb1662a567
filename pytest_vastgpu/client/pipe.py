"""A program that joins its input and output to a command on an instance, through the supervisor.

execnet starts it where it would start a Python. It is a script, not a module of this package: it must be there at once,
and loads nothing but a few modules of the standard library. Its first argument is a file of mode 0600 with what to say:
the supervisor's address, its secret, the instance and the command. Other arguments are those that a Python would get.

It says nothing where one of its ends is gone: pytest learns that from the end of its output, and tells why.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading

_CHUNK = 1 << 16
_LENGTH = struct.Struct("!I")


def main(path: str) -> int:
    """Connect, introduce ourselves, and copy in both directions until one of them ends. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which still has to hear from its workers
    sock = socket.socket(socket.AF_UNIX)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY), encoding="utf-8") as file:
            said = json.load(file)
        os.remove(path)  # noqa: PTH107 - pathlib takes long to load. It has served, and holds a secret
        sock.connect(said["address"])
        for message in (said["hello"], said["asks"]):
            data = json.dumps(message).encode()
            sock.sendall(_LENGTH.pack(len(data)) + data)
    except (OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"vastgpu: no way to the host: {error}\n")
        return 1
    threading.Thread(target=_send, args=(sock,), daemon=True).start()
    with contextlib.suppress(OSError):  # pytest, or the supervisor, is gone
        while data := sock.recv(_CHUNK):
            left = memoryview(data)
            while left:
                left = left[os.write(1, left) :]
    return 0


def _send(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _CHUNK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(status)  # the other thread may be in the middle of a read
