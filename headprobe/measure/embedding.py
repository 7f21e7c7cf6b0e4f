"""The rule ``embedding`` (docs/method.md, Baselines): likeness of tokens, without any layer.

Input embeddings of related words are often alike, so a semantic relation must be told from likeness
of the words themselves. The rule chooses, for each query, the candidate whose input embedding is
most like the query's. The embedding of a word is the mean over its tokens, likeness is the cosine.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.corpus import Corpus
from headprobe.runs.instances import Instances, RelationInstances


def embedding_hits(embedding: nn.Module, corpus: Corpus, device: torch.device) -> NDArray[np.uint8]:
    """Return 1 for every instance of the run in which the rule chooses a target, else 0, [I].

    ``embedding`` maps token ids to vectors. Only semantic relations have the rule; instances of
    other relations have 0. If a target and another candidate are equally like the query, the rule
    does not choose the target.
    """
    instances = corpus.instances
    hits = [np.zeros(0, dtype=np.uint8)]
    for number, relation in enumerate(instances.relations):
        links = instances.of(number)
        if relation.family == "semantic" and not relation.twin:
            hits.append(_hits_of(embedding, corpus, links, device))
        else:
            hits.append(np.zeros(len(links), dtype=np.uint8))
    return np.concatenate(hits)


def _hits_of(
    embedding: nn.Module, corpus: Corpus, links: RelationInstances, device: torch.device
) -> NDArray[np.uint8]:
    """The hits of one relation, passage by passage."""
    instances = corpus.instances
    hits = np.zeros(len(links), dtype=np.uint8)
    passages = instances.passage[links.query]
    for passage in np.unique(passages).tolist():
        chosen = np.flatnonzero(passages == passage)
        first = int(instances.passage_first[passage])
        queries = links.query[chosen]
        vectors = _word_vectors(embedding, corpus, passage, device)
        likeness = (vectors[queries - first] @ vectors.T).cpu().numpy()
        candidates = _candidates(instances, links, queries, first)
        targets = np.zeros_like(candidates)
        row, words = links.targets_of(chosen)
        targets[row, words - first] = True
        best_target = np.where(candidates & targets, likeness, -np.inf).max(1)
        best_rival = np.where(candidates & ~targets, likeness, -np.inf).max(1)
        hits[chosen] = best_target > best_rival
    return hits


def _candidates(
    instances: Instances, links: RelationInstances, queries: NDArray[np.integer], first: int
) -> NDArray[np.bool_]:
    """[Q, W]: which words of the passage, whose first word is ``first``, compete for each query."""
    stop = int(instances.passage_first[instances.passage[first] + 1])
    words = np.arange(first, stop)
    required, excluded = instances.candidate_keys(links.relation.candidates)
    candidates = instances.usable[words] & (words < queries[:, None])
    candidates &= required[words] == required[queries][:, None]
    candidates &= excluded[words] != excluded[queries][:, None]
    return np.asarray(candidates)


def _word_vectors(
    embedding: nn.Module, corpus: Corpus, passage: int, device: torch.device
) -> Tensor:
    """[W, E]: the mean embedding of each word of a passage, of length 1; zeros if unusable."""
    tokens = slice(*corpus.token_first[passage : passage + 2].tolist())
    word = torch.from_numpy(corpus.word_of_token[tokens].astype(np.int64))
    ids = torch.from_numpy(corpus.token_ids[tokens].astype(np.int64))
    of_word = word >= 0
    with torch.no_grad():
        vectors: Tensor = embedding(ids[of_word].to(device)).float()
    words = int(np.diff(corpus.instances.passage_first[passage : passage + 2])[0])
    sums = vectors.new_zeros(words, vectors.shape[-1])
    sums.index_add_(0, word[of_word].to(vectors.device), vectors)
    return torch.nn.functional.normalize(sums, dim=-1)  # the mean points where the sum does
