"""Paths of the files that come with the package, and of the user's cache."""

import os
from pathlib import Path

from headprobe.errors import HeadprobeError

_PACKAGE = Path(__file__).resolve().parent

DEMO_MODEL = _PACKAGE / "demo" / "model"
"""The bundled demo model, a folder that ``from_pretrained`` can load."""

DOCS = _PACKAGE / "docs"
"""The documentation, one Markdown file per topic."""


CACHE_VARIABLE = "HEADPROBE_CACHE"
"""The environment variable that names the cache folder."""


def cache_folder() -> Path:
    """``$HEADPROBE_CACHE``, else the platform's cache folder for this user."""
    from platformdirs import user_cache_path

    named = os.environ.get(CACHE_VARIABLE)
    try:
        return Path(named).expanduser() if named else user_cache_path("headprobe")
    except RuntimeError:  # the home folder of a user that does not exist
        raise HeadprobeError(CACHE_VARIABLE, "names no folder", "Set it to a folder") from None


def configs_folder() -> Path:
    """Return the packaged configuration: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"
