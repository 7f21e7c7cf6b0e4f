"""What the bundled probe sets' words carry, read once."""

import pytest

from headprobe.planted.words import Lexeme, read_lexicon
from headprobe.probes.catalog import find_probe_files


@pytest.fixture(scope="session")
def lexicon() -> list[Lexeme]:
    return read_lexicon(find_probe_files(()))
