"""What an ablation may change: the loss on text, and the margins of minimal pairs.

An outcome is a list of *units* (a token of text, a pair of sentences), each the signed sum of the
losses of some scored tokens. Units belong to clusters: document folds, or templates of pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.batching.corpus import Corpus
from headprobe.batching.encoder import Encoder
from headprobe.causal.losses import ScoredSequences
from headprobe.errors import HeadprobeError
from headprobe.resources import configs_folder
from headprobe.runs.files import parse_json, read_or_fail

LOSS = "loss"
"""The outcome on text: cross-entropy in nats per token."""


@dataclass(frozen=True)
class Outcome:
    """The units of one outcome."""

    name: str
    tokens: slice
    """The scored tokens of the outcome, among all M of the sequences."""
    unit: NDArray[np.int64]
    """[M']: the unit of each of these tokens."""
    sign: NDArray[np.float32]
    """[M']: 1 where the unit adds the token's loss, -1 where it subtracts it."""
    cluster: NDArray[np.int64]
    """[U]: the cluster of each unit."""
    harm: int
    """1 if an ablation does harm where it raises the values, -1 if where it lowers them."""

    def values(self, losses: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the units' values [..., U] from the losses of all tokens [..., M]."""
        signed = losses[..., self.tokens].astype(np.float64) * self.sign
        sums = np.zeros((*signed.shape[:-1], len(self.cluster)))
        for place in np.ndindex(signed.shape[:-1]):
            sums[place] = np.bincount(self.unit, signed[place], minlength=len(self.cluster))
        return sums


@dataclass(frozen=True)
class Pair:
    """A minimal pair: two texts, of which a speaker accepts one."""

    good: str
    bad: str
    group: str
    """The outcome that the pair belongs to."""
    template: str
    """The cluster of the pair."""
    until: tuple[int, int] | None = None
    """The characters of ``good`` and of ``bad`` at which the critical words end: later tokens do
    not count. None: all tokens count."""


def bundled_pairs() -> list[Path]:
    """Return the files of the built-in minimal pairs."""
    return sorted((configs_folder() / "pairs").glob("*.jsonl"))


def find_pairs(path: Path) -> Path:
    """Return the file of a built-in set of pairs by its name; any other path as it is."""
    named = {built_in.stem: built_in for built_in in bundled_pairs()}
    return path if path.exists() else named.get(str(path), path)


def read_pairs(path: Path) -> list[Pair]:
    """Read minimal pairs from a JSON Lines file; HeadprobeError if it holds none or is damaged.

    Lines have ``good`` and ``bad``, or ``sentence_good`` and ``sentence_bad`` as in BLiMP. With
    ``critical`` and ``rival``, only the probability of these words counts, given the words before
    them; else that of the whole sentences.
    """
    remedy = 'Give one JSON object a line, with "good" and "bad"'
    pairs = []
    with read_or_fail(path, remedy=remedy) as file, file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                pairs.append(_pair(parse_json(line), path.stem, number))
        if not pairs:
            raise ValueError("it holds no pair")
    return pairs


def _pair(values: Any, file: str, number: int) -> Pair:
    if not isinstance(values, dict):
        raise ValueError(f"line {number} is no JSON object")
    texts = [values.get(name, values.get(f"sentence_{name}")) for name in ("good", "bad")]
    good, bad = texts
    if not isinstance(good, str) or not isinstance(bad, str):
        raise ValueError(f"line {number} has no good and bad sentences")
    # BLiMP: UID names the paradigm, and pairs are written from templates that it does not name
    group = str(values.get("phenomenon", values.get("UID", file)))
    template = str(values.get("template", values.get("pair_id", values.get("pairID", number))))
    critical, rival = values.get("critical"), values.get("rival")
    until = None
    if isinstance(critical, str) and isinstance(rival, str):
        start = _shared(good, bad)
        # The words may share their first letters: go back to where both begin
        place = max(
            (
                at
                for at in range(start + 1)
                if good.startswith(critical, at) and bad.startswith(rival, at)
            ),
            default=None,
        )
        if place is None:
            raise ValueError(f"line {number}: the sentences do not differ in critical and rival")
        until = place + len(critical), place + len(rival)
    return Pair(good, bad, group, template, until)


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The number of elements that two sequences share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass
class OutcomeBuilder:
    """Collects the sequences, the scored tokens and the outcomes."""

    sequences: list[NDArray[np.integer]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _tokens: list[tuple[int, int, int]] = field(default_factory=list)

    def scored(self) -> ScoredSequences:
        """Return all sequences with their scored tokens."""
        columns = np.array(self._tokens, dtype=np.int64).reshape(-1, 3)
        return ScoredSequences(tuple(self.sequences), columns[:, 0], columns[:, 1], columns[:, 2])

    def add_text(self, corpus: Corpus, passages: Iterable[int]) -> None:
        """Add the outcome ``loss`` on passages of the corpus: every token of text is a unit.

        It comes first, so that the numbers of its sequences are the places of the passages.
        """
        first, clusters = len(self._tokens), []
        for passage in passages:
            ids = corpus.token_ids[corpus.token_first[passage] : corpus.token_first[passage + 1]]
            number = len(self.sequences)
            self.sequences.append(ids)
            fold = int(corpus.instances.document_fold[passage])
            for place in range(corpus.starts, len(ids)):
                self._tokens.append((number, place - 1, int(ids[place])))
                clusters.append(fold)
        count = len(clusters)
        self.outcomes.append(
            Outcome(
                LOSS,
                slice(first, len(self._tokens)),
                np.arange(count),
                np.ones(count, dtype=np.float32),
                np.array(clusters, dtype=np.int64),
                harm=1,
            )
        )

    def add_pairs(self, pairs: Sequence[Pair], encoder: Encoder) -> int:
        """Add one outcome per group of pairs: log p(good) - log p(bad), in nats.

        Pairs whose sides are the same tokens are left out (some of BLiMP's are the same text).
        Returns how many.

        The tokens that both sentences share at their start have the same probability in both, so
        only the later ones are scored. Sequences end before the last scored token, and equal
        sequences run once: a pair whose critical words are single tokens takes one sequence.
        """
        sides_of = {pair: self._sides(pair, encoder) for pair in pairs}
        differing = [
            pair for pair, (good, bad) in sides_of.items() if not np.array_equal(good, bad)
        ]
        for group in dict.fromkeys(pair.group for pair in differing):
            members = [pair for pair in differing if pair.group == group]
            templates = {name: i for i, name in enumerate(sorted({p.template for p in members}))}
            first, units, signs = len(self._tokens), [], []
            for unit, pair in enumerate(members):
                sides = sides_of[pair]
                shared = _shared(*[ids.tolist() for ids in sides])
                for ids, sign in zip(sides, (-1, 1), strict=True):
                    number = self._add(ids[: len(ids) - 1])
                    for place in range(shared, len(ids)):
                        self._tokens.append((number, place - 1, int(ids[place])))
                        units.append(unit)
                        signs.append(sign)
            self.outcomes.append(
                Outcome(
                    group,
                    slice(first, len(self._tokens)),
                    np.array(units),
                    np.array(signs, dtype=np.float32),
                    np.array([templates[pair.template] for pair in members]),
                    harm=-1,
                )
            )
        return len(sides_of) - len(differing)

    def _sides(self, pair: Pair, encoder: Encoder) -> list[NDArray[np.int32]]:
        sides = []
        ends = pair.until or (len(pair.good), len(pair.bad))
        start = np.array(encoder.start, dtype=np.int32)
        for text, end, encoded in zip(
            (pair.good, pair.bad), ends, encoder.encode([pair.good, pair.bad]), strict=True
        ):
            counted = encoded.ids[encoded.offsets[:, 0] < end]
            if not len(counted):
                raise HeadprobeError(f"pair {text!r}", "has no token", "Remove it from the file")
            sides.append(np.concatenate([start, counted]))
        return sides

    def _add(self, ids: NDArray[np.integer]) -> int:
        """Return the number of a sequence; equal ones share it."""
        key = np.asarray(ids, dtype=np.int64).tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.sequences)
            self.sequences.append(ids)
        return self._numbers[key]
