"""The house keeps its promises: an engine small enough to read, and imports that go one way."""

import ast
import tomllib
from pathlib import Path

import minigrad

PACKAGE = Path(minigrad.__file__).parent
ROOT = Path(__file__).parents[2]
ENGINE = ("tensor.py", "record.py", "primitive.py", "autograd.py")


def code_lines(path: Path) -> int:
    """Lines that are neither blank, nor comment, nor docstring."""
    source = path.read_text()
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in documented for number, line in lines)


def imported_modules(path: Path) -> set[str]:
    return {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}


def test_the_engine_can_be_read_in_an_evening():
    assert sum(code_lines(PACKAGE / name) for name in ENGINE) <= 800


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
        assert "minigrad.autograd" not in imported_modules(path), path.name
