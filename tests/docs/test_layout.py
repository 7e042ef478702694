"""The house keeps its promises: every package is installed, and imports go one way."""

import ast
import tomllib
from pathlib import Path

import minigrad

PACKAGE = Path(minigrad.__file__).parent
ROOT = Path(__file__).parents[2]


def imported_modules(path: Path) -> set[str]:
    return {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}


def test_every_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    inits = [path for top in ("minigrad", "nn", "optim") for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(path.parent.relative_to(ROOT).parts) for path in inits}
    assert listed == {name if name.startswith("minigrad") else f"minigrad.{name}" for name in names}


def test_kernels_know_nothing_of_the_engine():
    for path in (PACKAGE / "backend").rglob("*.py"):
        outside = {
            m for m in imported_modules(path) if m.startswith("minigrad") and not m.startswith("minigrad.backend")
        }
        assert not outside, f"{path.name} imports {outside}"


def test_ops_do_not_know_backward():
    for path in (PACKAGE / "ops").glob("*.py"):
        assert "minigrad.autograd.reverse" not in imported_modules(path), path.name
