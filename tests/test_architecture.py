"""The house keeps its shape (imports run down only), and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "headprobe"
LINES = 600

GROUND = {"errors", "axes", "packaged"}
STORE = {"store", *GROUND}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "store": STORE,
    "probes": {"probes", *STORE},
    "align": {"align", "probes", *STORE},
    "model": {"model", "align", "probes", *STORE},
    "planted": {"planted", "probes", *STORE},
    "tally": {"tally", "model", "align", "probes", *STORE},
    "evidence": {"evidence", *STORE},
    "verdicts": {"verdicts", "evidence", *STORE},
    "report": {"report", "verdicts", "evidence", *STORE},
}
WINGS = set(MAY_IMPORT)
MAY_IMPORT["workflows"] = {"workflows", *WINGS}
MAY_IMPORT["cli"] = {"cli", "workflows", "report", *STORE}
MAY_IMPORT["demo"] = {"demo", *GROUND}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """The parts of the package that a module imports, at its top or inside."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    parts = [name.split(".") for name in names if name.startswith("headprobe.")]
    folders = {path.stem for path in PACKAGE.iterdir()}
    return {part[1] for part in parts if part[1] in folders}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_only(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    if len(place.parts) == 1 and place.stem not in MAY_IMPORT:
        return  # the front doors: __init__, __main__
    floor = place.parts[0].removesuffix(".py")
    wrong = imported(ast.parse(path.read_text("utf-8"))) - MAY_IMPORT[floor]
    assert not wrong, f"{place} imports {sorted(wrong)}"


def test_no_file_is_long() -> None:
    long = {str(p): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > LINES}
    assert not long


def test_the_judging_wing_never_sees_torch() -> None:
    for folder in ("probes", "store", "evidence", "verdicts", "report"):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert "import torch" not in path.read_text("utf-8"), path


@pytest.mark.parametrize(
    "module",
    [
        "headprobe",
        "headprobe.cli.commands",
        "headprobe.workflows.show_head",
        "headprobe.workflows.export",
        "headprobe.workflows.judge",
        "headprobe.workflows.merge",
        "headprobe.workflows.runs",
        "headprobe.report.head_view",
        "headprobe.evidence.weigh",
        "headprobe.verdicts.roles",
    ],
)
def test_light_modules_import_neither_torch_nor_transformers(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'transformers', 'tokenizers'} & sys.modules.keys()\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
