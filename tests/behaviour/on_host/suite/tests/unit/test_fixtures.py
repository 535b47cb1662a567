import pytest

torn_down = []


@pytest.fixture(scope="class")
def of_class(request):
    request.addfinalizer(lambda: torn_down.append("class"))
    return "class"


@pytest.fixture
def of_function():
    yield "function"
    torn_down.append("function")


@pytest.fixture
def breaks_first():
    raise RuntimeError("the fixture breaks")


@pytest.fixture
def breaks_last():
    yield 1
    raise RuntimeError("the fixture breaks at its end")


@pytest.fixture
def indirect(request):
    return request.param * 2


class TestScopes:
    def test_all(self, of_session, of_package, of_module, of_class, of_function):
        assert (of_session / "file").read_text() == "of the session"
        assert (of_package, of_module, of_class, of_function) == ("package", "module", "class", "function")

    def test_again(self, of_class, of_function):
        assert of_class == "class"


def test_autouse(monkeypatch):
    import os

    assert os.environ["ALWAYS"] == "here"
    monkeypatch.delenv("ALWAYS")
    assert "ALWAYS" not in os.environ


def test_overridden_in_a_subdirectory(where):
    assert where == "tests/unit"


def test_dynamic(request):
    assert request.getfixturevalue("with_a_name") == "named"


@pytest.fixture(name="with_a_name")
def _other():
    return "named"


@pytest.mark.usefixtures("of_function")
def test_marked_with_fixtures():
    pass


def test_fixture_with_parameters(with_params):
    assert with_params in {"one", "two"}


@pytest.mark.parametrize("indirect", [1, 2], indirect=True)
def test_indirect(indirect):
    assert indirect in {2, 4}


def test_setup_breaks(breaks_first):
    pass


def test_teardown_breaks(breaks_last):
    print("ran")


def test_fails_and_teardown_breaks(breaks_last):
    assert breaks_last == 2


def test_unknown_fixture(nobody_knows):
    pass


def test_by_pythonpath():
    from by_pythonpath import ANSWER

    assert ANSWER == 42


def test_own_package():
    from kernels import add

    assert add([1], [1]) == [2]
