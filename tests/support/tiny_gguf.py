"""Writes a tiny GGUF file: a llama of random weights that llama.cpp loads in milliseconds. No packages needed."""

from __future__ import annotations

import array
import random
import struct
from collections.abc import Iterable
from pathlib import Path

_ALIGNMENT = 32
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
"""Types of values, in GGUF's numbers (``ggml/docs/gguf.md``)."""


def write(path: Path, *, embedding: int = 64, feed_forward: int = 128, layers: int = 2, zeros: bool = False) -> Path:
    """A model whose tokens are bytes, in 32-bit floats.

    :param embedding: Size of its embeddings; a multiple of 16.
    :param feed_forward: Size of its inner layers.
    :param zeros: All weights are zero, and the file has holes in their place: a large one takes no room on the disk.
    """
    tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    types = [2, 3, 3, *[6] * 256]  # unknown, control, byte
    heads = 4
    values = [
        _text("general.architecture", b"llama"),
        _number("llama.context_length", 256),
        _number("llama.embedding_length", embedding),
        _number("llama.block_count", layers),
        _number("llama.feed_forward_length", feed_forward),
        _number("llama.attention.head_count", heads),
        _number("llama.attention.head_count_kv", heads),
        _number("llama.rope.dimension_count", embedding // heads),
        _key("llama.attention.layer_norm_rms_epsilon", _FLOAT32) + struct.pack("<f", 1e-5),
        _text("tokenizer.ggml.model", b"llama"),
        _list("tokenizer.ggml.tokens", _STRING, (_counted(token) for token in tokens), len(tokens)),
        _list("tokenizer.ggml.scores", _FLOAT32, [bytes(4)] * len(tokens), len(tokens)),
        _list("tokenizer.ggml.token_type", _INT32, (struct.pack("<i", kind) for kind in types), len(types)),
    ]
    shapes = _shapes(len(tokens), embedding, feed_forward, layers)
    places, offset = {}, 0
    for name, shape in shapes.items():
        places[name] = offset
        offset = _aligned(offset + 4 * _size(shape))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(values)) + b"".join(values)
    for name, shape in shapes.items():
        head += _counted(name.encode()) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, places[name])
    start = _aligned(len(head))
    rolls = random.Random(0)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + offset)
        for name, shape in shapes.items() if not zeros else ():
            weights = [1.0] if len(shape) == 1 else (rolls.gauss(0, 0.1) for _ in range(_size(shape)))
            file.seek(start + places[name])
            array.array("f", [*weights] * (shape[0] if len(shape) == 1 else 1)).tofile(file)
    return path


def _shapes(tokens: int, embedding: int, feed_forward: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Of each tensor, the fastest dimension first."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (embedding, tokens),
        "output.weight": (embedding, tokens),
        "output_norm.weight": (embedding,),
    }
    for layer in range(layers):
        block = {f"attn_{part}": (embedding, embedding) for part in ("q", "k", "v", "output")}
        block |= {f"ffn_{part}": (embedding, feed_forward) for part in ("gate", "up")}
        block["ffn_down"] = (feed_forward, embedding)
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in block.items()}
        shapes |= {f"blk.{layer}.{part}_norm.weight": (embedding,) for part in ("attn", "ffn")}
    return shapes


def _size(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _counted(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _key(name: str, kind: int) -> bytes:
    return _counted(name.encode()) + struct.pack("<I", kind)


def _number(name: str, value: int) -> bytes:
    return _key(name, _UINT32) + struct.pack("<I", value)


def _text(name: str, value: bytes) -> bytes:
    return _key(name, _STRING) + _counted(value)


def _list(name: str, kind: int, values: Iterable[bytes], count: int) -> bytes:
    return _key(name, _ARRAY) + struct.pack("<IQ", kind, count) + b"".join(values)
