"""``show-head --text``: the attention of heads on a text of the user."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headprobe.batching.batches import Batcher, Chunk
from headprobe.batching.corpus import Corpus, align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import Block
from headprobe.commands.measured_model import check_weights, damaged, measured_source
from headprobe.errors import HeadprobeError
from headprobe.measure.torch_view import TorchView
from headprobe.model.adapters import resolve_adapter
from headprobe.model.attention import TilePart
from headprobe.model.dtypes import DTYPES
from headprobe.model.forward import PassObserver, run_chunk
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.in_memory import REMEDY, InMemoryModel
from headprobe.model.load import (
    CheckpointSource,
    check_tokens,
    choose_device,
    load_config,
    load_encoder,
    open_model,
    quiet_libraries,
)
from headprobe.probes.document import Document
from headprobe.probes.passages import cut_passages
from headprobe.probes.text import plain_sentence
from headprobe.results.views import TextView
from headprobe.runs.folder import Run
from headprobe.vocabulary import Skipped, head_name


def show_text(
    run: Run,
    layer: int,
    head: int,
    text: str,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> TextView:
    """Return the attention of one head on ``text``, as ``show_texts`` does."""
    [view] = show_texts(run, [(layer, head)], text, trust_remote_code, in_memory, note)
    return view


def show_texts(
    run: Run,
    heads: Sequence[tuple[int, int]],
    text: str,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[TextView]:
    """Run the model of ``run`` on ``text`` once and return the attention of each (layer, head).

    The model is loaded again, or is the one ``in_memory`` if such a model was measured. ``note`` is
    called with a message before a model is loaded: the run names it, and others may have made the
    run. Raises HeadprobeError if the text has no word or exceeds the model's context, if the model
    is not the one that was measured, or if it cannot be loaded.
    """
    model = run.manifest.model
    if model.kind == "memory":
        return _show_in_memory(run, heads, text, in_memory)
    note(f"loading the model that was measured: {model.asked}")
    source = measured_source(run, trust_remote_code)
    dtype = DTYPES.get(model.dtype)
    if dtype is None:
        raise damaged(run, f"model.dtype is {model.dtype}, which no scan uses")
    device = choose_device("auto")
    with quiet_libraries():
        source = resolve_adapter(source)
        config = load_config(source)
        if source.folder is not None:  # weights on the Hub are checked after the download
            check_weights(run, source, config)
        return _run_text(run, source, config, device, dtype, heads, text)


def _show_in_memory(
    run: Run, heads: Sequence[tuple[int, int]], text: str, in_memory: InMemoryModel | None
) -> list[TextView]:
    if in_memory is None:
        raise HeadprobeError(
            str(run.path), "measured a model in memory, which cannot be loaded", REMEDY
        )
    source = CheckpointSource(in_memory.name, in_memory=in_memory)
    with quiet_libraries():
        config, device = load_config(source), in_memory.device("auto")
        check_weights(run, source, config)
        return _run_text(run, source, config, device, in_memory.model.dtype, heads, text)


def _run_text(
    run: Run,
    source: CheckpointSource,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    heads: Sequence[tuple[int, int]],
    text: str,
) -> list[TextView]:
    note = run.manifest.model
    corpus = _align_text(text, load_encoder(source), note.context)
    check_tokens(source.name, config, corpus.token_ids)
    with open_model(source, config, device, dtype, lambda _: None, spread=True) as model:
        if source.kind == "hub":
            check_weights(run, source, config)
        observed = observe_model(model, source.name, torch.from_numpy(corpus.token_ids).long())
        if (len(observed.layers), observed.n_heads) != (note.n_layers, note.n_heads):
            raise damaged(
                run,
                f"it has {note.n_layers} layers of {note.n_heads} heads, and {source.name} "
                f"has {len(observed.layers)} of {observed.n_heads}",
            )
        look = _ShownLayers(observed, {layer for layer, _ in heads})
        batcher = Batcher(corpus, observed.device, observed.n_kv_heads)
        whole = Block(np.array([0]), 0, len(corpus.token_ids))
        run_chunk(observed, batcher, [whole], look)

    instances = corpus.instances
    return [
        TextView(
            name=head_name(layer, head),
            words=tuple(str(instances.forms[form]) for form in instances.form),
            weights=tuple(
                tuple(look.words[layer][word, head, : word + 1].tolist()) if usable else ()
                for word, usable in enumerate(instances.usable)
            ),
            sink=tuple(look.sink[layer][:, head].tolist()),
            usable=tuple(instances.usable.tolist()),
        )
        for layer, head in heads
    ]


def _align_text(text: str, encoder: Encoder, context: int | None) -> Corpus:
    sentence = plain_sentence(text, "--text")
    if not sentence.words:
        raise HeadprobeError("text", "has no word", "Give a sentence")
    document = Document("text", "", (sentence,), "--text", annotated=False)
    skipped: list[Skipped] = []
    room = (context or 1 << 20) - len(encoder.start)
    passages = list(cut_passages(document, encoder.count, room, skipped.append))
    if not passages:
        raise HeadprobeError(
            "--text", f"is longer than the {context} tokens that the model reads", "Shorten it"
        )
    return align(passages, encoder, skipped.append, seed=0)


class _ShownLayers(PassObserver):
    """Keeps the attention of some layers on one text.

    By layer, ``words`` [W, H, W] is the attention to words, ``sink`` [W, H] that to the removed
    sinks.
    """

    def __init__(self, observed: ObservedModel, layers: Collection[int]) -> None:
        self.words: dict[int, Tensor] = {}
        self.sink: dict[int, Tensor] = {}
        self._layers = observed.layers
        self._shown = {observed.layers[layer].module: layer for layer in layers}
        self._chunk: Chunk
        self._layer: int | None = None

    def begin(self, chunk: Chunk) -> None:
        self._chunk = chunk

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._layer = self._shown.get(module)
        if self._layer is not None:
            self._value_norm = self._layers[self._layer].value_norm(value)

    def attended(
        self,
        number: int,
        part: TilePart,  # noqa: ARG002
        weights: Tensor,
        scores: Tensor,
    ) -> None:
        if (layer := self._layer) is not None:
            batch = self._chunk.batches[number]
            view = TorchView(batch, self._layers[layer], weights, scores, self._value_norm)
            self.sink[layer] = view.sink[0].T.cpu()
            # Attention of each word to its own tokens goes on the diagonal.
            itself = torch.diag_embed(view.to_self[0], dim1=0, dim2=2)
            earlier = view.earlier[0].permute(3, 0, 2, 1).flatten(1, 2)
            self.words[layer] = (earlier + itself).cpu()
