"""The project's own package, found through ``sys.path``.

>>> add([1, 2], [3, 4])
[4, 6]
"""


def add(one, two):
    """Add element by element.

    >>> add([1], [2])
    [3]
    """
    return [left + right for left, right in zip(one, two, strict=True)]


def wrong():
    """Has an example that fails.

    >>> 1 + 1
    3
    """
