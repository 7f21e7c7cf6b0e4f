"""How heads attend, whatever they look for: distances, sinks, spread."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.axes import LONGEST
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView

_MEANS = ("sink", "self", "previous", "entropy", "distance", "punctuation", "rows_stripped")


class ShapeStatistic:
    """Sums over the rows of usable words, and the profiles over word distance."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = {
            name: torch.zeros(layers, heads, dtype=wide(device), device=device) for name in _MEANS
        }
        profile = (layers, heads, LONGEST)
        self._profiles = {
            name: torch.zeros(profile, dtype=wide(device), device=device)
            for name in ("profile", "profile_norm")
        }

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        rows = batch.rows[:, :, None]
        for name, share in (("profile", view.share), ("profile_norm", view.share_norm)):
            _add_profile(self._profiles[name][layer], share)
        here = view.word_rows.diagonal(dim1=1, dim2=3)
        before = view.word_rows.diagonal(offset=-1, dim1=1, dim2=3)
        places = torch.arange(batch.usable.shape[1], device=rows.device, dtype=torch.float32)
        stripped = view.kept > 0
        per_row = {
            "sink": view.token_rows[..., : batch.starts].sum(-1) * rows,
            "self": here.transpose(1, 2) * rows,
            "previous": before.transpose(1, 2) * rows[:, 1:] * batch.rows[:, :-1, None],
            "entropy": torch.special.entr(view.token_rows).sum(-1) * rows,
            "distance": (places[None, :, None] - view.share @ places) * stripped,
            "punctuation": torch.einsum("bwhk,bk->bwh", view.share, batch.marks),
            "rows_stripped": stripped,
        }
        for name, values in per_row.items():
            sums = self._sums[name]
            sums[layer] += values.sum((0, 1), dtype=sums.dtype)

    def finish(self, batch: AlignedBatch) -> None:
        """Nothing spans layers."""

    def sums(self) -> Mapping[str, Tensor]:
        counted = self._sums["rows_stripped"].round().to(torch.int64)
        return {**self._sums, **self._profiles, "rows_stripped": counted}


def _add_profile(profile: Tensor, share: Tensor) -> None:
    """Add the sums of ``share`` [B, W, H, W] over each word distance to ``profile`` [H, D].

    The rows are written into a buffer W - 1 columns wider, in which a view with a row stride one
    larger turns diagonals into columns.
    """
    passages, words, heads, _ = share.shape
    if words < 2:
        return
    buffer = share.new_zeros(passages, words, heads, 2 * words - 1)
    buffer[..., words - 1 :] = share
    of_passage, of_row, of_head, _ = buffer.stride()
    skewed = buffer.as_strided(
        (passages, words, heads, words), (of_passage, of_row + 1, of_head, 1)
    )
    by_distance = skewed.sum((0, 1), dtype=profile.dtype)[:, :-1].flip(-1)
    exact = min(words - 1, LONGEST)
    profile[:, :exact] += by_distance[:, :exact]
    profile[:, -1] += by_distance[:, exact:].sum(-1)
