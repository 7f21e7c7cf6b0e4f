"""Heads that see no content at all: attention that only decays with distance in tokens."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headprobe.analysis.behaviour import behaviour_evidence, head_statistics
from headprobe.analysis.gains import compute_evidence
from headprobe.analysis.pos_control import fit_preferences
from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import plan_chunks
from headprobe.measure.collector import StatisticsCollector, count_profile_pairs
from headprobe.model.attention import TilePart
from headprobe.model.forward import run_chunk
from headprobe.model.heads import observe_model
from headprobe.probes.catalog import find_probe_files
from headprobe.roles.roles import judge
from headprobe.roles.rules import load_rules
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import MAX_DISTANCE
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.tiny import build, random_ids

SCALES = 0.5 * 1.35 ** np.arange(12)


class Blind(StatisticsCollector):
    """Head h of layer l attends by exp(-tokens / scale) and to nothing else."""

    weights_per_call = None

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        tile = self._current_chunk.batches[number].tile
        rows, keys = tile.rows[:, None, :], tile.keys[:, :, None]
        scales = torch.tensor(SCALES[self._layer.index * 4 :][:4], dtype=torch.float32)
        seen = (keys >= 0) & (keys <= rows)
        seen[:, -1] = tile.rows < 0
        decay = (keys - rows)[:, None, :, None] / scales[:, None, None, None]
        hidden = torch.where(seen[:, None, :, None], decay, torch.finfo(scores.dtype).min / 2)
        super().attended(number, part, hidden.softmax(2).view_as(weights), hidden.view_as(scores))


def test_heads_that_attend_by_token_distance_are_positional_or_none() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = []
    for name in ("story", "news", "dialogue"):
        passages += passages_of(Path(find_probe_files([name])[0].path), encoder, 500, most=142)
    corpus = align(passages, encoder, lambda _: None, seed=0)
    assert corpus.instances.tokens.mean() > 2
    model = build("llama", {"max_position_embeddings": 1024, "num_key_value_heads": 4})
    observed = observe_model(model, "blind", random_ids(9))
    batcher = Batcher(corpus, observed.device, observed.n_kv_heads)
    collector = Blind(
        observed,
        corpus.instances,
        len(batcher.distinct_tokens),
        corpus.starts,
        seed=0,
        idle_line=0.3,
    )
    passages = np.arange(len(corpus.lengths))
    each = plan_chunks(passages, corpus.lengths, 4, tokens=1, scores=1 << 30)
    for blocks in each:
        run_chunk(observed, batcher, blocks, collector)
    tallies = collector.collect(
        {
            "profile_pairs": count_profile_pairs(corpus.instances, MAX_DISTANCE),
            "rows": np.array(corpus.instances.usable.sum()),
        }
    )
    rules = load_rules()
    preferences = fit_preferences(corpus.instances, tallies)
    evidence = compute_evidence(corpus.instances, tallies, preferences, rules)
    no_copies = {
        f"{kind}_{what}": np.zeros((1, *tallies["sink"].shape))
        for kind in ("duplicate", "induction")
        for what in ("hits", "mass")
    }
    sums = Tallies({**tallies.arrays, **no_copies, "copy_rows": np.zeros(1)})
    found = behaviour_evidence(
        corpus.instances, sums, preferences, confidence=0.95, min_kept=0.05, min_attention=5.0
    )
    verdicts, _ = judge(
        evidence,
        head_statistics(corpus.instances, tallies, rules.confidence),
        found,
        tallies,
        4,
        rules,
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
