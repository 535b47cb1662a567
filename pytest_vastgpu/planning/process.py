"""The process that looks at the market for a plan: question and secrets on standard input, the answer on its output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pytest_vastgpu.client import rpc
from pytest_vastgpu.core.codec import decode
from pytest_vastgpu.core.codec import encode
from pytest_vastgpu.errors import VastGpuError
from pytest_vastgpu.planning.client import Question
from pytest_vastgpu.planning.market import look
from pytest_vastgpu.servers.base import require_adapter
from pytest_vastgpu.servers.files import require_room
from pytest_vastgpu.servers.listing import brought_by
from pytest_vastgpu.servers.registry import adapters


def main() -> int:
    """Answer one question.

    :returns: 0; also an error is an answer.
    """
    question = decode(Question, json.loads(sys.stdin.readline()))
    environ = {**os.environ, **json.loads(sys.stdin.read())}
    try:
        known = {*question.adapters, *(adapter.name for adapter, _ in adapters())}
        for workload in question.workloads:
            require_adapter(workload.adapter, known)
            require_room(brought_by(workload), workload.disk_gb)
        answer = look(question.settings, question.workloads, environ, Path(question.directory), question.timeouts)
        told = {"answer": encode(answer)}
    except VastGpuError as error:
        told = {"error": rpc.encode_error(error)}
    sys.stdout.write(json.dumps(told))
    return 0
