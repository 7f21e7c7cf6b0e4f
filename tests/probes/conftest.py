"""Small probe files, and the real treebanks where they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headprobe.probes.file import ProbeFile
from headprobe.vocabulary import Skipped

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., ProbeFile]:
    """Writes a probe file; in CoNLL-U text ``|`` between spaces stands for a tab."""

    def writing(text: str | bytes, name: str = "set.conllu") -> ProbeFile:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            text = (text.replace(" | ", "\t") if name.endswith(".conllu") else text).encode()
        path.write_bytes(text)
        return ProbeFile(path, name)

    return writing


@pytest.fixture
def notes() -> list[Skipped]:
    return []


@pytest.fixture(
    scope="module",
    params=[
        "ud_english_gum/en_gum-ud-dev.conllu",
        "ud_english_ewt/en_ewt-ud-dev.conllu",
        "ud_french_gsd/fr_gsd-ud-dev.conllu",
        "ud_chinese_gsdsimp/zh_gsdsimp-ud-dev.conllu",
    ],
    ids=lambda name: name.split("/")[0],
)
def treebank(request: pytest.FixtureRequest) -> ProbeFile:
    return shared_file(f"treebanks/{request.param}")


@pytest.fixture
def gum() -> ProbeFile:
    return shared_file("treebanks/ud_english_gum/en_gum-ud-dev.conllu")


def shared_file(name: str) -> ProbeFile:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"../shared/{name} is not here")
    return ProbeFile(path, path.name)
