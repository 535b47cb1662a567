import pytest


@pytest.mark.parametrize("value", [1, 2.5, None, "text", b"bytes", (1, 2), "a/b", "with space", "ünï", "[x]", ""])
def test_kinds(value):
    assert value == value


@pytest.mark.parametrize("one", [1, 2])
@pytest.mark.parametrize("two", ["a", "b"])
def test_stacked(one, two):
    assert (one, two) != (2, "b")


@pytest.mark.parametrize(
    ("number", "square"), [(2, 4), pytest.param(3, 8, id="wrong"), pytest.param(4, 16, marks=pytest.mark.heavy)]
)
def test_ids(number, square):
    assert number**2 == square


@pytest.mark.parametrize(
    "number",
    [pytest.param(1, marks=pytest.mark.xfail(reason="so it is")), pytest.param(2, marks=pytest.mark.skip("not now"))],
)
def test_marked(number):
    assert number != 1


@pytest.mark.parametrize("nothing", [])
def test_empty(nothing):
    pass


def test_generated(generated):
    assert generated.startswith("é")


class Opaque:
    pass


@pytest.mark.parametrize("opaque", [Opaque(), lambda: 1, open])
def test_what_cannot_be_pickled(opaque):
    assert callable(opaque)
