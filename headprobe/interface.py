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
from headprobe.errors import HeadprobeError
from headprobe.runs.folder import Run as StoredRun
from headprobe.vocabulary import head_name, parse_head

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import Console

    from headprobe.commands.prune import PruneResult
    from headprobe.model.in_memory import InMemoryModel
    from headprobe.progress import Progress
    from headprobe.results.comparison import Comparison as ComparedRuns
    from headprobe.results.trace import Trace as TracedSteps
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

        in_memory = _in_memory(model, tokenizer)
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
    def report(
        self,
        path: str | os.PathLike[str],
        *,
        compare: "str | os.PathLike[str] | StoredRun | None" = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the atlas of the run, one self-contained HTML file, and return its path.

        ``compare`` is another run that the page shows beside this one.
        """
        from headprobe.commands.compare import compare_runs
        from headprobe.commands.report import page_target, write_page
        from headprobe.commands.show import head_views, rule_changes
        from headprobe.report.atlas.data import atlas_data
        from headprobe.report.atlas.page import draw_atlas
        from headprobe.report.atlas.views import comparison_data

        check_path(path)
        target, added = page_target(self, Path(path), overwrite), {}
        if compare is not None:
            other = compare if isinstance(compare, StoredRun) else StoredRun.load(Path(compare))
            added = comparison_data(compare_runs(self, other))
        data = atlas_data(self, head_views(self), rule_changes(self), added)
        write_page(target, draw_atlas(data))
        return target

    @python_messages
    def ablate(
        self,
        heads: str | Sequence[str] = (),
        *,
        each: bool = False,
        by: str = "mean",
        sets: int = 99,
        role: str | None = None,
        pairs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        tokens: int | None = None,
        resume: bool = False,
        model: Any = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        progress: "Progress | None" = None,
    ) -> "pd.DataFrame":
        """Replace the outputs of heads and return what the model loses, as ``headprobe ablate``.

        ``heads`` are ``"L12H5"``, ``"role:coreference"``, ``"cluster:3"`` or ``"group:L3G1"``, one
        or several; heads that are named together are ablated together. With ``each``, every head is
        ablated by itself. ``by`` is ``mean``, ``zero``, ``resample`` or ``uniform``, ``sets`` the
        number of random sets of each kind, ``role`` the role whose relations are the heads' labels
        (by default all of theirs), and ``pairs`` names files of minimal pairs. The rows are also
        written to ``ablation.csv``. A run of a model in memory needs ``model`` and
        ``tokenizer`` again. Raises HeadprobeError for errors that the user can correct.
        """
        from headprobe.commands.ablate import (
            AblationOptions,
            ablate,
            check_replacement,
            choose_sets,
            prepare_ablation,
        )

        named = [heads] if isinstance(heads, str) else list(heads)
        files = [pairs] if isinstance(pairs, str | os.PathLike) else list(pairs)
        options = AblationOptions.of(
            each,
            by=check_replacement(by),
            null_count=sets,
            pairs=[Path(file) for file in files],
            tokens=tokens,
        )
        shown = progress_of(progress)
        prepared = prepare_ablation(
            self,
            choose_sets(self, named, each, role),
            options,
            shown,
            trust_remote_code=trust_remote_code,
            in_memory=_in_memory(model, tokenizer),
        )
        table = ablate(prepared, shown, resume=resume)
        self.__dict__.pop("ablation", None)  # the cached table
        return table

    @python_messages
    def takeover(
        self,
        heads: str | Sequence[str] = (),
        *,
        tokens: int = 4_000,
        model: Any = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        progress: "Progress | None" = None,
    ) -> "pd.DataFrame":
        """Test whether other heads take over from ablated ones, as ``headprobe takeover`` does.

        ``heads`` are named as in ``ablate``; by default they are the leaders of clusters of
        repeaters and the heads that matter most. The rows are also written to ``takeover.csv``. A
        run of a model in memory needs ``model`` and ``tokenizer`` again. Raises HeadprobeError for
        errors that the user can correct.
        """
        from headprobe.commands.takeover import takeover

        table = takeover(
            self,
            [heads] if isinstance(heads, str) else list(heads),
            progress_of(progress),
            tokens=tokens,
            trust_remote_code=trust_remote_code,
            in_memory=_in_memory(model, tokenizer),
        )
        self.__dict__.pop("takeovers", None)  # the cached table
        return table

    @python_messages
    def prune(
        self,
        *,
        groups: int | None = None,
        max_loss: float | None = None,
        apply: str | os.PathLike[str] | None = None,
        mask: str | os.PathLike[str] | None = None,
        save: str | os.PathLike[str] | None = None,
        by: str | None = None,
        sets: int = 5,
        tokens: int = 4_000,
        overwrite: bool = False,
        trust_remote_code: bool = False,
        progress: "Progress | None" = None,
    ) -> "PruneResult":
        """Say which heads can go, and save the model without them, as ``headprobe prune`` does.

        The result's ``heads``, ``groups`` and ``losses`` are DataFrames, its ``mask`` says what
        goes, and ``saved`` describes the checkpoint. A model in memory must be saved and scanned
        first. Raises HeadprobeError for errors that the user can correct.
        """
        from headprobe.commands.prune import PruneOptions, prune

        options = PruneOptions(
            groups=groups,
            max_loss=max_loss,
            apply=None if apply is None else Path(apply),
            mask=None if mask is None else Path(mask),
            save=None if save is None else Path(save),
            by=by,
            sets=sets,
            tokens=tokens,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
        )
        return prune(self, options, progress_of(progress))

    def _repr_html_(self) -> str:
        return self.summary().html


def _in_memory(model: Any, tokenizer: Any) -> "InMemoryModel | None":
    if model is None:
        return None
    from headprobe.model.in_memory import InMemoryModel

    return InMemoryModel.of(model, tokenizer)


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


class Comparison:
    """Two runs, head by head: what ``headprobe.compare`` returns."""

    def __init__(self, comparison: "ComparedRuns") -> None:
        self.comparison = comparison

    @cached_property
    def heads(self) -> "pd.DataFrame":
        """One row per head of the first run (``compare.csv`` in ``docs/output.md``)."""
        from headprobe.results.comparison import comparison_table

        return comparison_table(self.comparison)

    def summary(self) -> Page:
        """Return the comparison as ``headprobe compare`` prints it."""
        from headprobe.report.comparison import draw_comparison

        return _page(lambda console: draw_comparison(self.comparison, console))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary().html


class Trace:
    """The checkpoints of a training: what ``headprobe.trace`` and ``load_trace`` return."""

    def __init__(self, trace: "TracedSteps") -> None:
        self.trace = trace
        self.path = trace.path

    @cached_property
    def _tables(self) -> "dict[str, pd.DataFrame]":
        from headprobe.results.trace import trace_tables

        return trace_tables(self.trace)

    @property
    def roles(self) -> "pd.DataFrame":
        """One row per step, head and role (``trace.csv`` in ``docs/output.md``)."""
        from headprobe.results.trace import TRACE

        return self._tables[TRACE]

    @property
    def onsets(self) -> "pd.DataFrame":
        """One row per onset or end of a head's role (``onsets.csv``)."""
        from headprobe.results.trace import ONSETS

        return self._tables[ONSETS]

    @property
    def steps(self) -> "pd.DataFrame":
        """One row per step (``steps.csv``)."""
        from headprobe.results.trace import STEPS

        return self._tables[STEPS]

    @python_messages
    def run(self, step: int) -> Run:
        """Return the run of one step. Raises HeadprobeError if it was not measured."""
        for each in self.trace.steps:
            if each.step == step:
                return Run.load(each.run)
        steps = ", ".join(f"{each.step}" for each in self.trace.steps)
        raise HeadprobeError(f"step {step}", "is not in the trace", f"Name one of {steps}")

    def summary(self) -> Page:
        """Return the trace as ``headprobe trace`` prints it."""
        from headprobe.report.trace import draw_trace

        return _page(lambda console: draw_trace(self.trace, console))

    @python_messages
    def plot(self, size: str = "page") -> "dict[str, Figure]":
        """Return matplotlib figures by name: the number of heads with each role, and the loss.

        ``size`` is ``column``, ``page`` or ``slide``. Raises HeadprobeError if matplotlib is not
        installed.
        """
        from headprobe.report.figures import named_size, trace_figures

        return dict(trace_figures(self.trace, named_size(size)))

    @python_messages
    def report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the atlas of the last step, with a slider over all steps, and return its path."""
        from headprobe.commands.report import page_target, write_page
        from headprobe.commands.show import head_views, rule_changes
        from headprobe.report.atlas.data import atlas_data
        from headprobe.report.atlas.page import draw_atlas
        from headprobe.report.atlas.views import trace_data

        check_path(path)
        last = self.run(self.trace.counted[-1].step)
        target = page_target(last, Path(path), overwrite)
        data = atlas_data(last, head_views(last), rule_changes(last), trace_data(self.trace))
        write_page(target, draw_atlas(data))
        return target

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary().html


def progress_of(given: "Progress | None") -> "Progress":
    """Return the progress that was given, or by default a bar in a notebook, and else one that
    shows nothing but warnings. TypeError for what is no ``Progress``."""
    from headprobe.progress import NotebookProgress, SilentProgress, is_notebook

    if given is None:
        return NotebookProgress() if is_notebook() else SilentProgress()
    if not callable(getattr(given, "stage", None)):
        raise TypeError(f"progress must be a headprobe.progress.Progress, not {type(given)}")
    return given
