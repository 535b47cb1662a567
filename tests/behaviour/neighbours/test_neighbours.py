"""Other people's plugins and constructs, each in use while instances come up and go.

They are in an environment of their own, beside this package: ``.ci/neighbours.sh DIR`` makes it in ``DIR`` and runs
these tests. ``VASTGPU_NEIGHBOURS`` is that directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.behaviour.conftest import LOSE
from tests.behaviour.conftest import WORKLOAD
from tests.behaviour.conftest import RentFrom
from tests.behaviour.conftest import host_cache as host_cache
from tests.behaviour.conftest import rent_from as rent_from
from tests.behaviour.conftest import start as start
from tests.behaviour.conftest import time_limits as time_limits
from tests.behaviour.neighbours.constructs import CONSTRUCTS
from tests.behaviour.neighbours.plugins import PLUGINS
from tests.behaviour.neighbours.rows import SUITE
from tests.behaviour.neighbours.rows import Row
from tests.support.looks import alive
from tests.support.looks import until

PLACE = os.environ.get("VASTGPU_NEIGHBOURS", "")
PYTHON = f"{PLACE}/bin/python" if PLACE else sys.executable
NO_GPU = WORKLOAD.replace("gpus=1, cuda=12.4", "gpus=0")
needs_them = pytest.mark.skipif(not PLACE, reason="VASTGPU_NEIGHBOURS names no environment with these plugins")
slow = pytest.mark.slow

SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        if self.path != "/events":
            self.wfile.write(b"here I am")
            return
        for number in range(5):
            self.wfile.write(b"data: %d\\n\\n" % number); self.wfile.flush(); time.sleep(0.05)
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_): pass
if __name__ == "__main__":
    print("serving", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def cases(rows: dict[str, Row]) -> list[object]:
    return [pytest.param(row, id=name, marks=slow) for name, row in rows.items()]


def run(pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, home: Path, row: Row) -> None:
    if row.within and subprocess.run([*row.within, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"{row.within[0]} is not possible here")
    another_is_needed = LOSE in row.source
    market = rent_from({"machines": [{"count": 6}]} if another_is_needed else {"this_machine": True})
    pytester.path.joinpath("server.py").write_text(SERVER)
    head = NO_GPU + SUITE
    pytester.makepyfile(test_it=head + row.source)
    for name, text in row.files.items():
        path = (home if name.startswith(".ssh") else pytester.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + text if path.name.startswith("test_") else text)
    for name, value in {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **row.env}.items():
        monkeypatch.setenv(name, value)
    if "TMPDIR" in row.env:
        Path(row.env["TMPDIR"]).mkdir(exist_ok=True)
    named = [argument for plugin in ("vastgpu", *row.plugins) for argument in ("-p", plugin)]
    command = [*row.within, PYTHON, *row.python, "-m", "pytest", *named, *row.options]
    result = pytester.run(*command, stdin=row.stdin or pytester.CLOSE_STDIN)
    if row.count:
        result.assert_outcomes(passed=row.passed, failed=row.failed, errors=row.errors)
    result.stdout.fnmatch_lines(row.says) if row.says and row.passed else None
    if row.says and not row.passed:
        assert any(fits(line, row.says[0]) for line in result.outlines + result.errlines), result.stderr.str()
    for text in ("Traceback (most recent call last)", "INTERNALERROR", *row.never):
        assert text not in result.stdout.str()
    assert os.environ["VAST_API_KEY"] not in result.stdout.str()
    until(lambda: alive(market) == set(), bool)
    ended = market.status()["ended"]
    assert len(ended) == row.rents
    for path in home.glob(".local/state/pytest-vastgpu/runs/*/cost.json"):
        books = json.loads(path.read_text())
        assert all(each["gone"] for each in books["instances"])
        assert books["total_usd"] < 0.05


def fits(line: str, pattern: str) -> bool:
    """Whether a line has the parts of a pattern, in order."""
    for part in filter(None, pattern.split("*")):
        _, found, line = line.partition(part)
        if not found:
            return False
    return True


@needs_them
@pytest.mark.parametrize("row", cases(PLUGINS))
def test_instances_come_and_go_beside_a_plugin(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, home: Path, row: Row
) -> None:
    run(pytester, rent_from, monkeypatch, home, row)


@needs_them
@pytest.mark.parametrize("row", cases(CONSTRUCTS))
def test_instances_come_and_go_beside_a_construct(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch, home: Path, row: Row
) -> None:
    run(pytester, rent_from, monkeypatch, home, row)


MAIN = {
    "twice": "codes = [pytest.main(ARGUMENTS), pytest.main(ARGUMENTS)]",
    "in a thread": """
codes = []
thread = threading.Thread(target=lambda: codes.append(pytest.main(ARGUMENTS)))
thread.start()
thread.join()
""",
}


@slow
@needs_them
@pytest.mark.parametrize("how", MAIN)
def test_pytest_main_in_a_program(pytester: pytest.Pytester, rent_from: RentFrom, how: str) -> None:
    market = rent_from({"this_machine": True})
    pytester.makepyfile(test_it=NO_GPU + SUITE + "def test_it(vast_instance): ask(vast_instance)\n")
    # pytest-retry cannot be configured twice in a process.
    head = "import pytest, sys, threading\nARGUMENTS = ['test_it.py', '-p', 'no:pytest-retry']\n"
    program = head + textwrap.dedent(MAIN[how]) + "\nsys.exit(0 if codes and not any(codes) else 1)\n"
    pytester.path.joinpath("program.py").write_text(program)
    assert pytester.run(PYTHON, "program.py").ret == 0
    assert alive(market) == set()


@slow
@needs_them
def test_the_package_of_the_tests_is_named(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"this_machine": True})
    pytester.mkpydir("package").joinpath("test_it.py").write_text(
        NO_GPU + SUITE + "def test_it(vast_instance): ask(vast_instance)\n"
    )
    pytester.run(PYTHON, "-m", "pytest", "--pyargs", "package.test_it").assert_outcomes(passed=1)


@slow
@needs_them
def test_looponfail_runs_again_and_rents_again(
    pytester: pytest.Pytester, rent_from: RentFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = rent_from({"this_machine": True})
    path = pytester.makepyfile(test_it=NO_GPU + SUITE + "def test_it(vast_instance): ask(vast_instance); assert 0\n")
    process = pytester.popen(
        [PYTHON, "-u", "-m", "pytest", "-f", "--rootdir", str(pytester.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in map(bytes.decode, process.stdout):
            lines.append(line)
            if "waiting for changes" in line and len(lines) < 200 and "assert 0" in path.read_text():
                path.write_text(path.read_text().replace("; assert 0", "; assert 1"))
            elif "waiting for changes" in line:
                break
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    text = "".join(lines)
    assert "1 failed" in text
    assert "1 passed" in text
    assert "already registered" not in text
    until(lambda: alive(market) == set(), bool)
    assert len(market.status()["ended"]) >= 2


@needs_them
def test_coverage_sees_the_supervisor(pytester: pytest.Pytester, rent_from: RentFrom) -> None:
    rent_from({"this_machine": True})
    pytester.makepyfile(NO_GPU + "def test_it(vast_instance): assert vast_instance.run('true').ok")
    pytester.path.joinpath(".coveragerc").write_text(
        "[run]\npatch = subprocess\nparallel = true\nsource_pkgs = pytest_vastgpu\n"
    )
    result = pytester.run(PYTHON, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    pytester.run(PYTHON, "-m", "coverage", "combine", "-q")
    report = pytester.run(PYTHON, "-m", "coverage", "report", "--include=*/supervisor/session.py")
    report.stdout.re_match_lines([r".*session\.py\s+\d+\s+\d+\s+[5-9]\d%"])
