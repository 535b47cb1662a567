"""What only PyTorch, or only a GPU, can show."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_training_step_makes_the_loss_smaller(torch: Any) -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.randn(64, 8, device=device), torch.randn(64, 1, device=device)
    model = torch.nn.Linear(8, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_a_product_on_the_gpu_is_that_of_the_cpu(gpu: Any) -> None:
    gpu.manual_seed(0)
    a, b = gpu.randn(256, 256), gpu.randn(256, 256)
    gpu.testing.assert_close((a.cuda() @ b.cuda()).cpu(), a @ b, atol=1e-2, rtol=1e-2)


def test_more_memory_than_there_is_cannot_be_had(gpu: Any) -> None:
    _, total = gpu.cuda.mem_get_info()
    with pytest.raises(gpu.cuda.OutOfMemoryError):
        gpu.empty(total + 1, dtype=gpu.uint8, device="cuda")
