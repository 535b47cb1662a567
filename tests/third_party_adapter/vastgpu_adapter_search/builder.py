"""The builder: what a test says it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from pytest_vastgpu import Workload
from pytest_vastgpu import WorkloadFields
from pytest_vastgpu import build
from pytest_vastgpu import builder

SERVER = Path(__file__).parent / "search_server.py"
NEEDS: WorkloadFields = {"gpus": 0, "disk_gb": 8.0}


@builder(**NEEDS)
def search(documents: str | Path, *, shortest: int = 3, port: int = 8000, **fields: Unpack[WorkloadFields]) -> Workload:
    """A workload that searches the lines of a file.

    :param documents: The file.
    :param shortest: Fewest characters of a document; a shorter one cannot be indexed. Default: 3.
    :param port: The TCP port that the server listens on, on the instance's loopback. Default: 8000.
    :param fields: What to rent.
    """
    files = {"documents.txt": documents, SERVER.name: SERVER}
    needs: WorkloadFields = {**NEEDS, **fields}
    return build("search", files=files, port=port, details={"shortest": str(shortest)}, **needs)
