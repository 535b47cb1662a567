"""Has a process of its own look at the market for a plan, since a test process holds neither key nor market client."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from dataclasses import replace

from pytest_vastgpu.client import rpc
from pytest_vastgpu.client.process import SECRET_VARIABLES
from pytest_vastgpu.core import child
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.core.timeouts import Timeouts
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.model import Workload
from pytest_vastgpu.selection.search import Survey
from pytest_vastgpu.settings import Settings


@dataclass(frozen=True)
class Question:
    """What to look for."""

    settings: Settings
    workloads: tuple[Workload, ...]
    adapters: tuple[str, ...]
    """Names of the adapters that conftest files and plugins bring."""
    directory: str
    """The directory in which pytest was started: a relative path of the host cache begins there."""
    timeouts: Timeouts


@dataclass(frozen=True)
class Answer:
    """What the market has."""

    surveys: tuple[Survey, ...]
    """One for each workload, in their order."""
    credit_usd: float | None
    """The account's credit; None if the key may not see it."""
    notes: tuple[str, ...] = ()
    """What a person should read, such as that a damaged host cache was set aside."""


def ask(question: Question) -> Answer:
    """Start the process, and wait for its answer.

    :raises VastGpuError: one line, such as that the market does not answer.
    """
    plain = replace(question, workloads=tuple(map(_without_secrets, question.workloads)))
    secrets = {name: os.environ[name] for name in SECRET_VARIABLES if name in os.environ}
    try:
        done = subprocess.run(
            child.command("pytest_vastgpu.planning.process"),
            input=f"{json.dumps(encode(plain))}\n{json.dumps(secrets)}",
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=child.environment(without=SECRET_VARIABLES),
            check=False,
        )
    except OSError as error:
        raise VastGpuError(f"the process that looks at the market cannot be started ({error})") from error
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise VastGpuError(f"the process that looks at the market ended early ({done.returncode}): {last[0]}") from None
    if "error" in told:
        raise rpc.decode_error(told["error"])
    answer: Answer = decode(Answer, told["answer"])
    return answer


def _without_secrets(workload: Workload) -> Workload:
    """A workload of which the same offers are admitted. Of its environment only the names decide."""
    return replace(workload, env=tuple((name, "") for name, _ in workload.env), image_login="")
