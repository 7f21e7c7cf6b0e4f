"""A progress bar with rate and time left, gone when its stage is done."""

from typing import TextIO

from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from headprobe.report.console import console
from headprobe.report.numbers import duration
from headprobe.report.palette import LABEL
from headprobe.report.plain import plain


class _Amount(TextColumn):
    """``212/400 passages   31/s   0:06 left``, as far as it is known."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        scale = 1.0
        if unit == "bytes":
            scale, unit = (1e6, "MB") if (task.total or 0) >= 1e6 else (1e3, "kB")
        done = f"{task.completed / scale:,.0f}" if task.completed else ""
        if task.total is not None:
            done = f"{task.completed / scale:,.0f} of {task.total / scale:,.0f}"
        done = f"{done} {unit}" if done else ""
        speed = (task.speed or 0) / scale
        rate = f"{speed:,.{0 if speed >= 10 else 1}f}/s" if speed else ""
        left = f"{duration(task.time_remaining)} left" if task.time_remaining else ""
        elapsed = "" if left or not task.elapsed else duration(task.elapsed)
        return Text("   ".join(filter(None, (done.strip(), rate, left, elapsed))), style=LABEL)


class LiveProgress:
    """On a terminal: one line for the stage at work; nothing remains but warnings."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console(stream)
        self._bar: Bar | None = None

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.finish()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Amount(),
            console=self._console,
            transient=True,
        )
        self._bar.add_task(plain(name), total=total, unit=plain(unit))
        self._bar.start()

    def advance(self, n: int = 1) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], n)

    def warn(self, text: str) -> None:
        self._console.print(Text.assemble(("warning: ", "bold yellow"), plain(text)))

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
