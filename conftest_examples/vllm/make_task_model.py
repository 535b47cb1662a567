"""Make a model for one of vLLM's tasks, small enough for a CPU: real files, random weights.

    python make_task_model.py {embed,score,classify,transcribe} DIR

It needs what ``make_tiny_model.py`` needs, and ``transformers``. What the model says means nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import make_tiny_model
import torch
from safetensors.torch import load_file
from safetensors.torch import save_file

CLASSES = {"score": 1, "classify": 3}
SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}


def make_llama(directory: Path, classes: int) -> None:
    """A Llama that classifies, and scores where it has one class; without classes one that generates."""
    make_tiny_model.make_tokenizer(directory)
    make_tiny_model.make_weights(directory)
    if not classes:
        return
    weights = load_file(directory / "model.safetensors")
    del weights["lm_head.weight"]
    weights["score.weight"] = torch.randn(classes, make_tiny_model.HIDDEN).bfloat16()
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    labels = {str(number): f"LABEL_{number}" for number in range(classes)}
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": labels, "pad_token_id": 0}
    config["label2id"] = {label: int(number) for number, label in labels.items()}
    make_tiny_model.write(directory / "config.json", config)


def make_whisper(directory: Path) -> None:
    """A Whisper with one layer on each side, whose tokens are bytes."""
    from tokenizers import pre_tokenizers
    from transformers import WhisperConfig
    from transformers import WhisperFeatureExtractor
    from transformers import WhisperForConditionalGeneration
    from transformers import WhisperTokenizer
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    languages = [f"<|{language}|>" for language in LANGUAGES]
    modes = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, *modes, *times]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *special]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = WhisperTokenizer(vocab=numbers, merges=[])
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)
    end, start = numbers["<|endoftext|>"], numbers["<|startoftranscript|>"]
    sides = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in SIZES.items()}
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end)
    config = WhisperConfig(vocab_size=len(tokens), d_model=64, decoder_start_token_id=start, **sides, **ends)
    model = WhisperForConditionalGeneration(config).to(torch.bfloat16)
    model.generation_config.update(
        is_multilingual=True,
        lang_to_id={language: numbers[language] for language in languages},
        task_to_id={mode: numbers[f"<|{mode}|>"] for mode in ("transcribe", "translate")},
        no_timestamps_token_id=numbers["<|notimestamps|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        max_length=40,
    )
    model.save_pretrained(directory)


def main() -> None:
    task, directory = sys.argv[1], Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    if task == "transcribe":
        make_whisper(directory)
    else:
        make_llama(directory, CLASSES.get(task, 0))


if __name__ == "__main__":
    main()
