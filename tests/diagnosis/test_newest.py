from __future__ import annotations

import pytest

from pytest_vastgpu.diagnosis.newest import TAIL_CHARS
from pytest_vastgpu.diagnosis.newest import newest
from pytest_vastgpu.model import Progress

BAR = "Loading safetensors checkpoint shards:  38% Completed | 3/8 [00:01<00:02,  1.2it/s]"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", ""),
        ("first\nsecond\n", "second"),
        ("first\nsecond\nthi", "second"),
        ("thi", "thi"),
        ("INFO 08-01 12:00:00 [loader.py:1] Model loading took 14.9 GiB\n", "Model loading took 14.9 GiB"),
        (f"{BAR}\n", Progress("weights", 3, 8)),
        (f"{BAR}\rLoading saf", Progress("weights", 3, 8)),
        (f"{BAR}\nand more\n", "and more"),
        ("it loads\n\n...\n=====\n12 34\n", "it loads"),
        ('it loads\nINFO: 127.0.0.1:1 - "GET /health HTTP/1.1" 503\n', "it loads"),
        ('it loads\n  File "x.py", line 1, in f\n', "it loads"),
        ("x" * TAIL_CHARS + "\nsecond\n", "second"),
        ("\n", ""),
    ],
)
def test_the_newest_line_that_says_something(log: str, expected: Progress | str) -> None:
    assert newest(log) == expected
