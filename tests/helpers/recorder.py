"""An observer that records all attention of one pass."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from headprobe.batching.layout import Block, pack_passages
from headprobe.model.attention import Observer, TilePart
from headprobe.model.forward import run_flat
from headprobe.model.heads import ObservedModel


class Recorder(Observer):
    """Records the attention of every tile [H, R, T] and the output of every layer."""

    def __init__(self) -> None:
        self.weights: dict[int, list[Tensor]] = {}
        self.outputs: dict[int, Tensor] = {}

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        assert module.layer_idx not in self.weights
        self.weights[module.layer_idx] = self.here = []

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        assert number == len(self.here)
        # [B, G, T, S, R], the last of T no token
        self.here.append(weights[:, :, :-1].permute(0, 1, 3, 4, 2).flatten(1, 2))

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self.outputs[module.layer_idx] = output


def observed(observed: ObservedModel, passages: Sequence[Tensor], blocks: Sequence[Block] = ()):
    """A recorder of one flat pass over passages [T], and the last hidden states [N, E]."""
    recorder = Recorder()
    blocks = blocks or [Block(np.array([p]), 0, len(ids)) for p, ids in enumerate(passages)]
    sequences = {p: ids.numpy() for p, ids in enumerate(passages)}
    flat = pack_passages(sequences, blocks, torch.device("cpu"))
    with torch.inference_mode():
        hidden = run_flat(observed.model.base_model, flat, recorder, None)[0]
    return recorder, hidden[0]
