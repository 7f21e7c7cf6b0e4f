"""The model card beside the weights."""

from __future__ import annotations

import csv
import os
import platform
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from headprobe.demo.schedule import DECAY_FROM
from headprobe.demo.settings import Settings
from headprobe.demo.tokenizer import BEGIN_ID, END_ID

PROMPT = "Once upon a time, there was a little girl named Lily. She"
SAMPLE_TOKENS = 120

CARD = """\
---
language: en
license: apache-2.0
tags: [llama, attention-heads, demo]
---

# The headprobe demo model

A small Llama trained from random weights, so that `headprobe` has a real model to read offline:
{parameters:,} parameters, {layers} layers of {heads} query heads over {groups} key/value heads
(head size {size}), width {width}, context {context}, its own byte-level BPE of {pieces:,} pieces
(no piece crosses a word). It is for looking at attention heads; it knows no facts and follows no
instructions.

## Training

| | |
| --- | --- |
| tokens seen | {tokens:,} in {steps:,} steps |
| held-out loss | {bits:.4f} bits per character, on documents never trained on |
| seed | {seed} |
| hours | {hours:.2f} |
| hardware | {hardware} |
| software | torch {torch_version} |

```
{command}
```

The model learned to predict the next token and nothing else. `torch.optim.Muon` trained the
matrices, `torch.optim.AdamW` the embeddings and norms; constant learning rates, then a linear decay
over the last {decay:.0%}; sequences of {half} tokens and, from {long_from:.0%} of the budget on, of
{context}, each inside one document.

`loss.csv` holds the loss curve (train loss in nats per token, held-out loss in bits per
character).

## Text

Main corpus, {repeat} times the short documents; then {extra_share:.0%} of its amount in spans of
the extra corpus, drawn anew in every pass.

| corpus | source | licence | documents | megabytes |
| --- | --- | --- | --- | --- |
{sources}

## Sample

Greedy, from "{prompt}":

> {sample}
"""


def manifest_of(corpus: Path) -> Path:
    """`children.manifest.tsv` for `children.train.txt`."""
    return corpus.with_name(corpus.name.split(".")[0] + ".manifest.tsv")


def licence_rows(corpus: Path) -> list[str]:
    """Table rows: source, licence, documents and size, from the corpus's manifest."""
    manifest = manifest_of(corpus)
    if not manifest.is_file():
        size = corpus.stat().st_size / 1e6
        return [f"| {corpus.name} | not stated | not stated | | {size:.1f} |"]
    documents: defaultdict[tuple[str, str], int] = defaultdict(int)
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    with manifest.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row.get("split", "train") == "train":
                key = (row.get("source") or "books", row["licence"])
                documents[key] += 1
                sizes[key] += int(row["bytes"])
    return [
        f"| {corpus.name} | {source} | {licence} | {documents[source, licence]:,} "
        f"| {sizes[source, licence] / 1e6:.1f} |"
        for source, licence in sorted(documents)
    ]


def hardware() -> str:
    """The kind of machine, without its name."""
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), bfloat16 autocast"


@torch.no_grad()
def greedy_text(model: LlamaForCausalLM, tokenizer: Tokenizer, prompt: str, length: int) -> str:
    """`prompt` continued by the likeliest piece, `length` times or to the end token."""
    device = next(model.parameters()).device
    tokens = [BEGIN_ID, *tokenizer.encode(prompt, add_special_tokens=False).ids]
    for _ in range(length):
        scores = model(input_ids=torch.tensor([tokens], device=device)).logits[0, -1]
        tokens.append(int(scores.argmax()))
        if tokens[-1] == END_ID:
            break
    return str(tokenizer.decode(tokens))


def write_card(
    path: Path,
    settings: Settings,
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    *,
    command: str,
    steps: int,
    tokens: int,
    seconds: float,
    bits: float,
) -> None:
    """Write the card: data, licences, tokens, held-out loss, seed, command, hardware, hours."""
    config = model.config
    sample = greedy_text(model, tokenizer, PROMPT, SAMPLE_TOKENS)
    rows = [row for one in (*settings.corpora, *settings.extra) for row in licence_rows(one)]
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        size=config.head_dim,
        width=config.hidden_size,
        context=config.max_position_embeddings,
        half=config.max_position_embeddings // 2,
        pieces=config.vocab_size,
        tokens=tokens,
        steps=steps,
        bits=bits,
        seed=settings.seed,
        hours=seconds / 3600,
        hardware=hardware(),
        torch_version=torch.__version__,
        command=command,
        decay=1.0 - DECAY_FROM,
        long_from=settings.long_from,
        repeat=settings.repeat_short,
        extra_share=settings.extra_share if settings.extra else 0.0,
        sources="\n".join(rows),
        prompt=PROMPT,
        sample=sample.replace("\n", "\n> "),
    )
    path.write_text(card, "utf-8")
