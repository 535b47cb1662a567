from dataclasses import dataclass

import pytest


@dataclass
class Tensor:
    shape: tuple
    dtype: str
    data: list


def test_dict():
    one = {f"key {number}": list(range(number)) for number in range(12)}
    two = {**one, "key 3": "other", "more": 1}
    assert one == two


def test_text():
    assert "\n".join(map(str, range(50))) == "\n".join(map(str, range(1, 51)))


def test_dataclass():
    assert Tensor((2, 3), "f32", [1, 2]) == Tensor((2, 3), "f16", [1, 3])


def test_sets():
    assert {1, 2, 3} == {2, 3, 4}


def test_message():
    assert all(number < 3 for number in range(5)), "with a message: ä"


def test_in_a_helper():
    check(3)


def check(number):
    __tracebackhide__ = True
    assert number == 4, f"not {number}"


def test_notes():
    error = ValueError("it is")
    error.add_note("a note")
    error.add_note("another note, ü")
    raise error


def test_groups():
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [TypeError("two")])])


def test_chained():
    try:
        {}["key"]
    except KeyError as error:
        raise RuntimeError("because of it") from error


def test_approximately():
    assert 0.1 + 0.2 == pytest.approx(0.4)


def test_raises_nothing():
    with pytest.raises(ValueError, match="never"):
        pass
