"""A wheel and an sdist are built; the wheel, installed alone, does what a user types first."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("packaging")  # built once

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, made without network."""
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], REPOSITORY)
    return folder


def _run(words: list[str], folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**environment, "COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_sdist_holds_sources_and_data(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "headprobe/py.typed",
        "headprobe/demo/model/model.safetensors",
        "configs/roles.yaml",
        "tests/data/tiny.conllu",
    }


def test_the_wheel_works_in_a_bare_environment(built: Path, tmp_path: Path) -> None:
    """Dependencies come from this environment by a path file; headprobe comes from the wheel."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"headprobe/py.typed", "headprobe/configs/roles.yaml"} <= names
    assert not any(name.startswith("tests/") for name in names)
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    _run([*pip, "install", "--no-index", "--no-deps", "--no-compile", str(wheel)], tmp_path)
    (packages,) = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    site = sysconfig.get_path("purelib")
    (packages / "dependencies.pth").write_text(f"{site}\n", encoding="utf-8")
    headprobe = str(tmp_path / "bare" / "bin" / "headprobe")
    place = _run([str(python), "-c", "import headprobe; print(headprobe.__file__)"], tmp_path)
    assert Path(place.strip()).is_relative_to(packages)
    assert "scan" in _run([headprobe, "--help"], tmp_path)
    listed = _run([headprobe, "probes"], tmp_path)
    assert all(name in listed for name in ("dialogue", "natural", "news", "story"))
    # reads the demo model, the probe sets and the rules of the wheel
    words = [headprobe, "scan", "-p", "natural", "--max-passages", "4", "--device", "cpu"]
    assert "roles by layer" in _run([*words, "-o", "run"], tmp_path)
    assert "L0H0" in _run([headprobe, "show-head", "L0H0", "-r", "run"], tmp_path)
