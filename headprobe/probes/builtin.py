"""The probe sets that come with the program."""

from collections.abc import Container
from pathlib import Path

from headprobe.packaged import configs_folder


def builtin_files(suffixes: Container[str]) -> dict[str, Path]:
    """Built-in probe set -> its file, by name; ``suffixes`` are those that can be read."""
    folder = configs_folder() / "probes"
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}
