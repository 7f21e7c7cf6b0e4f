"""Everything a training run is told, checked and kept beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from headprobe.errors import HeadprobeError

# What a resumed run must share with its beginning; the budget and the paths may change.
FIXED = ("seed", "rate", "embedding_rate", "extra_share", "repeat_short", "long_from",
         "tokens_per_step", "pieces")  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The budget (minutes or tokens), text and learning rates of a training run."""

    corpora: tuple[Path, ...]
    out: Path
    extra: tuple[Path, ...] = ()
    held_out: Path | None = None
    minutes: float | None = None
    tokens: int | None = None
    seed: int = 0
    rate: float = 6e-3
    embedding_rate: float = 4e-3
    extra_share: float = 0.5
    repeat_short: int = 2
    long_from: float = 0.7
    tokens_per_step: int = 8192
    pieces: int = 4096
    save_seconds: float = 120.0
    report_steps: int = 200
    compiled: bool = True

    def check(self) -> None:
        """Refuse what cannot be trained, in one line."""
        if not self.corpora:
            raise HeadprobeError("CORPUS", "no corpus given", "Name a text file to train on")
        if (self.minutes is None) == (self.tokens is None):
            raise HeadprobeError(
                "--minutes/--tokens", "exactly one budget is needed", "Give one of the two"
            )
        if (self.minutes or self.tokens or 0) <= 0:
            raise HeadprobeError("--minutes/--tokens", "not above zero", "Give a larger budget")
        if self.tokens_per_step < 512 or self.tokens_per_step % 512:
            raise HeadprobeError(
                "--tokens-per-step", "not a multiple of 512, the context", "Give 8192, say"
            )
        if not 300 <= self.pieces <= 65535:
            raise HeadprobeError("--pieces", "not in 300 to 65,535", "Give 4096, say")

    def fraction(self, seconds: float, tokens: int) -> float:
        """How much of the budget is spent, 0 to 1 (and above)."""
        if self.minutes is not None:
            return seconds / (60.0 * self.minutes)
        return tokens / float(self.tokens or 1)

    def keep(self) -> None:
        """Write the settings that resuming must share to `settings.json`."""
        fixed = {name: value for name, value in asdict(self).items() if name in FIXED}
        (self.out / "settings.json").write_text(json.dumps(fixed, indent=1) + "\n", "utf-8")

    def compare_with_kept(self) -> None:
        """Refuse to resume a run under other settings than it began with."""
        path = self.out / "settings.json"
        try:
            kept = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise HeadprobeError(
                str(path), "cannot be read", "Start afresh in another folder"
            ) from error
        for name in FIXED:
            mine = getattr(self, name)
            if kept.get(name) != mine:
                raise HeadprobeError(
                    f"--{name.replace('_', '-')}",
                    f"is {mine}, but this run began with {kept.get(name)}",
                    "Resume with the same settings or start in another folder",
                )
