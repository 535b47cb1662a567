"""Finds a supervisor that has outlived an earlier run, and joins it.

Such a supervisor has a file that only this user can read. It says where the supervisor listens, and for whom. A run
joins by sending its settings, its secrets and its own listening socket: from then on the supervisor serves the run's
processes on that socket, as if the run had started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_vastgpu.client.calls import Opening
from pytest_vastgpu.client.calls import Warm
from pytest_vastgpu.client.listener import Listener
from pytest_vastgpu.core import messages
from pytest_vastgpu.core.account import account_identity
from pytest_vastgpu.core.codec import NotDeclared
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.directories import private_directory
from pytest_vastgpu.core.directories import state_directory
from pytest_vastgpu.core.environment import API_KEY
from pytest_vastgpu.core.environment import IMAGE_LOGIN
from pytest_vastgpu.core.environment import SSH_KEY_PATH
from pytest_vastgpu.core.fork_safety import close_private
from pytest_vastgpu.core.fork_safety import keep_private
from pytest_vastgpu.core.version import version
from pytest_vastgpu.errors import VastGpuError

SENT = (API_KEY, IMAGE_LOGIN, SSH_KEY_PATH)
"""The environment variables that a supervisor must have in common with the runs that it serves."""
ANSWERS_WITHIN_S = 10.0
"""Limit for the answer to a run that wants to join."""
TURN_WITHIN_S = 30.0
"""How long a run waits for another one that starts at the same time."""
TURN_PAUSE_S = 0.05
ENDS_WITHIN_S = 600.0
"""Limit for giving everything back."""


class NotJoined(VastGpuError):
    """The supervisor does not serve this run; the text says why."""


@dataclass(frozen=True)
class WarmSupervisor:
    """What the file of such a supervisor says."""

    path: str
    """The socket's path; begins with NUL in Linux' abstract namespace."""
    secret: str = field(repr=False)
    pid: int
    version: str
    """Of this package."""
    market: str
    """The market's base URL; empty for a local market of its own."""
    account: str
    """Identity of the account there; empty for a local market of its own."""
    project: str
    """The root directory of the tests."""
    run: str
    """The id of the run that has started it."""
    since: float
    """Epoch seconds."""

    @property
    def file(self) -> Path:
        """Its file."""
        return file_for(self.project, self.account)


def file_for(project: str, account: str) -> Path:
    """The file of the supervisor that keeps instances of an account warm for a project."""
    name = hashlib.sha256(f"{account}\0{project}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return _directory() / f"{name}.json"


def account_at(market: str, environ: Mapping[str, str] = os.environ) -> str:
    """Identity of the user's account at a market; empty for a local market of the run's own."""
    return account_identity(market, environ.get(API_KEY, "").strip()) if market else ""


def find(project: str, market: str) -> WarmSupervisor | None:
    """The supervisor that keeps instances of the user's account warm for a project, if one lives."""
    known = read(file_for(project, account_at(market)))
    return known if known is not None and is_alive(known) else None


@contextlib.contextmanager
def turn(project: str, market: str) -> Iterator[None]:
    """Take turns with other runs of a project that start at the same time; after a while go on all the same.

    :raises OSError: if the directory of these files cannot be made or used.
    """
    path = private_directory(_directory()) / file_for(project, account_at(market)).with_suffix(".lock").name
    descriptor = keep_private(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    ends = time.monotonic() + TURN_WITHIN_S
    try:
        while time.monotonic() < ends:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(TURN_PAUSE_S)
            else:
                break
        yield
    finally:
        close_private(descriptor)


def write(known: WarmSupervisor) -> bool:
    """Write the file of a supervisor; returns whether no other one has it.

    :raises OSError: if it cannot be written.
    """
    directory = private_directory(_directory())
    draft = directory / f".{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(encode(known), file)
        for _ in range(2):
            try:
                os.link(draft, known.file)  # unlike a rename, it never replaces the file of another one
            except FileExistsError:
                other = read(known.file)
                if other is not None and is_alive(other):
                    return False
                known.file.unlink(missing_ok=True)
            else:
                return True
        return False
    finally:
        draft.unlink(missing_ok=True)


def remove(known: WarmSupervisor) -> None:
    """Remove the file of a supervisor, unless it is another one's by now."""
    if read(known.file) == known:
        known.file.unlink(missing_ok=True)


def read(path: Path) -> WarmSupervisor | None:
    """What a file says; None if there is none, or if another version has written it."""
    try:
        found: WarmSupervisor = decode(WarmSupervisor, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, NotDeclared):
        return None
    return found


def all_warm() -> list[WarmSupervisor]:
    """Every supervisor of this user that lives."""
    try:
        paths = sorted(_directory().glob("*.json"))
    except OSError:
        return []
    found = [known for path in paths if (known := read(path)) is not None]
    return [known for known in found if is_alive(known)]


def is_alive(known: WarmSupervisor) -> bool:
    """Whether a supervisor still listens, also one of another version."""
    return _answer(known) is not None


def instances(known: WarmSupervisor) -> list[Warm] | None:
    """What a supervisor keeps warm for the next run; None if it does not say, perhaps in the words of this version."""
    answer = _answer(known)
    try:
        return decode(list[Warm], answer["warm"]) if answer is not None else None
    except (NotDeclared, LookupError):
        return None


def _answer(known: WarmSupervisor) -> dict[str, Any] | None:
    try:
        with _connected(known) as sock:
            messages.send(sock, {"secret": known.secret, "ask": "alive"})
            answer = messages.receive(sock, within_s=ANSWERS_WITHIN_S)
    except (OSError, EOFError, ValueError):
        return None
    return answer if isinstance(answer, dict) else {}


def join(known: WarmSupervisor, opening: Opening, listener: Listener) -> None:
    """Have a supervisor serve this run.

    :raises NotJoined: it does not; the text says why.
    """
    if known.version != version():
        raise NotJoined(f"it is of version {known.version}, and this one is {version()}")
    try:
        with _connected(known) as sock:
            messages.send(sock, {"secret": known.secret, "ask": "join"})
            # Not in a variable: a traceback that shows variables must not show a key.
            environ = (name for name in SENT if name in os.environ)
            messages.sendall(sock, messages.framed([encode(opening), {name: os.environ[name] for name in environ}]))
            socket.send_fds(sock, [b"L"], [listener.socket.fileno()])
            answer = messages.receive(sock, within_s=ANSWERS_WITHIN_S)
            if answer.get("refused") == "":
                messages.send(sock, {"goes on": True})  # until then the supervisor does not touch the socket
                answer = messages.receive(sock, within_s=ANSWERS_WITHIN_S)
    except (OSError, EOFError, ValueError):
        answer = {"refused": "it does not answer"}
    if refused := answer.get("refused"):
        raise NotJoined(str(refused))


def stop(known: WarmSupervisor) -> list[str]:
    """Have a supervisor give everything back, and wait for that; returns what could not be destroyed.

    :raises NotJoined: a run uses it, or it does not answer.
    """
    try:
        with _connected(known) as sock:
            messages.send(sock, {"secret": known.secret, "ask": "end"})
            answer: dict[str, Any] = messages.receive(sock, within_s=ENDS_WITHIN_S)
    except (OSError, EOFError, ValueError):
        raise NotJoined("it does not answer") from None
    if refused := answer.get("refused"):
        raise NotJoined(str(refused))
    return [str(problem) for problem in answer["problems"]]


def login_leader() -> int:
    """The process that leads the user's login session: the shell of a terminal, for example.

    Where this process leads a session of its own, such as below a test harness, its parent's session counts.
    """
    leader = os.getsid(0)
    with contextlib.suppress(OSError):
        if leader == os.getpid():
            leader = os.getsid(os.getppid())
    return leader


def age(known: WarmSupervisor) -> str:
    """When it was started, for people."""
    return time.strftime("%H:%M:%S", time.localtime(known.since))


def _directory() -> Path:
    return state_directory() / "warm"


@contextlib.contextmanager
def _connected(known: WarmSupervisor) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(None)
        sock.connect(known.path)
        if messages.peer_uid(sock) not in (os.getuid(), -1):
            raise ConnectionRefusedError("another user listens there")
        yield sock
