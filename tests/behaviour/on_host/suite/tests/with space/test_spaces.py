import pytest


@pytest.mark.parametrize("path", ["a/b c", "/absolute", "d::e"])
def test_path(path):
    assert path
