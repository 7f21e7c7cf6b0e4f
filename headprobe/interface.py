"""Runs in Python and notebooks: tables, pages and figures, as on the command line.

``headprobe.scan``, ``load``, ``judge``, ``merge`` and ``resume`` return a ``Run`` of this module.
Everything is imported when it is first used, so that ``import headprobe`` stays quick.
"""

import io
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headprobe.config import check_path, python_messages
from headprobe.runs.folder import Run as StoredRun
from headprobe.vocabulary import head_name, parse_head

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import Console

    from headprobe.progress import Progress
    from headprobe.results.views import HeadView

WIDTH = 100
"""Characters of a line in pages that Python prints."""

_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.25;'
    "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\">{code}</pre>"
)


class Page(str):
    """Text that shows itself as a page: as lines in a terminal, in colour in a notebook."""

    html: str

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html


def _page(draw: "Callable[[Console], None]") -> Page:
    """What a function prints."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=WIDTH, record=True, markup=False, emoji=False, highlight=False
    )
    draw(console)
    html = console.export_html(inline_styles=True, code_format=_PRE, clear=False)
    lines = console.export_text().splitlines()
    page = Page("\n".join(line.rstrip() for line in lines))
    page.html = html
    return page


class Run(StoredRun):
    """A run, with what a notebook needs: pages, one head, your own sentence, figures.

    ``heads``, ``claims``, ``relations``, ``domains``, ``power``, ``pairs`` and ``skipped`` are
    pandas DataFrames (``docs/output.md``).
    """

    def summary(self) -> Page:
        """Return the summary of the run, as ``headprobe show`` prints it."""
        from headprobe.commands.show import rule_changes, unearned_roles
        from headprobe.report.summary import draw_summary

        changes, unearned = rule_changes(self), unearned_roles(self)
        return _page(lambda console: draw_summary(self, console, changes, unearned))

    @python_messages
    def head(self, head: str | Sequence[int]) -> "Head":
        """Return one head: ``"L12H5"``, ``"12.5"`` or ``(12, 5)``.

        Raises HeadprobeError if the model has no such head.
        """
        from headprobe.commands.show import show_head

        return Head(self, show_head(self, *parse_head(head)))

    @python_messages
    def attend(
        self,
        head: str | Sequence[int],
        text: str,
        *,
        model: Any = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
    ) -> "pd.DataFrame":
        """Return the attention of one head over a text, word by word.

        Row q and column k hold the raw attention from the last token of word q to all tokens of the
        earlier word k, ``itself`` and ``start`` what goes to word q and to the removed sinks; later
        words are missing. The model that the run measured is loaded, unless it was in memory: then
        give it again with its ``tokenizer``. Raises HeadprobeError if the text holds no word or the
        model is no longer the one that was measured.
        """
        from headprobe.commands.show_text import show_text
        from headprobe.results.views import attention_frame

        in_memory = None
        if model is not None:
            from headprobe.model.in_memory import InMemoryModel

            in_memory = InMemoryModel.of(model, tokenizer)
        layer, number = parse_head(head)
        self.check_head(layer, number)
        view = show_text(self, layer, number, text, trust_remote_code, in_memory)
        return attention_frame(view)

    @python_messages
    def plot_roles(self, size: str = "page") -> "Figure":
        """Return a matplotlib figure of the roles by layer and head.

        ``size`` is ``column``, ``page`` or ``slide``. Raises HeadprobeError if matplotlib is not
        installed.
        """
        from headprobe.commands.show import head_views
        from headprobe.report.figures import RunFigures, draw_roles, named_size

        data = RunFigures(Path(self.manifest.model.asked).name, tuple(head_views(self)))
        return draw_roles(data, named_size(size))

    @python_messages
    def report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the atlas of the run, one self-contained HTML file, and return its path."""
        from headprobe.commands.report import page_target, write_page
        from headprobe.commands.show import head_views, rule_changes
        from headprobe.report.atlas.data import atlas_data
        from headprobe.report.atlas.page import draw_atlas

        check_path(path)
        target = page_target(self, Path(path), overwrite)
        data = atlas_data(self, head_views(self), rule_changes(self))
        write_page(target, draw_atlas(data))
        return target

    def _repr_html_(self) -> str:
        return self.summary().html


class Head:
    """One head of a run: its page, and its numbers as tables."""

    def __init__(self, run: Run, view: "HeadView") -> None:
        self.run = run
        self.view = view

    @property
    def name(self) -> str:
        """``L12H5``."""
        return head_name(self.view.head.whole("layer"), self.view.head.whole("head"))

    @property
    def role(self) -> str:
        """Its strongest role, as in ``heads.csv``."""
        return self.view.head.text("role")

    @property
    def roles(self) -> list[str]:
        """All roles that hold, strongest first."""
        return [role for role in self.view.head.text("roles").split(";") if role]

    @property
    def reason(self) -> str:
        """The numbers that decided its role."""
        return self.view.head.text("reason")

    @cached_property
    def relations(self) -> "pd.DataFrame":
        """Its rows of ``relations.csv``."""
        relations = self.run.relations
        return relations[relations["name"] == self.name].reset_index(drop=True)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """Its example sentences (``examples.jsonl`` in ``docs/output.md``)."""
        return [dict(example) for example in self.view.examples]

    def page(self) -> Page:
        """Return its page, as ``headprobe show-head`` prints it."""
        from headprobe.report.head import draw_head

        return _page(lambda console: draw_head(self.view, console))

    def __repr__(self) -> str:
        return str(self.page())

    def _repr_html_(self) -> str:
        return self.page().html


def progress_of(given: "Progress | None") -> "Progress":
    """Return the progress that was given, or by default a bar in a notebook, and else one that
    shows nothing but warnings. TypeError for what is no ``Progress``."""
    from headprobe.progress import NotebookProgress, SilentProgress, is_notebook

    if given is None:
        return NotebookProgress() if is_notebook() else SilentProgress()
    if not callable(getattr(given, "stage", None)):
        raise TypeError(f"progress must be a headprobe.progress.Progress, not {type(given)}")
    return given
