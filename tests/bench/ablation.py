"""Ablating every head by itself, beside hand-written hooks.

``python -m tests.bench.ablation`` prints seconds of both, wall time and the processor's own, and
their ratio. A hand-written script hooks the output projection's input and runs the whole model for
each head, on padded batches sorted by length.
"""

import argparse
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from headprobe.causal.ablation import Ablation, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.model.heads import ObservedModel, observe_model
from tests.bench.contestants import TOGETHER
from tests.bench.shapes import SHAPES, build
from tests.bench.timing import Seconds, timed

LENGTHS = (24, 160)
"""The shortest and the longest sequence, in tokens."""


def text(tokens: int, vocabulary: int) -> ScoredSequences:
    """Random sequences of together about ``tokens`` tokens; all tokens but the first are scored."""
    rng, sequences, total = np.random.default_rng(0), [], 0
    while total < tokens:
        sequences.append(rng.integers(3, vocabulary, rng.integers(*LENGTHS)))
        total += len(sequences[-1])
    places = [(n, row, s[row + 1]) for n, s in enumerate(sequences) for row in range(len(s) - 1)]
    return ScoredSequences(tuple(sequences), *np.array(places).T)


def by_headprobe(observed: ObservedModel, scored: ScoredSequences) -> np.ndarray:
    """Return the losses [S, M] without each head."""
    observed.model.set_attn_implementation("headprobe")
    shape = len(observed.layers), observed.n_heads, observed.head_dim
    values = Replacements(torch.zeros(shape), torch.zeros(0, 1, *shape))
    heads = [(layer, head) for layer in range(shape[0]) for head in range(shape[1])]
    return ablated_losses(observed, scored, [Ablation((h,), "mean", values) for h in heads])[1]


def by_hand(observed: ObservedModel, scored: ScoredSequences) -> np.ndarray:
    """Return the same from hooks and whole passes."""
    model, width = observed.model, observed.head_dim
    model.set_attn_implementation("sdpa")
    order = sorted(range(len(scored.sequences)), key=lambda n: -len(scored.sequences[n]))
    batches = [order[first : first + TOGETHER] for first in range(0, len(order), TOGETHER)]
    first = np.searchsorted(scored.sequence, np.arange(len(scored.sequences)))
    losses = np.zeros((len(observed.layers) * observed.n_heads, len(scored.row)), np.float32)

    def silence(_: nn.Module, args: tuple[Tensor], *, head: int) -> tuple[Tensor]:
        given = args[0].clone()
        given[..., head * width : (head + 1) * width] = 0
        return (given,)

    for number in range(len(losses)):
        layer, head = divmod(number, observed.n_heads)
        output = observed.layers[layer].output
        hook = output.register_forward_pre_hook(partial(silence, head=head))
        for batch in batches:
            ids = [torch.from_numpy(scored.sequences[n]) for n in batch]
            padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)
            real = nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
            with torch.inference_mode():
                logits = model(input_ids=padded, attention_mask=real, use_cache=False).logits
            for place, n in enumerate(batch):
                kept = len(ids[place]) - 1
                found = nn.functional.cross_entropy(
                    logits[place, :kept], ids[place][1:], reduction="none"
                )
                losses[number, first[n] : first[n] + kept] = found.numpy()
        hook.remove()
    return losses


def measure(shape: str, tokens: int) -> dict[str, Seconds]:
    """Return the seconds of each way; both must find the same losses."""
    model = build(shape, "float32")
    scored = text(tokens, model.config.vocab_size)
    observed = observe_model(model, shape, torch.from_numpy(scored.sequences[0]))
    seconds, losses = {}, {}
    for name, way in (("headprobe", by_headprobe), ("hooks by hand", by_hand)):
        seconds[name], losses[name] = timed(partial(way, observed, scored))
    np.testing.assert_allclose(*losses.values(), rtol=1e-3, atol=1e-3)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench.ablation")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["6-layer"])
    parser.add_argument("--tokens", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"every head by itself, {arguments.tokens:,} tokens")
    for name in ("shape", "way", "s wall (s cpu)", "x headprobe, cpu"):
        table.add_column(name)
    for shape in arguments.shapes:
        seconds = measure(shape, arguments.tokens)
        for way, (wall, cpu) in seconds.items():
            ratio = f"{cpu / seconds['headprobe'][1]:.2f}"
            table.add_row(shape, way, f"{wall:.1f} ({cpu:.1f})", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
