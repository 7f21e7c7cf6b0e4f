"""What becomes of a scan whose output nobody takes: true exit codes, and the run is there."""

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
    ("redirected", "code", "said"),
    [
        ("2>&1 | head -1; exit ${PIPESTATUS[0]}", 0, ""),
        (">&-", 2, "stdout: cannot be written (Bad file descriptor)"),
        (">/dev/full", 2, "stdout: cannot be written (No space left on device)"),
        ("2>/dev/full", 0, ""),
        (">&- 2>&-", 2, ""),
    ],
)
def test_a_run_is_written_though_nobody_takes_what_is_said(
    tmp_path: Path, redirected: str, code: int, said: str
) -> None:
    done = shell(f"{SCAN} {redirected}", tmp_path)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert "Traceback" not in done.stderr
    if said:
        assert done.stderr.splitlines()[-1].startswith(said)


def test_an_error_stays_one(tmp_path: Path) -> None:
    for redirected in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        done = shell(f"{sys.executable} -m headprobe show nowhere {redirected}", tmp_path)
        assert done.returncode == 2


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m headprobe --help | true; exit ${{PIPESTATUS[0]}}"
    done = shell(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    full = shell(f"{sys.executable} -m headprobe --help >/dev/full", tmp_path)
    assert full.returncode == 2 and full.stderr.startswith("stdout: cannot be written")
