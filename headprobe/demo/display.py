"""The progress of training the demo model on stderr: a bar on terminals, log lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft


class Display:
    """A progress bar with a text, and log lines; a context manager that ends the bar."""

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
        """Set the bar to a fraction from 0 to 1 and its text; does nothing without a terminal."""
        if self._bar is not None:
            self._bar.update(self._task, completed=min(fraction, 1.0), description=words)

    def line(self, words: str) -> None:
        """Print a line with the time of day."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {words}")
