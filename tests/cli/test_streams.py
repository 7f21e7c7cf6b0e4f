"""Exit codes and runs where stdout or stderr cannot be written or is closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import headprobe

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

SCAN = f"{sys.executable} -m headprobe scan -p natural --max-passages 4 --device cpu -o run"


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(headprobe.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
        },
    )


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        ("2>&1 | head -1; exit ${PIPESTATUS[0]}", 0),
        ("2>/dev/full", 0),
        (">&- 2>&-", 2),
    ],
)
def test_a_scan_writes_its_run_with_broken_streams(
    tmp_path: Path, redirected: str, code: int
) -> None:
    done = shell(f"{SCAN} {redirected}", tmp_path)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ``judge`` can judge again, which starts without torch."""
    folder = tmp_path_factory.mktemp("streams") / "run"
    headprobe.scan(probes=["natural"], max_passages=4, device="cpu", out=folder)
    return folder


@pytest.mark.parametrize(
    ("redirected", "message"),
    [
        (">&-", "stdout: cannot be written (Bad file descriptor)"),
        (">/dev/full", "stdout: cannot be written (No space left on device)"),
    ],
)
def test_judge_writes_its_run_if_stdout_is_full(
    measured: Path, tmp_path: Path, redirected: str, message: str
) -> None:
    words = f"{sys.executable} -m headprobe judge {measured} -o run"
    done = shell(f"{words} {redirected}", tmp_path)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(message)


def test_errors_keep_their_exit_code_with_broken_streams(tmp_path: Path) -> None:
    for redirected in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        done = shell(f"{sys.executable} -m headprobe show nowhere {redirected}", tmp_path)
        assert done.returncode == 2


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m headprobe --help | true; exit ${{PIPESTATUS[0]}}"
    done = shell(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    full = shell(f"{sys.executable} -m headprobe --help >/dev/full", tmp_path)
    assert full.returncode == 2 and full.stderr.startswith("stdout: cannot be written")
