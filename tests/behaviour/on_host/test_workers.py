"""What a worker on a host finds there, and what becomes of what it cannot send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.behaviour.on_host.test_suite import ran
from tests.support.hidden import HiddenHosts
from tests.support.hidden import hidden_hosts as hidden_hosts
from tests.support.runs import until_over

SECRET = "my-0wn-s3cret"

SEES = """
import os, subprocess, sys
from pathlib import Path
import pytest

@pytest.mark.parametrize("letter", set("abcdefgh"))
def test_sets_are_ordered_alike(letter):
    pass

def test_never(): assert 0

def test_deselected(): assert 0

def test_variables(pytestconfig, worker_id):
    assert os.environ["PASSED"] == "my-0wn-s3cret"
    assert "NOT_PASSED" not in os.environ
    assert os.environ["PYTEST_OWN"] == f"{pytestconfig.rootpath}/data"
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == worker_id.removeprefix("gw")
    assert pytestconfig.workerinput["vastgpu_host"]["name"] == "host 1 (machine 100, 2x RTX 4090)"

def test_places(pytestconfig, tmp_path):
    root = pytestconfig.rootpath
    assert root.is_relative_to(Path.home())
    assert tmp_path.is_relative_to(Path.home())
    assert not tmp_path.is_relative_to(root)
    assert Path.cwd() == root / "tests"
    assert pytestconfig.inipath == root / "config/pytest.ini"
    assert pytestconfig.getini("cache_dir") != ".pytest_cache"

def test_imports():
    import in_src
    from pytest_vastgpu import command, llamacpp, vllm
    assert vllm("org/model").adapter == "vllm"
    assert not [entry for entry in sys.path if not Path(entry).is_relative_to(sys.base_prefix)
                and not Path(entry).is_relative_to(Path.home())]
    answer = subprocess.run([sys.executable, "-c", "import pytest, in_src; print(pytest.__version__)"],
                            capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == pytest.__version__

@pytest.mark.vast(gpu_name="RTX 4090")
def test_marked():
    pass
"""

HERE = """
import pytest

@pytest.mark.parametrize("path", ["a/b c", "d"])
def test_it(path):
    pass
"""

ODD = """
import warnings
import pytest

class OwnWarning(Warning):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

class Odd:
    def __str__(self):
        return "the text of it"

class Mute:
    def __str__(self):
        raise ValueError

def test_passed_before():
    assert 0

def test_property(record_property):
    record_property("odd", Odd())
    record_property("mute", Mute())

def test_warns():
    warnings.warn(OwnWarning("this", "that"))

def test_attribute():
    pass

def test_not_utf_8():
    raise ValueError("\\udc80")

def test_instance(request):
    request.getfixturevalue("vast_instance")

@pytest.mark.vast(gpu_name="RTX 4090")
def test_factory(request):
    request.getfixturevalue("vast_instance_factory")
"""
ODD_CONFTEST = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.odd = object
    return report
"""


@pytest.mark.slow
def test_a_worker_finds_what_it_would_find_at_home(hidden_hosts: HiddenHosts, home: Path) -> None:
    root = hidden_hosts.project
    hidden_hosts.rent_out({"num_gpus": 2})
    hidden_hosts.write(
        {
            "config/pytest.ini": "[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n",
            "src/in_src.py": "",
            "tests/sub/test_sees.py": SEES,
            "tests/test_here.py": HERE,
        }
    )
    result = ran(
        hidden_hosts,
        *("--vast-hosts=1", "-W", "error", "-c", "../config/pytest.ini", "--rootdir=..", "-k", "not never", "-v"),
        *("--vast-gpus=2", "--vast-pass-env=PASSED", "--deselect", "tests/sub/test_sees.py::test_deselected"),
        *(f"{root}/tests/test_here.py::test_it[a/b c]", "sub/test_sees.py"),
        cwd="tests",
        PASSED=SECRET,
        NOT_PASSED="1",
        PYTHONHASHSEED="7",
        PYTHONPATH=f"{root}/src",
        PYTEST_OWN=f"{root}/data",
    )
    assert result.code == 0
    assert "= 13 passed in " in result.lines[-1], "and no warning"
    assert "[gw0]" in result.output
    assert SECRET not in result.output
    until_over()
    written = [path for path in home.rglob("*") if path.is_file() and not path.is_socket()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow  # each part of it: tests/plugin/on_host
def test_what_cannot_be_sent_is_sent_as_its_text(hidden_hosts: HiddenHosts) -> None:
    names = ["property", "warns", "attribute", "not_utf_8", "instance", "factory"]
    hidden_hosts.write(
        {
            "test_odd.py": ODD,
            "conftest.py": ODD_CONFTEST,
            ".pytest_cache/v/cache/lastfailed": json.dumps({f"test_odd.py::test_{name}": True for name in names}),
            ".gitignore": ".pytest_cache\n",
        }
    )
    result = ran(hidden_hosts, "--vast-hosts=1", "--vast-gpus=0", "--lf", "--junitxml=there.xml")
    assert "INTERNALERROR" not in result.output
    assert result.code == 1
    assert " 3 failed, 3 passed, 1 warning in " in result.lines[-1]
    assert f"  {hidden_hosts.project}/test_odd.py:" in result.output
    assert ": OwnWarning: this and that" in result.output
    assert "    warnings.warn(OwnWarning" in result.output, "its line, from the file of this machine"
    report = (hidden_hosts.project / "there.xml").read_text()
    assert '<property name="odd" value="the text of it" />' in report
    assert '<property name="mute" value="&lt;Mute whose text is not to be had: ValueError&gt;" />' in report
    assert "[gw0] on host 1 (machine 100, RTX 4090), linux -- Python " in result.output
    for fixture in ("vast_instance", "vast_instance_factory"):
        assert f"{fixture} cannot be had on a rented host (--vast-hosts), where nothing is rented: " in result.output
