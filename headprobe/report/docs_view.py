"""The documentation on screen: the list of topics, and one page of Markdown."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from headprobe.report.layout import LABEL


def draw_topics(topics: Iterable[tuple[str, str]], console: Console) -> None:
    """Print (name, summary) pairs, one line each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("topic", no_wrap=True, overflow="ignore")
    table.add_column("about", overflow="fold")
    for name, summary in topics:
        table.add_row(name, summary)
    console.print(table)
    console.print("\nheadprobe docs TOPIC shows one of them.")


def draw_page(text: str, console: Console) -> None:
    """Print a page: rendered on a terminal, as the Markdown that it is elsewhere."""
    if not console.is_terminal:
        console.out(text, end="", highlight=False)
        return
    from rich.markdown import Markdown
    from rich.theme import Theme

    # rich's own style for code has a black background, which a light terminal shows as boxes.
    theme = Theme({"markdown.code": "cyan", "markdown.code_block": "default"})
    # Links between pages are file names. They mean nothing to a terminal, so their text is enough.
    with console.use_theme(theme):
        console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
