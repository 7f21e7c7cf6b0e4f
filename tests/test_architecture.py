"""The house keeps its shape: imports run down only, and light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "headprobe"
LINES = 600

GROUND = (
    *("arrays", "errors", "resources", "vocabulary", "format", "config", "progress"),
    *("kernel_cache", "compiled"),
)
"""The words that all folders share; each imports only those before it."""

MAY_IMPORT = {
    "runs": {"runs"},
    # the measuring wing
    "probes": {"probes", "runs"},
    "batching": {"batching", "probes", "runs"},
    "model": {"model", "batching", "probes", "runs"},
    "measure": {"measure", "model", "batching", "probes", "runs"},
    "causal": {"causal", "measure", "model", "batching", "probes", "runs"},
    "planted": {"planted", "probes", "runs"},
    # the judging wing
    "analysis": {"analysis", "runs"},
    "roles": {"roles", "analysis", "runs"},
    "results": {"results", "roles", "analysis", "runs"},
    "report": {"report", "results", "runs"},
}
"""For each folder the folders that it may import; the ground is open to all."""
MAY_IMPORT["commands"] = {"commands", *MAY_IMPORT} - {"report"}
MAY_IMPORT["cli"] = {"cli", "commands", "report", "results", "runs"}

TORCH_FREE = {"runs", "probes", "analysis", "roles", "results", "report", *GROUND}
HEAVY = {"torch", "transformers", "tokenizers", "accelerate", "safetensors", "huggingface_hub"}

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "demo" not in path.parts)


def module_of(path: Path) -> str:
    """The dotted name inside the package; of a package its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """The absolute dotted names that a file imports, at its top or anywhere inside."""
    package = ["headprobe", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_parts(path: Path) -> set[str]:
    """The folders and ground modules of the package that a file imports."""
    there = {each.stem for each in PACKAGE.iterdir()}
    names = (name.split(".") for name in imported(path) if name.startswith("headprobe."))
    return {parts[1] for parts in names if parts[1] in there}


def wrong_imports(path: Path) -> set[tuple[str, str]]:
    module = module_of(path)
    floor = module.split(".")[0]
    if floor in GROUND:
        allowed = set(GROUND[: GROUND.index(floor)])
    elif floor in MAY_IMPORT:
        allowed = MAY_IMPORT[floor] | set(GROUND)
    else:
        return set()  # the front doors: __init__, __main__
    return {(module, part) for part in own_parts(path) - allowed}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_down_only(path: Path) -> None:
    assert not wrong_imports(path)


def test_every_folder_has_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders - {"demo"} <= MAY_IMPORT.keys()


def test_no_file_is_long() -> None:
    long = {str(p): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > LINES}
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_the_judging_wing_never_sees_torch(path: Path) -> None:
    if module_of(path).split(".")[0] in TORCH_FREE:
        assert not HEAVY & {name.split(".")[0] for name in imported(path)}


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    folder = PACKAGE / "runs"
    text = "def f():\n    from torch import Tensor\n    from ..report import grid\n"
    path = folder / "shown_to_the_test.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_: text)
        found = set(imported(path))
        assert ("runs.shown_to_the_test", "report") in wrong_imports(path)
    assert {"torch", "torch.Tensor", "headprobe.report", "headprobe.report.grid"} <= found


@pytest.mark.parametrize(
    "module",
    [
        "headprobe",
        "headprobe.cli.commands",
        "headprobe.commands.compare",
        "headprobe.commands.heads",
        "headprobe.commands.judge",
        "headprobe.commands.merge",
        "headprobe.commands.show",
        "headprobe.commands.trace_folder",
        "headprobe.report.head",
        "headprobe.report.summary",
        "headprobe.analysis.gains",
        "headprobe.roles.roles",
        "headprobe.results.tables",
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
