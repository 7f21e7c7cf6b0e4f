"""Both views of a layer, compared."""

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch
from headprobe.batching.layout import N_PAIR_KINDS
from headprobe.measure.numba_view import NumbaView
from headprobe.measure.torch_view import TorchView
from headprobe.model.attention import TilePart

NUMBERS = (
    "sampled",
    "sketch",
    "over_rows",
    "attention_received",
    "kept",
    "instance_shares",
    "columns",
    "by_distance",
)
PLACES = ("winner", "instance_hits")


def sweep(batch: AlignedBatch, weights: Tensor, scores: Tensor, loudness: Tensor) -> NumbaView:
    """All of it at once; with the sums by kind as ``by_kind``."""
    sums = torch.zeros(loudness.shape[1], N_PAIR_KINDS, dtype=torch.float64)
    swept = NumbaView(batch, None, loudness, sums)
    whole = TilePart(slice(0, len(weights)), slice(0, weights.shape[1]), last=True)
    swept.add_part(whole, weights, scores)
    swept.by_kind = sums
    return swept


def compare(swept: NumbaView, tensors: TorchView) -> None:
    for name in NUMBERS:
        found, expected = getattr(swept, name), getattr(tensors, name)
        if name == "by_distance":  # as far as words reach; tensors may have zeros beyond
            assert not expected[:, found.shape[1] :].any()
            expected = expected[:, : found.shape[1]]
        # the entropy of rows that a sink takes is a difference of large numbers
        least = 1e-5 if name == "over_rows" else 2e-6
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=2e-5, atol=least, msg=name)
    for name in PLACES:
        assert torch.equal(getattr(swept, name), getattr(tensors, name)), name
    (share, word), (expected, places) = swept.strongest, tensors.strongest
    torch.testing.assert_close(share, expected, rtol=2e-6, atol=1e-7)
    lone = (expected > 0) & (expected.diff(dim=-1, append=expected[..., :1] * 0) < -1e-6)
    lone[..., 1:] &= lone[..., :-1]
    lone[..., share.shape[-1] - 1 + (swept.batch.words <= share.shape[-1]) :] = False
    assert torch.equal(word[lone], places[lone])
    sums = torch.zeros_like(swept.by_kind)
    tensors.add_by_kind(sums)
    torch.testing.assert_close(swept.by_kind, sums, rtol=2e-5, atol=1e-6)
