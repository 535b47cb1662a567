import warnings

import pytest


def test_recorded(recwarn):
    warnings.warn("a word", DeprecationWarning, stacklevel=1)
    assert len(recwarn) == 1


def test_expected():
    with pytest.warns(RuntimeWarning, match="word"):
        warnings.warn("a word", RuntimeWarning, stacklevel=1)


def test_shown():
    warnings.warn("shown at the end", RuntimeWarning, stacklevel=1)


def test_error():
    warnings.warn("an error", UserWarning, stacklevel=1)


def test_ignored():
    warnings.warn("not worth a word", UserWarning, stacklevel=1)
