from __future__ import annotations

import json
from pathlib import Path

from pytest_vastgpu.core.text.redaction import KNOWN
from pytest_vastgpu.reporting import artifacts


def test_the_timeline_is_of_one_attempt_only() -> None:
    rows = [json.dumps({"time": 1, "label": label, "text": "t"}) + "\n" for label in ("run-1", "run-11", "run-1")]
    assert artifacts.timeline("".join(rows), "run-1") == rows[0] + rows[2]


def test_all_files_together_are_bounded_and_free_of_secrets(tmp_path: Path) -> None:
    KNOWN.add("account", "a1b2c3")
    files = {f"{n}.txt": "a1b2c3 " + "x" * artifacts.FILE_CHARS for n in range(6)}
    artifacts.write_files(tmp_path, files)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) == len(files)
    assert max(map(len, texts)) < artifacts.FILE_CHARS + 100
    assert sum(map(len, texts)) < artifacts.TOTAL_CHARS + 6 * 100
    assert not any("a1b2c3" in text for text in texts)
