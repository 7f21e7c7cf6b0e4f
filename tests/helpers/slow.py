"""The statistics once more, plainly: Python loops over what eager attention returns.

Shares no code with the measuring wing beyond the passages themselves and the model.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headprobe.probes.document import Passage
from headprobe.vocabulary import Relation

Head = tuple[int, int]


@dataclass
class Slow:
    """Sums by relation and head, and by head."""

    n: dict[Relation, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[tuple[str, Relation, Head], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    # by relation, passage, query word and nearest target
    hits: dict[tuple[Relation, str, int, int, Head], bool] = field(default_factory=dict)
    # by relation, grouping and fold
    share: dict[tuple[Relation, str, int, Head], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    # distance bin, parts of speech; quadrant, labels: of the query word and of the earlier word
    category: dict[tuple[int, str, str, Head], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    deprels: dict[tuple[int, str, str, Head], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    # by passage and word of the passage: the place of the winner, from 1
    winner: dict[tuple[str, int, Head], int] = field(default_factory=dict)
    kept: dict[tuple[str, int, Head], float] = field(default_factory=dict)
    # the same: stripped attention by earlier word
    stripped: dict[tuple[str, int, Head], dict[int, float]] = field(default_factory=dict)
    heads: dict[tuple[str, Head], float] = field(default_factory=lambda: defaultdict(float))
    profile: dict[tuple[str, Head, int], float] = field(default_factory=lambda: defaultdict(float))
    pairs: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    bits: float = 0.0
    rows: int = 0
    outputs: dict[Head, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))


def measure_slowly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    start: Sequence[int],
    passages: Sequence[Passage],
) -> Slow:
    """``model`` must attend eagerly."""
    slow = Slow()
    for passage in passages:
        _take(slow, model, tokenizer, list(start), passage)
    return slow


def _take(
    slow: Slow,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    start: list[int],
    passage: Passage,
) -> None:
    encoded = tokenizer(passage.text, add_special_tokens=False, return_offsets_mapping=True)
    ids = torch.tensor([start + list(encoded["input_ids"])])
    values: dict[int, torch.Tensor] = {}
    inputs: dict[int, torch.Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if name.endswith("self_attn"):
            index = module.layer_idx
            handles.append(
                module.v_proj.register_forward_hook(
                    lambda _m, _a, out, index=index: values.update({index: out[0]})
                )
            )
            handles.append(
                module.o_proj.register_forward_pre_hook(
                    lambda _m, args, index=index: inputs.update({index: args[0][0]})
                )
            )
    with torch.inference_mode():
        result = model(input_ids=ids, use_cache=False, output_attentions=True)
    for handle in handles:
        handle.remove()
    told = torch.log_softmax(result.logits[0].double(), -1)
    for place in range(len(start), ids.shape[1]):
        slow.bits -= float(told[place - 1, ids[0, place]]) / math.log(2)

    tokens_of = _tokens_of_words(passage, encoded["offset_mapping"], len(start))
    usable = [word for word in range(len(passage.words)) if tokens_of[word]]
    slow.rows += len(usable)
    for query in usable:
        for key in usable:
            if key < query:
                slow.pairs[min(query - key, 511)] += 1
    instances = _instances(passage, usable)
    for relation, *_ in instances:
        slow.n[relation] += 1
    for layer, weights in enumerate(result.attentions):
        o_proj = model.get_submodule(f"model.layers.{layer}.self_attn.o_proj").weight.detach()
        heads = weights.shape[1]
        width = o_proj.shape[1] // heads
        group = heads * width // values[layer].shape[1]
        for head in range(heads):
            out_map = o_proj[:, head * width : (head + 1) * width].T.double()
            kv = head // group
            value = values[layer][:, kv * width : (kv + 1) * width].double()
            written = inputs[layer][:, head * width : (head + 1) * width].double() @ out_map
            loud = (value @ out_map).norm(dim=-1)
            _take_head(
                slow,
                (layer, head),
                weights[0, head].double(),
                loud,
                written,
                passage,
                tokens_of,
                usable,
                instances,
                len(start),
            )


def _take_head(
    slow, at, weights, loud, written, passage, tokens_of, usable, instances, starts
) -> None:
    loud = loud.tolist()
    raw: dict[int, dict[int, float]] = {}
    stripped: dict[int, dict[int, float]] = {}
    normed: dict[int, dict[int, float]] = {}
    kept: dict[int, float] = {}
    for query in usable:
        row = weights[tokens_of[query][-1]].tolist()
        raw[query] = {k: sum(row[t] for t in tokens_of[k]) for k in usable if k < query}
        kept[query] = sum(raw[query].values())
        stripped[query] = {
            k: v / kept[query] if kept[query] else 0.0 for k, v in raw[query].items()
        }
        moved = {k: sum(row[t] * loud[t] for t in tokens_of[k]) for k in raw[query]}
        total = sum(moved.values())
        normed[query] = {k: v / total if total else 0.0 for k, v in moved.items()}

        slow.heads["sink", at] += sum(row[t] for t in range(starts))
        slow.heads["self", at] += sum(row[t] for t in tokens_of[query])
        slow.heads["previous", at] += raw[query].get(query - 1, 0.0)
        slow.heads["entropy", at] -= sum(p * math.log(p) for p in row if p > 0)
        if kept[query] > 0:
            slow.heads["rows_stripped", at] += 1
        for key, share in stripped[query].items():
            slow.heads["distance", at] += share * (query - key)
            if passage.words[key].upos == "PUNCT":
                slow.heads["punctuation", at] += share
            slow.profile["profile", at, min(query - key, 511)] += share
            slow.profile["profile_norm", at, min(query - key, 511)] += normed[query][key]
            one, two = passage.words[query], passage.words[key]
            slow.category[distance_bin(query - key), one.upos, two.upos, at] += share
            quadrant = 2 * (fold(passage.cluster) % 2) + fold(two.form.lower()) % 2
            labels = one.deprel.split(":")[0], two.deprel.split(":")[0]
            slow.deprels[quadrant, *labels, at] += share
        best = max(raw[query].values(), default=0.0)
        first = [key for key, weight in raw[query].items() if weight == best and weight > 0]
        slow.stripped[passage.id, query, at] = stripped[query]
        slow.kept[passage.id, query, at] = sum(raw[query].values())
        slow.winner[passage.id, query, at] = first[0] + 1 if len(first) == 1 else 0
        slow.outputs[at].append(written[tokens_of[query][-1]])
    for relation, query, targets in instances:
        candidates = [
            k
            for k in usable
            if k < query
            and (
                relation.scope == "passage"
                or passage.words[k].sentence == passage.words[query].sentence
            )
            and not (
                relation.strict
                and passage.words[k].form.lower() == passage.words[query].form.lower()
            )
            and not (
                relation.same_upos
                and (
                    passage.words[k].upos != passage.words[query].upos
                    or passage.words[k].lemma == passage.words[query].lemma
                )
            )
        ]
        slow.sums["mass", relation, at] += sum(raw[query][t] for t in targets)
        slow.sums["kept", relation, at] += kept[query]
        slow.sums["share", relation, at] += sum(stripped[query][t] for t in targets)
        slow.sums["share_norm", relation, at] += sum(normed[query][t] for t in targets)
        best = max(raw[query][t] for t in targets)
        rivals = [raw[query][k] for k in candidates if k not in targets]
        second = sorted((raw[query][t] for t in targets), reverse=True)[1:2]
        alone = all(best > rival for rival in rivals) and best > 0 and best not in second
        assert (relation, passage.id, query, max(targets), at) not in slow.hits
        slow.hits[relation, passage.id, query, max(targets), at] = alone
        nearest = passage.words[max(targets)].form.lower()
        for name, key in (("document", passage.cluster), ("form", nearest)):
            shares = sum(stripped[query][t] for t in targets)
            slow.share[relation, name, fold(key), at] += shares


def fold(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % 64


def distance_bin(distance: int) -> int:
    """1 to 16 have a bin each; the next are 17 to 32, 33 to 64, ...; the last is 257 and more."""
    number, last = 15, 16
    if distance <= 16:
        return distance - 1
    while distance > last and number < 20:
        number, last = number + 1, last * 2
    return number


def _tokens_of_words(passage: Passage, offsets, starts: int) -> list[list[int]]:
    """The tokens of each usable word; none for the others."""
    touched = [
        [
            token
            for token, (low, high) in enumerate(offsets)
            if low < high and max(low, word.start) < min(high, word.end)
        ]
        for word in passage.words
    ]
    users = defaultdict(int)
    for tokens in touched:
        for token in tokens:
            users[token] += 1
    return [
        [token + starts for token in tokens] if all(users[t] == 1 for t in tokens) else []
        for tokens in touched
    ]


def _instances(passage: Passage, usable: list[int]):
    found = []
    for link in passage.links:
        targets = [target for target in link.targets if target in usable]
        if link.query in usable and targets:
            found.append((link.relation, link.query, targets))
    for relation, members in passage.classes.items():
        for query in usable:
            targets = [m for m in members if m < query and m in usable]
            if targets:
                found.append((relation, query, targets))
    return found
