"""Other people's plugins that change the process in which tests run, each active while instances come up and go.

They are in an environment of their own, beside this package: ``VASTGPU_NEIGHBOURS`` is its directory, made by
``.ci/neighbours.sh DIR``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import host_cache as host_cache
from tests.behaviour.conftest import rent_from as rent_from
from tests.behaviour.conftest import time_limits as time_limits
from tests.behaviour.test_hostile import COMES_AND_GOES
from tests.support.looks import alive

PLACE = os.environ.get("VASTGPU_NEIGHBOURS", "")
PYTHON = f"{PLACE}/bin/python"
pytestmark = pytest.mark.skipif(not PLACE, reason="VASTGPU_NEIGHBOURS names no environment with these plugins")
SUITE = WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0") + COMES_AND_GOES

ACTIVE: dict[str, tuple[str, tuple[str, ...]]] = {
    # plugin: (test, options)
    "pytest-httpx": (
        """
def test_it(vast_instance_factory, vast_workload, httpx_mock):
    httpx_mock.add_response(json={"success": True, "instances": None})
    comes_and_goes(vast_instance_factory, vast_workload)
    assert httpx.get("http://127.0.0.1:1/").json()["success"]
""",
        (),
    ),
    "respx": (
        """
import respx

@respx.mock
def test_it(vast_instance_factory, vast_workload):
    route = respx.route().respond(json={"success": True, "instances": None})
    comes_and_goes(vast_instance_factory, vast_workload)
    assert not route.called
""",
        (),
    ),
    "freezegun": (
        """
from freezegun import freeze_time

@freeze_time("2031-05-01", tick=True)
def test_it(vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)

@freeze_time("2001-01-01")
def test_shared(vast_instance):
    assert vast_instance.cost_so_far < 1
    assert vast_instance.run("true").ok
""",
        (),
    ),
    "pyfakefs": (
        """
def test_it(fs, vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)
""",
        (),
    ),
    "pytest-socket": (
        """
import pytest_socket, socket

def test_it(vast_instance_factory, vast_workload):
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.socket()
    comes_and_goes(vast_instance_factory, vast_workload)
""",
        ("--disable-socket",),
    ),
    "pytest-socket, no hosts": (
        """
def test_it(vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)
""",
        ("--allow-hosts=192.0.2.1",),
    ),
    "pytest-forked": (
        """
import os

def test_it(vast_instance_factory, vast_workload):
    comes_and_goes(vast_instance_factory, vast_workload)

def test_1(vast_instance):
    assert httpx.get(vast_instance.endpoint).text == "here I am"

def test_2(vast_instance):
    assert vast_instance.run("echo 2").stdout == "2\\n"

def test_3_crashes(vast_instance):
    os._exit(7)

def test_4(vast_instance):
    assert vast_instance.run("echo 4").stdout == "4\\n"
""",
        ("--forked",),
    ),
}


@pytest.mark.parametrize("plugin", ACTIVE)
def test_instances_come_and_go_beside(pytester: pytest.Pytester, rent_from: RentFrom, home: Path, plugin: str) -> None:
    test, options = ACTIVE[plugin]
    market = rent_from({"this_machine": True})
    pytester.makepyfile(SUITE + test)
    result = pytester.run(PYTHON, "-m", "pytest", "-p", "no:cacheprovider", *options)
    tests = len(re.findall(r"^def test_", test, re.MULTILINE))
    crashes = "os._exit" in test
    result.assert_outcomes(passed=tests - crashes, failed=crashes)
    assert alive(market) == set()
    assert "lifetime_over" not in result.stdout.str()
    (path,) = home.glob(".local/state/pytest-vastgpu/runs/*/cost.json")
    books = json.loads(path.read_text())
    assert all(each["gone"] for each in books["instances"])
    assert 0 < books["total_usd"] < 0.02


def test_coverage_sees_the_supervisor(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"this_machine": True})
    pytester.makepyfile(SUITE + "def test_it(vast_instance): assert vast_instance.run('true').ok")
    pytester.path.joinpath(".coveragerc").write_text(
        "[run]\npatch = subprocess\nparallel = true\nsource_pkgs = pytest_vastgpu\n"
    )
    result = pytester.run(PYTHON, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    pytester.run(PYTHON, "-m", "coverage", "combine", "-q")
    report = pytester.run(PYTHON, "-m", "coverage", "report", "--include=*/supervisor/session.py")
    report.stdout.re_match_lines([r".*session\.py\s+\d+\s+\d+\s+[5-9]\d%"])
