"""What is left of the files with secrets."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_vastgpu.plugin.on_host.secret_files import SecretFiles


def test_the_next_run_removes_what_a_killed_one_has_left_and_nothing_of_one_that_lives(tmp_path: Path) -> None:
    parent = tmp_path / "wrappers"
    killed, living, young = (SecretFiles(parent) for _ in range(3))
    for run in (killed, living):
        (run.path / "said.json").write_text("a secret")
        os.utime(run.path, (0, 0))
    killed._living.close()  # as the end of its process does
    young._living.close()  # it has no lock yet
    own = SecretFiles(parent)
    assert set(parent.iterdir()) == {living.path, young.path, own.path}
    assert own.path.stat().st_mode & 0o777 == 0o700
    for run in (own, own, living):
        run.remove()
    assert list(parent.iterdir()) == [young.path]
