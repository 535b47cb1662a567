"""What is known of a suite's needs when collection ends."""

from __future__ import annotations

import pytest

from pytest_vastgpu.client.calls import Collected
from pytest_vastgpu.client.calls import Expected
from pytest_vastgpu.plugin.collection import collect

HEAD = "import pytest\nfrom pytest_vastgpu import command\n"
DEFAULT = "@pytest.fixture\ndef vast_workload(): return command('default')\n"
TEST = "def test_it(vast_instance): pass\n"


def collected(pytester: pytest.Pytester, source: str, *arguments: str, certain: bool = True) -> Collected:
    path = pytester.makepyfile(test_it=HEAD + source)
    items, _ = pytester.inline_genitems(path, *arguments)
    return collect(items, certain=certain)


def known(expected: Expected) -> tuple[str | None, bool]:
    return (expected.workload.command if expected.workload else None, expected.certain)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_it(): pass", None),
        (DEFAULT + TEST, ("default", True)),
        ("@pytest.mark.vast(command('marked'))\n" + TEST, ("marked", True)),
        (DEFAULT + "@pytest.mark.vast(command('marked'))\n" + TEST, ("marked", True)),
        (DEFAULT + "@pytest.fixture\ndef client(vast_instance): pass\ndef test_it(client): pass", ("default", True)),
        (DEFAULT + "@pytest.mark.usefixtures('vast_instance')\ndef test_it(): pass", ("default", True)),
        # What an instance of one's own will run, nobody knows before.
        (DEFAULT + "def test_it(vast_instance_factory): pass", None),
        # Marks that keep it from running.
        (DEFAULT + "@pytest.mark.skip\n" + TEST, None),
        (DEFAULT + "@pytest.mark.skipif(True, reason='no')\n" + TEST, None),
        (DEFAULT + "@pytest.mark.skipif(condition=True, reason='no')\n" + TEST, None),
        (DEFAULT + "@pytest.mark.skipif(False, True, reason='no')\n" + TEST, None),
        (DEFAULT + "@pytest.mark.skipif(False, reason='no')\n" + TEST, ("default", True)),
        (DEFAULT + "@pytest.mark.skipif('1 > 0')\n" + TEST, ("default", False)),
        (DEFAULT + "@pytest.mark.skipif('1 > 0')\n@pytest.mark.skip\n" + TEST, None),
        (DEFAULT + "@pytest.mark.xfail\n" + TEST, ("default", True)),
        (DEFAULT + "@pytest.mark.xfail(run=False)\n" + TEST, None),
        (DEFAULT + "@pytest.mark.xfail(False, reason='no', run=False)\n" + TEST, ("default", True)),
        ("pytestmark = pytest.mark.skip\n" + DEFAULT + TEST, None),
        # A fixture that only a test's run can ask.
        (TEST, (None, True)),
        ("@pytest.fixture\ndef vast_workload(tmp_path): return command('x')\n" + TEST, (None, True)),
        ("@pytest.fixture\ndef vast_workload(request): return request.node\n" + TEST, (None, True)),
        ("@pytest.fixture\ndef vast_workload(request): return command('x')\n" + TEST, ("x", True)),
        ("@pytest.fixture\ndef vast_workload(): yield command('x')\n" + TEST, (None, True)),
        ("@pytest.fixture\nasync def vast_workload(): pass\n" + TEST, (None, True)),
        ("@pytest.fixture\ndef vast_workload(): raise OSError\n" + TEST, (None, True)),
        ("@pytest.fixture\ndef vast_workload(): pytest.skip('no GPU today')\n" + TEST, (None, True)),
        # The closest override wins, whatever its scope.
        (DEFAULT.replace("fixture", "fixture(scope='session')") + TEST, ("default", True)),
        (
            DEFAULT
            + "class TestIt:\n  name = 'own'\n  @pytest.fixture\n  def vast_workload(self): return command(self.name)\n"
            + "  def test_it(self, vast_instance): pass",
            ("own", True),
        ),
        (DEFAULT + "class TestIt:\n  def test_it(self, vast_instance): pass", ("default", True)),
    ],
)
def test_what_is_known_of_a_test(
    pytester: pytest.Pytester, source: str, expected: tuple[str | None, bool] | None
) -> None:
    found = collected(pytester, source)
    assert not found.problems
    assert [known(test) for test in found.tests.values()] == ([expected] if expected else [])


PARAMETERS = "[command('one'), command('two')]"
NAMES = "['one', 'two']"


@pytest.mark.parametrize(
    "source",
    [
        f"@pytest.fixture(params={PARAMETERS})\ndef vast_workload(request): return request.param\n" + TEST,
        f"@pytest.fixture(params={NAMES})\ndef vast_workload(request): return command(request.param)\n" + TEST,
        f"@pytest.fixture(params={NAMES}, scope='module')\n"
        "def vast_workload(request): return command(request.param)\n" + TEST,
        f"@pytest.mark.parametrize('vast_workload', {PARAMETERS})\n" + TEST,
        f"@pytest.mark.parametrize('vast_workload', {PARAMETERS})\ndef test_it(vast_workload, vast_instance): 0\n",
        f"@pytest.mark.parametrize(('vast_workload', 'n'), zip({PARAMETERS}, (1, 2)))\n"
        "def test_it(vast_instance, n): 0\n",
        "@pytest.fixture\ndef vast_workload(request): return command(request.param)\n"
        f"@pytest.mark.parametrize('vast_workload', {NAMES}, indirect=True)\n" + TEST,
        "def pytest_generate_tests(metafunc): metafunc.parametrize('vast_workload', " + PARAMETERS + ")\n" + TEST,
        f"@pytest.fixture(params={PARAMETERS})\ndef vast_workload(request): return request.param\n"
        "@pytest.fixture\ndef client(vast_instance): return 1\ndef test_it(client): 0\n",
    ],
)
def test_each_parameter_of_the_workload_is_rented_ahead(pytester: pytest.Pytester, source: str) -> None:
    found = collected(pytester, source)
    assert not found.problems
    assert [known(test) for test in found.tests.values()] == [("one", True), ("two", True)]


def test_a_marker_wins_over_each_parameter(pytester: pytest.Pytester) -> None:
    source = f"@pytest.fixture(params={NAMES})\ndef vast_workload(request): return command(request.param)\n"
    found = collected(pytester, source + "@pytest.mark.vast(gpus=2)\n" + TEST)
    assert [known(test)[0] for test in found.tests.values()] == ["one", "two"]
    assert all(test.workload and test.workload.gpus == 2 for test in found.tests.values())
    found = collected(pytester, source + "@pytest.mark.vast(command('marked'))\n" + TEST)
    assert [known(test)[0] for test in found.tests.values()] == ["marked", "marked"]


def test_a_marker_without_a_workload_changes_that_of_the_fixture(pytester: pytest.Pytester) -> None:
    found = collected(pytester, DEFAULT + "@pytest.mark.vast(gpus=2, disk_gb=30)\n" + TEST)
    (test,) = found.tests.values()
    assert test.workload is not None
    assert (test.workload.command, test.workload.gpus, test.workload.disk_gb) == ("default", 2, 30)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "'org/model'",
            "what the fixture vast_workload returns is 'org/model', of type str and no workload; vllm(",
        ),
        ("['vllm']", "what the fixture vast_workload returns is of type list and no workload"),
        ("None", "what the fixture vast_workload returns is of type NoneType and no workload"),
        ("Workload('command', command=['a'])", "command=['a'] of the workload is not text"),
        ("command('a', comand='b')", "command() got an unexpected keyword argument 'comand'; it has command, "),
    ],
)
def test_what_is_no_workload_is_one_problem_however_many_tests_use_it(
    pytester: pytest.Pytester, value: str, words: str
) -> None:
    fixture = f"from pytest_vastgpu import Workload\n@pytest.fixture\ndef vast_workload(): return {value}\n"
    (problem,) = collected(pytester, fixture + TEST + TEST.replace("test_it", "test_other")).problems
    assert words in problem
    assert "\n" not in problem


def test_each_module_has_its_own_override_and_conftest_files_count(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(HEAD + DEFAULT)
    pytester.makepyfile(test_other=HEAD + DEFAULT.replace("default", "other") + TEST)
    found = collected(pytester, TEST, str(pytester.path / "test_other.py"))
    assert {test: known(expected)[0] for test, expected in found.tests.items()} == {
        "test_it.py::test_it": "default",
        "test_other.py::test_it": "other",
    }


def test_a_plain_override_is_asked_once(pytester: pytest.Pytester) -> None:
    source = "@pytest.fixture\ndef vast_workload():\n  with open('asked', 'a') as file: print('x', file=file)\n"
    source += "  return command('x')\n"
    found = collected(pytester, source + TEST + TEST.replace("test_it", "test_other"))
    assert len(found.tests) == 2
    assert (pytester.path / "asked").read_text() == "x\n"


def test_nothing_is_certain_where_no_test_will_run(pytester: pytest.Pytester) -> None:
    found = collected(pytester, DEFAULT + TEST, certain=False)
    assert [known(test) for test in found.tests.values()] == [("default", False)]


def test_a_test_that_is_named_twice_runs_twice(pytester: pytest.Pytester) -> None:
    found = collected(pytester, DEFAULT + TEST, "--keep-duplicates", str(pytester.path / "test_it.py"))
    assert [test.runs for test in found.tests.values()] == [2]


def test_a_wrong_marker_is_told_also_of_a_test_that_is_skipped(pytester: pytest.Pytester) -> None:
    found = collected(pytester, DEFAULT + "@pytest.mark.skip\n@pytest.mark.vast(gpu=1)\n" + TEST)
    assert found.tests == {}
    (problem,) = found.problems
    assert "unexpected keyword argument 'gpu'" in problem
