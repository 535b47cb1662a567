from __future__ import annotations

import random

import httpx
import pytest

from pytest_vastgpu import VastInstance


def test_the_rented_gpu_is_this_machines(vast_instance: VastInstance, gpu_here: tuple[str, int]):
    name, _ = gpu_here
    assert httpx.get(f"{vast_instance.endpoint}/gpu").json()["name"] == name
    assert name.endswith(vast_instance.offer.gpu_name)
    assert name in vast_instance.run("nvidia-smi --query-gpu=name --format=csv,noheader").stdout


def test_it_has_the_memory_that_was_sold(vast_instance: VastInstance, gpu_here: tuple[str, int]):
    _, memory_mib = gpu_here
    usable_mib = httpx.get(f"{vast_instance.endpoint}/gpu").json()["memory_bytes"] / 2**20
    assert usable_mib == pytest.approx(memory_mib, rel=0.1), "the driver keeps some of it for itself"
    assert vast_instance.offer.gpu_ram_mb == pytest.approx(memory_mib, rel=0.1)


def test_it_has_the_compute_capability_that_was_sold(vast_instance: VastInstance):
    told = httpx.get(f"{vast_instance.endpoint}/gpu").json()["compute_capability"]
    assert float(told) == vast_instance.offer.compute_cap


def test_a_kernel_computes_what_it_should(vast_instance: VastInstance):
    """Whole numbers of this size are exact in single precision. The count fills no whole number of blocks."""
    chance = random.Random(1)
    xs, ys = ([chance.randrange(-1000, 1000) for _ in range(100_001)] for _ in range(2))
    answer = httpx.post(f"{vast_instance.endpoint}/saxpy", json={"a": 3, "x": xs, "y": ys}, timeout=60)
    assert answer.raise_for_status().json()["result"] == [3 * x + y for x, y in zip(xs, ys, strict=True)]
