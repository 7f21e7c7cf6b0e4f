"""One training run: its model, optimisers and text, a step, and a state that survives a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from headprobe.demo.architecture import CONTEXT, build_model, demo_config
from headprobe.demo.corpus import IGNORED, Stream, TokenisedCorpus
from headprobe.demo.schedule import rate_factor, sequence_length
from headprobe.demo.settings import Settings

HELD_OUT_ROWS, HELD_OUT_BATCHES = 32, 4


@dataclass
class Text:
    """The tokenised text of a run."""

    tokenizer: Tokenizer
    main: TokenisedCorpus
    others: tuple[tuple[TokenisedCorpus, float], ...]
    held_out: TokenisedCorpus


class Trainer:
    """Weights, optimisers and data position of a run; `step` moves all three on."""

    def __init__(self, settings: Settings, text: Text) -> None:
        self.settings, self.text = settings, text
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(settings.seed)
        self.vocabulary = text.tokenizer.get_vocab_size()
        self.model = build_model(demo_config(self.vocabulary), self.device)
        self.stream = Stream(text.main, text.others, settings.repeat_short, settings.seed)
        named = dict(self.model.named_parameters())
        inner = {name: p for name, p in named.items() if p.ndim == 2 and "embed" not in name}
        self.matrices = list(inner.values())
        self.others = [p for name, p in named.items() if name not in inner]
        # The learning rate means the same as AdamW's (Liu et al. 2025, arXiv:2502.16982)
        self.muon = torch.optim.Muon(
            self.matrices, lr=settings.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.AdamW(
            self.others, lr=settings.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.steps = self.tokens = 0
        self.loss_sum, self.loss_count = 0.0, 0
        self._loss = torch.compile(self._run, dynamic=False) if settings.compiled else self._run
        held = Stream(text.held_out, (), 1, seed=1)
        self._held = [held.next(HELD_OUT_ROWS, CONTEXT // 2) for _ in range(HELD_OUT_BATCHES)]
        rows = [row[row != IGNORED].tolist() for batch in self._held for row in batch]
        self._held_characters = sum(len(one) for one in text.tokenizer.decode_batch(rows))

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16)

    def _run(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, in nats, of tokens [B, T] with targets [B, T - 1]."""
        hidden = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state
        scores = functional.linear(hidden[:, :-1], self.model.lm_head.weight).flatten(0, 1).float()
        return functional.cross_entropy(scores, targets.flatten(), ignore_index=IGNORED)

    def step(self, fraction: float) -> None:
        """One optimiser step; `fraction` of the budget is spent."""
        kept = self.settings
        length = sequence_length(fraction, CONTEXT, kept.long_from)
        tokens = torch.from_numpy(self.stream.next(kept.tokens_per_step // length, length))
        count = int((tokens != IGNORED).sum())
        tokens = tokens.to(self.device)
        factor = rate_factor(fraction)
        self.muon.param_groups[0]["lr"] = kept.rate * factor
        self.adam.param_groups[0]["lr"] = kept.embedding_rate * factor
        with self._autocast():
            loss = self._loss(tokens.clamp(min=0), tokens[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(self.others, 1.0)
        optimisers: tuple[torch.optim.Optimizer, ...] = (self.muon, self.adam)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        self.tokens += count
        self.loss_sum += loss.item()
        self.loss_count += 1

    def mean_loss(self) -> float:
        """Mean training loss in nats per token since the last call (nan at the beginning)."""
        mean = self.loss_sum / self.loss_count if self.loss_count else math.nan
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Bits per character on a fixed sample of the held-out text."""
        nats = 0.0
        for batch in self._held:
            tokens = torch.from_numpy(batch).to(self.device)
            targets = tokens[:, 1:].contiguous()
            with self._autocast():
                loss = self._loss(tokens.clamp(min=0), targets)
            nats += loss.item() * int((targets != IGNORED).sum())
        return nats / math.log(2) / self._held_characters

    def _slots(self) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Parameter]]:
        for number, matrix in enumerate(self.matrices):
            yield f"muon.{number}", self.muon, matrix
        for number, other in enumerate(self.others):
            yield f"adam.{number}", self.adam, other

    def save(self, path: Path, seconds: float) -> None:
        """Write the whole state to `path` in one rename: a kill leaves the old or the new one."""
        tensors = {f"model.{name}": p.detach() for name, p in self.model.named_parameters()}
        tensors["random"] = torch.get_rng_state()
        for slot, optimiser, parameter in self._slots():
            for key, value in optimiser.state[parameter].items():
                tensors[f"{slot}.{key}"] = torch.as_tensor(value)
        counters = {
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": seconds,
            "epoch": self.stream.epoch,
            "cursor": self.stream.cursor,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }
        part = path.with_suffix(".part")
        save_file(tensors, part, {"counters": json.dumps(counters)})
        part.replace(path)

    def restore(self, path: Path) -> float:
        """Take up the state at `path`; the seconds already spent."""
        with safe_open(path, "pt") as file:
            counters = json.loads(file.metadata()["counters"])
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(kept[f"model.{name}"])
        torch.set_rng_state(kept["random"])
        for slot, optimiser, parameter in self._slots():
            start = slot + "."
            optimiser.state[parameter] = {
                name.removeprefix(start): value.to(parameter.device) if value.ndim else value
                for name, value in kept.items()
                if name.startswith(start)
            }
        self.steps, self.tokens = counters["steps"], counters["tokens"]
        self.stream.epoch, self.stream.cursor = counters["epoch"], counters["cursor"]
        self.loss_sum, self.loss_count = counters["loss_sum"], counters["loss_count"]
        return float(counters["seconds"])
