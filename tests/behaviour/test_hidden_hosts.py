"""The hosts of tests see nothing of this machine but what was brought there."""

from __future__ import annotations

import json

import pytest

from tests.support.hidden import HiddenHosts
from tests.support.hidden import hides

LOOKS = """
import json, os, pathlib, sys

def test_it_looks(tmp_path, capfd):
    hidden = json.loads(pathlib.Path(__file__).with_name("hidden.json").read_text())
    home = os.environ["HOME"]
    own = {"/".join(home.split("/")[:n]) for n in range(2, home.count("/") + 1)}
    seen = {os.path.join(path, name) for path in hidden if os.path.isdir(path) for name in os.listdir(path)}
    assert seen - own == set()
    assert str(tmp_path).startswith(home)
    os.system("python3 -c 'import sys; print(sys.prefix == sys.base_prefix)'")
    assert capfd.readouterr().out == "True\\n"
"""


@pytest.mark.slow
def test_a_worker_sees_nothing_of_project_virtual_environment_checkout_and_tmp(hidden_hosts: HiddenHosts) -> None:
    hidden = [str(hidden_hosts.project), *hides()]
    hidden_hosts.write({"test_it.py": LOOKS, "hidden.json": json.dumps(hidden)})
    ran = hidden_hosts.run()
    assert (ran.code, "1 passed" in ran.lines[-1]) == (0, True)
