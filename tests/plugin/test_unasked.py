"""A mark that has no effect is a mistake: the test passes without an instance."""

from __future__ import annotations

import pytest

from pytest_vastgpu.plugin.unasked import doubtful

HEAD = """
import pytest
from pytest_vastgpu import command

marked = pytest.mark.vast(command("serve", gpus=0))
"""
LATE = """
from pytest_vastgpu.plugin.unasked import ASKED

@pytest.fixture
def late(request):
    request.node.stash[ASKED] = True  # as the fixtures do that get an instance
"""
OVERRIDE = """
@pytest.fixture
def vast_workload():
    return command("serve", gpus=0)
"""
WARNING = "*VastMarkUnusedWarning: a test is marked vast, but never asked for an instance: name the fixture *"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("@marked\ndef test_it(): pass", ["test_it"]),
        (OVERRIDE + "@pytest.mark.vast(gpus=0)\ndef test_it(): pass", ["test_it"]),
        (OVERRIDE + "pytestmark = pytest.mark.vast(gpu_ram_gb=20)\ndef test_it(): pass", ["test_it"]),
        ("@marked\nclass TestIt:\n    @pytest.mark.vast(gpus=1)\n    def test_it(self): pass", ["test_it"]),
        ("@pytest.mark.vast(workload=command('serve'), gpus=1)\ndef test_it(): pass", ["test_it"]),
        ("@pytest.mark.vast\ndef test_it(): pass", ["test_it"]),
        ("@marked\ndef test_it(tmp_path): pass", ["test_it"]),
        ("@marked\n@pytest.mark.parametrize('n', [1])\ndef test_it(n): pass", ["test_it[1]"]),
        ("@marked\nclass TestIt:\n    def test_it(self): pass", ["test_it"]),
        ("pytestmark = marked\ndef test_it(): pass\ndef test_other(): pass", ["test_it", "test_other"]),
        ("pytestmark = marked\n@marked\ndef test_it(): pass\ndef test_other(vast_instance): pass", ["test_it"]),
        # It uses one, or the mark is there for others.
        ("@marked\ndef test_it(vast_instance): pass", []),
        ("@marked\ndef test_it(vast_instance_factory): pass", []),
        ("@marked\n@pytest.mark.usefixtures('vast_instance')\ndef test_it(): pass", []),
        ("@pytest.fixture\ndef client(vast_instance): pass\n@marked\ndef test_it(client): pass", []),
        ("pytestmark = marked\ndef test_it(): pass\ndef test_other(vast_instance): pass", []),
        ("@marked\nclass TestIt:\n  def test_it(self): pass\n  def test_other(self, vast_instance): pass", []),
        ("def test_it(): pass", []),
        # It says what a host must be like, and nothing of a server.
        ("pytestmark = pytest.mark.vast(gpu_ram_gb=20)\ndef test_it(): pass", []),
        ("pytestmark = pytest.mark.vast(gpu_ram_gb=20)\n@pytest.mark.vast(gpus=2)\ndef test_it(): pass", []),
    ],
)
def test_whose_mark_may_have_no_effect(pytester: pytest.Pytester, source: str, names: list[str]) -> None:
    items, _ = pytester.inline_genitems(pytester.makepyfile(HEAD + source))
    assert sorted(item.name for item in doubtful(items)) == names


def test_a_marked_test_that_passed_without_asking_is_warned_about(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + "@marked\ndef test_it(): pass\n@marked\ndef test_other(): pass")
    result = pytester.runpytest_inprocess("-W", "always")
    result.assert_outcomes(passed=2, warnings=2)
    result.stdout.fnmatch_lines_random(["test_it.py::test_it", "test_it.py::test_other", WARNING])
    result = pytester.runpytest_inprocess("-W", "error")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*VastMarkUnusedWarning: a test is marked vast*"])


@pytest.mark.parametrize(
    "source",
    [
        "@marked\ndef test_it(request): request.getfixturevalue('late')",
        "@marked\ndef test_it(late): pass",
        "@pytest.mark.skip\n@marked\ndef test_it(): pass",
        "@marked\ndef test_it(): pytest.skip('not now')",
        "@marked\ndef test_it(): assert False",
        "@marked\n@pytest.mark.xfail\ndef test_it(): assert False",
    ],
)
def test_a_test_that_asked_late_or_did_not_pass_is_not(pytester: pytest.Pytester, source: str) -> None:
    pytester.makepyfile(HEAD + LATE + source)
    assert "VastMarkUnusedWarning" not in pytester.runpytest_inprocess("-W", "always").stdout.str()
