"""One suite for every implementation: on a host without a GPU NumPy's part runs, on one with a GPU all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SHAPES = [(1, 1), (3, 5), (64, 128), (7, 1000), (1024, 33)]


def matrix(rows: int, columns: int, scale: float = 1.0) -> Any:
    import numpy as np

    return (scale * np.random.default_rng(rows * columns).standard_normal((rows, columns))).astype("float32")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_row_adds_up_to_one(softmax: Callable[[Any], Any], shape: tuple[int, int]) -> None:
    found = softmax(matrix(*shape))
    assert found.shape == shape
    assert found.sum(axis=1) == pytest.approx([1.0] * shape[0], abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_what_the_formula_says(softmax: Callable[[Any], Any], shape: tuple[int, int]) -> None:
    import numpy as np
    import reference

    x = matrix(*shape)
    np.testing.assert_allclose(softmax(x), reference.softmax(x.astype("float64")), atol=1e-5)


def test_large_values_do_not_overflow(softmax: Callable[[Any], Any]) -> None:
    import numpy as np

    assert np.isfinite(softmax(matrix(8, 100, scale=1e4))).all()
