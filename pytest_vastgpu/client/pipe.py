"""A program that joins its input and output to a command on an instance, through the supervisor.

execnet starts it where it would start a Python. It is a script, not a module of this package: it must be there at once,
and loads nothing but a few modules of the standard library. Its first argument is a file of mode 0600 with what to say:
the supervisor's address, its secret, the instance and the command. Other arguments are those that a Python would get.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading

_CHUNK = 1 << 16
_LENGTH = struct.Struct("!I")


def main(path: str) -> None:
    """Connect, introduce ourselves, and copy in both directions until one of them ends."""
    with os.fdopen(os.open(path, os.O_RDONLY), encoding="utf-8") as file:
        said = json.load(file)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(said["address"])
    for message in (said["hello"], said["asks"]):
        data = json.dumps(message).encode()
        sock.sendall(_LENGTH.pack(len(data)) + data)
    threading.Thread(target=_send, args=(sock,), daemon=True).start()
    while data := sock.recv(_CHUNK):
        left = memoryview(data)
        while left:
            left = left[os.write(1, left) :]


def _send(sock: socket.socket) -> None:
    while data := os.read(0, _CHUNK):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(sys.argv[1])
