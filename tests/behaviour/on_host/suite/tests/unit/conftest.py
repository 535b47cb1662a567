import pytest


@pytest.fixture
def where(where):
    return f"{where}/unit"


@pytest.fixture(scope="module")
def of_module():
    yield "module"


def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", [f"é {number}" for number in range(3)])
