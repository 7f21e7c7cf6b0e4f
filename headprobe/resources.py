"""Where things lie that come with the package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

DEMO_MODEL = _PACKAGE / "demo" / "model"
"""The demo model, a folder that ``from_pretrained`` loads."""


def configs_folder() -> Path:
    """The packaged configuration: inside the wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


DOCS = _PACKAGE / "docs"
"""The documentation, one Markdown file per topic."""
