import os
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def test_tmp_path(tmp_path, tmp_path_factory):
    (tmp_path / "file").write_text("ä")
    assert tmp_path.parent == tmp_path_factory.getbasetemp()
    assert (tmp_path / "file").read_text() == "ä"


def test_tmpdir(tmpdir):
    assert tmpdir.ensure("file").check()


def test_monkeypatch(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("only_here.py").write_text("X = 1")
    assert __import__("only_here").X == 1


def test_data_beside_it():
    assert (HERE / "data.txt").read_text() == "data\n"


def test_root(pytestconfig):
    assert (pytestconfig.rootpath / "pyproject.toml").is_file()
    assert pytestconfig.inipath == pytestconfig.rootpath / "pyproject.toml"
    assert Path.cwd().is_relative_to(pytestconfig.rootpath)


def test_home_and_tmp():
    assert os.access(Path.home(), os.W_OK)
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).exists()


def test_cache(pytestconfig):
    pytestconfig.cache.set("own/value", [1])
    assert pytestconfig.cache.get("own/value", None) == [1]


def test_of_a_worker(worker_id, testrun_uid, pytestconfig):
    assert worker_id.startswith("gw")
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert pytestconfig.workerinput["of_the_project"] == {"a": [1, 2.5, None, "ä"]}


def test_other_pytest(pytester, capsys):
    pytester.makepyfile("def test_it(): assert 1")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    capsys.readouterr()
