"""``show-head --text``: one head of a run's model on a text that the user typed."""

import numpy as np
import torch
from torch import Tensor, nn

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.corpus import Corpus, align
from headprobe.align.encoder import Encoder
from headprobe.align.flat import Block
from headprobe.axes import head_name
from headprobe.errors import HeadprobeError
from headprobe.model.attention import Part
from headprobe.model.checkpoint import (
    Source,
    check_tokens,
    choose_device,
    load_config,
    load_encoder,
    load_model,
    quietly,
)
from headprobe.model.forward import run_chunk
from headprobe.model.heads import HeadGrid, observe_heads
from headprobe.probes.document import Document
from headprobe.probes.passages import cut
from headprobe.probes.plain_words import plain_sentence
from headprobe.report.text_view import TextView
from headprobe.store.run_folder import Run
from headprobe.store.skipped import Skipped
from headprobe.tally.tensors import TensorView


def show_text(
    run: Run, layer: int, head: int, text: str, trust_remote_code: bool = False
) -> TextView:
    """Load the model that the run measured and show what the head does on ``text``.

    HeadprobeError where the text holds no word or does not fit the model's context, and for what
    keeps a checkpoint from loading.
    """
    note = run.manifest.model
    source = Source(
        note.asked,
        revision=note.revision if note.kind in ("hub", "gguf") else None,
        trust_remote_code=trust_remote_code,
        bundled=note.kind == "bundled",
        gguf=note.gguf,
    )
    device = choose_device("auto")
    with quietly():
        config = load_config(source)
        corpus = _align_text(text, load_encoder(source), note.context)
        check_tokens(source.name, config, corpus.token_ids)
        dtype = getattr(torch, note.dtype)
        model = load_model(source, config, device, dtype, lambda _: None, spread=True)
        grid = observe_heads(model, source.name, torch.from_numpy(corpus.token_ids).long())
    look = _Look(grid, layer)
    batcher = Batcher(corpus, grid.device, grid.n_kv_heads)
    whole = Block(np.array([0]), 0, len(corpus.token_ids))
    run_chunk(grid, batcher, [whole], look)

    found = corpus.instances
    return TextView(
        name=head_name(layer, head),
        words=tuple(str(found.forms[form]) for form in found.form),
        weights=tuple(
            tuple(look.words[word, head, : word + 1].tolist()) if usable else ()
            for word, usable in enumerate(found.usable)
        ),
        sink=tuple(look.sink[:, head].tolist()),
        usable=tuple(found.usable.tolist()),
    )


def _align_text(text: str, encoder: Encoder, context: int | None) -> Corpus:
    sentence = plain_sentence(text, "--text")
    if not sentence.words:
        raise HeadprobeError("--text", "holds no word", "Give a sentence")
    document = Document("text", "", (sentence,), "--text", annotated=False)
    skipped: list[Skipped] = []
    room = (context or 1 << 20) - len(encoder.start)
    passages = list(cut(document, encoder.count, room, skipped.append))
    if not passages:
        raise HeadprobeError(
            "--text", f"is longer than the {context} tokens that the model reads", "Shorten it"
        )
    return align(passages, encoder, skipped.append, seed=0)


class _Look:
    """Keeps one layer's attention on one text: to words [W, H, W] and to the sinks [W, H]."""

    words: Tensor
    sink: Tensor
    at_once: int | None = None

    def __init__(self, grid: HeadGrid, layer: int) -> None:
        self._layer = grid.layers[layer]
        self._chunk: Chunk

    def begin(self, chunk: Chunk) -> None:
        self._chunk = chunk

    def residual(self, layer: int, hidden: Tensor) -> None:
        """Of no interest here."""

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._asked = module is self._layer.module
        self._loudness = self._layer.loudness(value)

    def attended(
        self,
        number: int,
        part: Part,  # noqa: ARG002
        weights: Tensor,
        scores: Tensor,
    ) -> None:
        if self._asked:
            batch = self._chunk.batches[number]
            view = TensorView(batch, self._layer, weights, scores, self._loudness)
            self.sink = view.sink[0].T.cpu()
            # the same words: each word's own attention stands on the diagonal
            itself = torch.diag_embed(view.to_self[0], dim1=0, dim2=2)
            earlier = view.earlier[0].permute(3, 0, 2, 1).flatten(1, 2)
            self.words = (earlier + itself).cpu()

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        """Of no interest here."""

    def end(self) -> None:
        """Nothing spans layers."""
