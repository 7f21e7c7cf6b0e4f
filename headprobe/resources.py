"""Paths of the files that come with the package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

DEMO_MODEL = _PACKAGE / "demo" / "model"
"""The bundled demo model, a folder that ``from_pretrained`` can load."""

DOCS = _PACKAGE / "docs"
"""The documentation, one Markdown file per topic."""


def configs_folder() -> Path:
    """Return the packaged configuration: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"
