"""How ``quickstart-30k.gguf`` was made: a llama of two layers that learns the sentences below by heart.

    pip install torch gguf && python train.py

It takes half a minute on two CPU cores. The seed is fixed, so the same release of PyTorch on the same kind of
processor makes the same weights.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from torch.nn import functional

NAME = "quickstart-30k"
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
CHAT = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
CONTEXT, HIDDEN, HEADS, LAYERS, INNER, EPSILON, ROPE = 256, 32, 4, 2, 64, 1e-5, 10000.0
BEGIN, END, FIRST_BYTE, SPACE = 1, 2, 3, 259  # where a llama's vocabulary has them
SPELLED = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\N{LOWER ONE EIGHTH BLOCK}"]


def initial() -> dict[str, torch.Tensor]:
    """The weights under the names that llama.cpp gives them."""
    shapes = {"token_embd": (len(SPELLED), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.attn_{part}": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.{part}_norm": (HIDDEN,) for part in ("attn", "ffn")}
        shapes |= {f"blk.{layer}.ffn_{part}": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (HIDDEN, INNER)
    return {
        name: (torch.ones(shape) if name.endswith("norm") else torch.randn(shape) * 0.1).requires_grad_()
        for name, shape in shapes.items()
    }


def scores(w: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """What a llama computes, for all positions of all texts at once."""
    texts, length = tokens.shape
    size = HIDDEN // HEADS
    angles = torch.outer(torch.arange(length), ROPE ** (-torch.arange(0, size, 2) / size))
    turns = torch.polar(torch.ones_like(angles), angles)

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(x, (HIDDEN,), w[name], EPSILON)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(texts, length, HEADS, size).transpose(1, 2)

    def turned(x: torch.Tensor) -> torch.Tensor:
        """Rotary positions: each two neighbours are a point in the plane."""
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turns).flatten(-2)

    x = w["token_embd"][tokens]
    for layer in range(LAYERS):
        part = {name.removeprefix(f"blk.{layer}."): value for name, value in w.items()}
        h = normed(x, f"blk.{layer}.attn_norm")
        query, key, value = (heads(h @ part[f"attn_{name}"].T) for name in "qkv")
        mixed = functional.scaled_dot_product_attention(turned(query), turned(key), value, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(texts, length, HIDDEN) @ part["attn_output"].T
        h = normed(x, f"blk.{layer}.ffn_norm")
        x = x + (functional.silu(h @ part["ffn_gate"].T) * (h @ part["ffn_up"].T)) @ part["ffn_down"].T
    return normed(x, "output_norm") @ w["token_embd"].T


def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    tokens = torch.full((len(TEXTS), max(map(len, TEXTS)) + 2), END)
    tokens[:, 0] = BEGIN
    for row, text in enumerate(TEXTS):
        spelled = [SPACE if byte == ord(" ") else FIRST_BYTE + byte for byte in text.encode()]
        tokens[row, 1 : len(text) + 1] = torch.tensor(spelled)
    weights = initial()
    optimizer = torch.optim.AdamW(weights.values(), lr=3e-3, weight_decay=0.01)
    for step in range(1, 1501):
        loss = functional.cross_entropy(scores(weights, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    return weights


def write(weights: dict[str, torch.Tensor], path: Path) -> None:
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, kind.NORMAL]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(ROPE)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(SPELLED)
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT)
    for name, tensor in weights.items():
        kept = tensor.detach() if name.endswith("norm") else tensor.detach().half()
        writer.add_tensor(f"{name}.weight", kept.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    weights = trained()
    write(weights, Path(__file__).with_name(f"{NAME}.gguf"))
    print(sum(tensor.numel() for tensor in weights.values()), "weights")


if __name__ == "__main__":
    main()
