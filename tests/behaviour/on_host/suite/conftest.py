import os

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def of_session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    (folder / "file").write_text("of the session")
    yield folder
    assert (folder / "file").exists()


@pytest.fixture(scope="package")
def of_package():
    return "package"


@pytest.fixture(params=["one", "two"], ids=lambda name: f"<{name}>")
def with_params(request):
    return request.param


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setenv("ALWAYS", "here")


def pytest_report_header(config):
    return f"a header of the project, in {'a worker' if hasattr(config, 'workerinput') else 'the controller'}"


def pytest_runtest_makereport(item, call):
    if "odd" in item.name and os.environ.get("ODD"):
        item.user_properties.append(("odd", object))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["of_the_project"] = {"a": [1, 2.5, None, "ä"]}
