"""How a run shows itself: a live bar in a terminal, plain log lines elsewhere (on stderr)."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft


class Display:
    """Shows rate, losses and time left; `with Display() as display`."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeLeft(),
                console=self.console,
            )
            self._task = self._bar.add_task("preparing", total=1.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tick(self, fraction: float, words: str) -> None:
        """Move the bar; silent without a terminal."""
        if self._bar is not None:
            self._bar.update(self._task, completed=min(fraction, 1.0), description=words)

    def line(self, words: str) -> None:
        """One lasting line."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {words}")
