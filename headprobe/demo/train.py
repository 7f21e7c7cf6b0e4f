"""Train the demo model: `python -m headprobe.demo.train CORPUS --out DIR --minutes 90`.

DIR receives `checkpoints/step-000000/` and so on (plain `from_pretrained` folders), `loss.csv`,
`state.safetensors` (for --resume) and, at the end, `final/` with a model card.
"""

from __future__ import annotations

import csv
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from transformers.utils import logging

from headprobe.demo.architecture import save_model
from headprobe.demo.card import write_card
from headprobe.demo.display import Display
from headprobe.demo.schedule import is_checkpoint_step
from headprobe.demo.settings import Settings
from headprobe.demo.text import prepare_text
from headprobe.demo.trainer import Trainer
from headprobe.errors import HeadprobeError

COLUMNS = ("step", "tokens", "seconds", "train_loss", "held_out_bits_per_character")


def rewind_losses(path: Path, steps: int) -> int:
    """Drop the rows of `loss.csv` beyond step `steps`; the last step it still holds, or -1."""
    kept: list[list[str]] = []
    if path.is_file() and steps > 0:
        with path.open(encoding="utf-8", newline="") as lines:
            kept = [row for row in list(csv.reader(lines))[1:] if int(row[0]) <= steps]
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([COLUMNS, *kept])
    part.replace(path)
    return int(kept[-1][0]) if kept else -1


def append_losses(path: Path, *row: object) -> None:
    """One row of `loss.csv`, on disk when this returns."""
    with path.open("a", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerow(row)


def train(settings: Settings, display: Display, *, resume: bool = False, command: str = "") -> Path:
    """Train to the end of the budget; the folder of the final model.

    Raises HeadprobeError for settings or files that cannot be used.
    """
    settings.check()
    out = settings.out
    state, losses = out / "state.safetensors", out / "loss.csv"
    if state.is_file() and not resume:
        raise HeadprobeError(
            str(out), "holds a run that has begun", "Add --resume or give another folder"
        )
    if resume and not state.is_file():
        raise HeadprobeError(str(out), "holds no run to resume", "Leave --resume out")
    if resume:
        settings.compare_with_kept()
    out.mkdir(parents=True, exist_ok=True)
    settings.keep()
    trainer = Trainer(settings, prepare_text(settings, display.line))
    spent = trainer.restore(state) if resume else 0.0
    reported = rewind_losses(losses, trainer.steps)
    began = saved = time.monotonic()
    bits = float("nan")
    while True:
        now = time.monotonic()
        seconds = spent + now - began
        fraction = settings.fraction(seconds, trainer.tokens)
        if is_checkpoint_step(trainer.steps):
            folder = out / "checkpoints" / f"step-{trainer.steps:06d}"
            save_model(trainer.model, trainer.text.tokenizer, folder)
        due = trainer.steps % settings.report_steps == 0 and trainer.steps != reported
        if due or fraction >= 1.0:
            bits, mean = trainer.held_out_loss(), trainer.mean_loss()
            append_losses(
                losses, trainer.steps, trainer.tokens, round(seconds), f"{mean:.4f}", f"{bits:.4f}"
            )
            display.line(
                f"step {trainer.steps:,} · {trainer.tokens:,} tokens · {fraction:.1%} · "
                f"train loss {mean:.3f} · held out {bits:.4f} bits per character"
            )
        if fraction >= 1.0:
            break
        if now - saved > settings.save_seconds or trainer.steps == 0:
            trainer.save(state, seconds)
            saved = now
        trainer.step(fraction)
        rate = trainer.tokens / max(spent + time.monotonic() - began, 1e-9)
        display.tick(fraction, f"step {trainer.steps:,} · {rate:,.0f} tokens/s · {bits:.3f} bits")
    trainer.save(state, seconds)
    final = out / "final"
    save_model(trainer.model, trainer.text.tokenizer, final)
    shutil.copyfile(losses, final / "loss.csv")
    write_card(
        final / "README.md",
        settings,
        trainer.model,
        trainer.text.tokenizer,
        command=command,
        steps=trainer.steps,
        tokens=trainer.tokens,
        seconds=seconds,
        bits=bits,
    )
    return final


def spoken_command() -> str:
    """The command as typed, with files and folders by their names only."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python -m headprobe.demo.train", *words])


def command_line(
    corpus: Annotated[list[Path], typer.Argument(help="Text files (.txt, .txt.xz).")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    minutes: Annotated[float | None, typer.Option(help="Train this long.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Train on this many tokens.")] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="Text to mix in.")] = None,
    extra_share: Annotated[float, typer.Option(help="Extra spans per main span.")] = 0.5,
    held_out: Annotated[Path | None, typer.Option(help="Text for the held-out loss.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where DIR stopped.")] = False,
    rate: Annotated[float, typer.Option(help="Learning rate of the matrices.")] = 6e-3,
    embedding_rate: Annotated[float, typer.Option(help="... of embeddings, norms.")] = 4e-3,
    long_from: Annotated[float, typer.Option(help="Full context from this fraction on.")] = 0.7,
    tokens_per_step: Annotated[int, typer.Option(help="Tokens of one batch.")] = 8192,
    pieces: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 4096,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
) -> None:
    """Train the demo model from text and save its checkpoints, loss curve and model card."""
    settings = Settings(
        corpora=tuple(corpus),
        out=out,
        extra=tuple(extra or ()),
        held_out=held_out,
        minutes=minutes,
        tokens=tokens,
        seed=seed,
        rate=rate,
        embedding_rate=embedding_rate,
        extra_share=extra_share,
        long_from=long_from,
        tokens_per_step=tokens_per_step,
        pieces=pieces,
        compiled=compiled,
    )
    logging.disable_progress_bar()
    try:
        with Display() as display:
            final = train(settings, display, resume=resume, command=spoken_command())
            display.line(f"done: {final}")
    except HeadprobeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(command_line)
