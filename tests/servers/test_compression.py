"""A stream is compressed where that pays, and every tar can read it."""

from __future__ import annotations

import gzip
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_vastgpu.servers.archive import packed
from pytest_vastgpu.servers.compression import BLOCK_BYTES
from pytest_vastgpu.servers.compression import compressed
from pytest_vastgpu.servers.files import entries

TEXT = b"".join(b"def test_%d() -> None: assert work(%d) == %d\n" % (n, n * 7, n * n) for n in range(20_000))
NOISE = random.Random(0).randbytes(BLOCK_BYTES)


def size(data: bytes, part: int = 1000) -> int:
    """Bytes of a stream that is given in parts; it is the same when it is unpacked."""
    made = b"".join(compressed(data[at : at + part] for at in range(0, len(data), part)))
    assert gzip.decompress(made) == data if data else made == b""
    return len(made)


def test_what_compresses_is_compressed_and_what_does_not_is_only_wrapped() -> None:
    assert size(TEXT) < len(TEXT) / 3
    assert len(NOISE) < size(NOISE) < len(NOISE) * 1.001
    both = size(TEXT + 8 * NOISE + TEXT)
    assert both < 8.1 * len(NOISE) + 2 * len(TEXT) / 3 + 2 * BLOCK_BYTES
    assert size(b"") == 0
    assert size(b"x") < 30


def test_what_takes_off_little_for_much_work_is_only_wrapped() -> None:
    """Weights: a fifth of their bits is the same everywhere."""
    weights = bytes(byte if at % 4 else 63 for at, byte in enumerate(NOISE))
    assert len(gzip.compress(weights, 1)) < 0.95 * len(weights)
    assert size(weights) > len(weights)


def test_no_part_is_held_back_for_long() -> None:
    """A line that waits for a whole file would stand still meanwhile."""
    given = 0

    def parts() -> object:
        nonlocal given
        for _ in range(100):
            given += 1000
            yield NOISE[:1000]

    stream = compressed(parts())  # type: ignore[arg-type] # an iterator
    next(stream)
    assert given <= BLOCK_BYTES + 1000


@pytest.mark.parametrize("tar", [["tar"], ["busybox", "tar"]])
def test_every_tar_unpacks_it(tmp_path: Path, tar: list[str]) -> None:
    if (program := shutil.which(tar[0])) is None:
        pytest.skip(f"no {tar[0]} on this machine")
    (tmp_path / "from").mkdir()
    for name, data in (("noise", 3 * NOISE), ("text", TEXT), ("empty", b""), ("more noise", NOISE)):
        (tmp_path / "from" / name).write_bytes(data)
    data = b"".join(compressed(packed(entries([("to", str(tmp_path / "from"))]))))
    subprocess.run([program, *tar[1:], "-xzpof", "-", "-C", str(tmp_path)], input=data, check=True)
    for each in (tmp_path / "from").iterdir():
        assert (tmp_path / "to" / each.name).read_bytes() == each.read_bytes()
    assert len(list((tmp_path / "to").iterdir())) == 4
