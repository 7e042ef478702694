"""The files of a package stand on at most six storeys of imports, in no circle, and reach only the packages below."""

import ast
from pathlib import Path

import pytest

import minigrad

PACKAGE = Path(minigrad.__file__).parent

MAY_REACH = {  # modules and packages of minigrad that a package's files may import; nn only what a user imports
    "data": {"autograd", "creation"},
    "graph": {"autograd", "backend"},
    "nn": {""},
    "training": {"autograd", "creation", "data", "serialization"},
    "transforms": {"autograd", "backend", "creation", "ops"},
}


def imported(path: Path) -> set[tuple[str, ...]]:
    """Everything that a file imports from minigrad, as paths below `minigrad`; () for minigrad itself."""
    here, found = path.relative_to(PACKAGE).parts[:-1], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = [(*alias.name.split("."),) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("minigrad", *here)[: len(here) + 2 - node.level] if node.level else ()
            start = (*base, *(node.module or "").split(".")) if node.module else base
            dotted = [(*start, alias.name) for alias in node.names]
        else:
            continue
        found |= {name[1:] for name in dotted if name[0] == "minigrad"}
    return found


def within(package: str) -> dict[str, set[str]]:
    """For each file of a package, the files of it that it imports."""
    files = {path.stem: path for path in (PACKAGE / package).glob("*.py")}
    below = {}
    for name, path in files.items():
        inside = {found[1:] for found in imported(path) if found[:1] == (package,)}
        below[name] = {rest[0] if rest and rest[0] in files else "__init__" for rest in inside} - {name}
    return below


@pytest.mark.parametrize("package", MAY_REACH)
def test_a_package_has_at_most_six_storeys_and_no_circle(package):
    below = within(package)

    def storey(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"a circle of imports: {' -> '.join([*above, name])}"
        return 1 + max((storey(other, (*above, name)) for other in below[name]), default=0)

    storeys = {name: storey(name) for name in below}
    assert max(storeys.values()) <= 6, storeys


@pytest.mark.parametrize("package", MAY_REACH)
def test_a_package_reaches_only_the_packages_below_it(package):
    public = set(dir(minigrad))
    for path in (PACKAGE / package).glob("*.py"):
        for name in imported(path):
            if name[:1] == (package,):
                continue
            if MAY_REACH[package] == {""}:
                assert len(name) == 0 or (len(name) == 1 and name[0] in public), f"{path.name} imports {name}"
            else:
                assert name and name[0] in MAY_REACH[package], f"{path.name} imports {'.'.join(name) or 'minigrad'}"
