"""Heads that see no content at all: attention that only decays with distance in tokens."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headprobe.analysis.behaviour import conduct, shape
from headprobe.analysis.gains import weigh
from headprobe.analysis.pos_control import fit_tastes
from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import plan_chunks
from headprobe.measure.collector import Tallier, count_profile_pairs
from headprobe.model.attention import Part
from headprobe.model.forward import run_chunk
from headprobe.model.heads import observe_heads
from headprobe.probes.catalog import resolve
from headprobe.roles.roles import judge
from headprobe.roles.rules import load_rules
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import LONGEST
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.tiny import build, random_ids

SCALES = 0.5 * 1.35 ** np.arange(12)


class Blind(Tallier):
    """Head h of layer l attends by exp(-tokens / scale) and to nothing else."""

    at_once = None

    def attended(self, number: int, part: Part, weights: Tensor, scores: Tensor) -> None:
        rectangle = self._running.batches[number].rectangle
        rows, keys = rectangle.rows[:, None, :], rectangle.keys[:, :, None]
        scales = torch.tensor(SCALES[self._layer.index * 4 :][:4], dtype=torch.float32)
        seen = (keys >= 0) & (keys <= rows)
        seen[:, -1] = rectangle.rows < 0
        decay = (keys - rows)[:, None, :, None] / scales[:, None, None, None]
        hidden = torch.where(seen[:, None, :, None], decay, torch.finfo(scores.dtype).min / 2)
        super().attended(number, part, hidden.softmax(2).view_as(weights), hidden.view_as(scores))


def test_heads_that_only_count_tokens_back_are_positional_or_nothing() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = []
    for name in ("story", "news", "dialogue"):
        passages += passages_of(Path(resolve([name])[0].path), encoder, 500, most=142)
    corpus = align(passages, encoder, lambda _: None, seed=0)
    assert corpus.instances.tokens.mean() > 2
    model = build("llama", {"max_position_embeddings": 1024, "num_key_value_heads": 4})
    grid = observe_heads(model, "blind", random_ids(9))
    batcher = Batcher(corpus, grid.device, grid.n_kv_heads)
    tallier = Blind(
        grid, corpus.instances, len(batcher.token_numbers), corpus.starts, seed=0, idle_line=0.3
    )
    passages = np.arange(len(corpus.lengths))
    each = plan_chunks(passages, corpus.lengths, 4, tokens=1, scores=1 << 30)
    for blocks in each:
        run_chunk(grid, batcher, blocks, tallier)
    tallies = tallier.tallies(
        {
            "profile_pairs": count_profile_pairs(corpus.instances, LONGEST),
            "rows": np.array(corpus.instances.usable.sum()),
        }
    )
    rules = load_rules()
    fitted = fit_tastes(corpus.instances, tallies)
    evidence = weigh(corpus.instances, tallies, fitted, rules)
    no_copies = {
        f"{kind}_{what}": np.zeros((1, *tallies["sink"].shape))
        for kind in ("duplicate", "induction")
        for what in ("hits", "mass")
    }
    sums = Tallies({**tallies.arrays, **no_copies, "copy_rows": np.zeros(1)})
    found = conduct(
        corpus.instances, sums, fitted, confidence=0.95, min_kept=0.05, min_attention=5.0
    )
    verdicts, _ = judge(
        evidence, shape(corpus.instances, tallies, rules.confidence), found, tallies, 4, rules
    )
    earned = {verdict.roles for verdict in verdicts}
    assert earned <= {(), ("positional",)}
    # the steepest look at the word before wherever they look, and none repeats a taste for labels
    assert found.positional.explained[0, 0] > 0.95
    assert np.nanmax(found.agreement.moved) < rules.unnamed.moved / 2
    # and it is the length of words that explains them: distance in words alone does not
    by_words = evidence.top1 - np.fmax.reduce(
        [
            np.broadcast_to(found if found.ndim == 3 else found[None, None], evidence.top1.shape)
            for name, found in evidence.baselines.items()
            if name != "habit_length"
        ]
    )
    enough = evidence.n >= rules.min_n
    assert np.nanmax(by_words[..., enough]) > rules.margin
