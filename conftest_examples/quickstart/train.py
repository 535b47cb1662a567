"""How ``weights.json`` was made: the sentences below, learned by heart.

    pip install torch && python train.py

It takes a quarter of a minute on two CPU cores. The seed is fixed, so the same release of PyTorch on the same kind of
processor makes the same weights.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import torch
from torch.nn import functional

TEXTS = (
    "Nothing is left running.",
    "A port that is open is not yet a model that answers.",
    "The cheapest machine is the one that works.",
    "One success does not make a host reliable.",
    "Tests that share a server share its bill.",
    "Who are you?\nA very small language model.",
    "What is left running?\nNothing at all.",
    "What is the capital of Sweden?\nStockholm.",
    "How much do you cost?\nA fraction of a cent.",
)
CONTEXT, HIDDEN, HEADS, LAYERS = 96, 32, 4, 2


def initial(vocabulary: int) -> dict[str, torch.Tensor]:
    shapes = {"embedding": (vocabulary, HIDDEN), "position": (CONTEXT, HIDDEN), "norm": (1, HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {f"{layer}.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value", "output")}
        shapes |= {f"{layer}.attention.norm": (1, HIDDEN), f"{layer}.mlp.norm": (1, HIDDEN)}
        shapes |= {f"{layer}.up": (4 * HIDDEN, HIDDEN), f"{layer}.down": (HIDDEN, 4 * HIDDEN)}
    return {
        name: (torch.ones(shape) if name.endswith("norm") else torch.randn(shape) * 0.1).requires_grad_()
        for name, shape in shapes.items()
    }


def scores(w: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """The same computation as in ``model_server.py``, for all positions of all texts at once."""
    texts, length = tokens.shape

    def normed(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale[0]

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(texts, length, HEADS, HIDDEN // HEADS).transpose(1, 2)

    x = w["embedding"][tokens] + w["position"][:length]
    for layer in range(LAYERS):
        h = normed(x, w[f"{layer}.attention.norm"])
        query, key, value = (heads(h @ w[f"{layer}.{name}"].T) for name in ("query", "key", "value"))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(texts, length, HIDDEN) @ w[f"{layer}.output"].T
        h = normed(x, w[f"{layer}.mlp.norm"])
        x = x + torch.relu(h @ w[f"{layer}.up"].T) @ w[f"{layer}.down"].T
    return normed(x, w["norm"]) @ w["embedding"].T


def main() -> None:
    torch.manual_seed(1)
    vocabulary = ["", "\n", *(chr(code) for code in range(32, 127))]
    token_of = {character: token for token, character in enumerate(vocabulary)}
    length = max(map(len, TEXTS)) + 2
    tokens = torch.zeros((len(TEXTS), length), dtype=torch.long)
    for row, text in enumerate(TEXTS):
        tokens[row, 1 : len(text) + 1] = torch.tensor([token_of[character] for character in text])
    weights = initial(len(vocabulary))
    optimizer = torch.optim.AdamW(weights.values(), lr=3e-3, weight_decay=0.01)
    for step in range(1, 1501):
        loss = functional.cross_entropy(scores(weights, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    stored = {
        "vocabulary": vocabulary,
        "context": CONTEXT,
        "heads": HEADS,
        "weights": {
            name: [*tensor.shape, base64.b64encode(tensor.detach().half().numpy().tobytes()).decode()]
            for name, tensor in weights.items()
        },
    }
    Path(__file__).with_name("weights.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(sum(tensor.numel() for tensor in weights.values()), "weights")


if __name__ == "__main__":
    main()
