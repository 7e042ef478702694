"""The house keeps its promises: packages are installed, imports go one way, and no package has too many storeys."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import minigrad
from tests.support.imports import circles, code_lines, longest_path, module_graph, modules, reachable, rooms

ROOT = Path(__file__).parents[2]
FILES = modules({"minigrad": ROOT / "minigrad", "minigrad.nn": ROOT / "nn", "minigrad.optim": ROOT / "optim"})
GRAPH = module_graph(FILES)
PACKAGES = sorted(name for name, path in FILES.items() if path.name == "__init__.py")

ABOVE = ("minigrad.nn", "minigrad.optim", "minigrad.amp")
"""Imported as parts of minigrad, but packages of their own, that use what any user could use. amp builds on optim."""

NEVER_REACHES = {
    "minigrad.ops": (
        *("minigrad.transforms", "minigrad.checks", "minigrad.graph", "minigrad.data", "minigrad.training"),
        *("minigrad.serialization", "minigrad.linalg", *ABOVE),
    ),
    "minigrad.autograd": (
        *("minigrad.transforms", "minigrad.checks", "minigrad.graph", "minigrad.data", "minigrad.training"),
        *("minigrad.serialization", "minigrad.linalg", *ABOVE),
    ),
    "minigrad.creation": ("minigrad.transforms", "minigrad.checks", "minigrad.graph", "minigrad.training", *ABOVE),
    "minigrad.transforms": ("minigrad.checks", "minigrad.graph", "minigrad.data", "minigrad.training", *ABOVE),
    "minigrad.checks": ("minigrad.graph", "minigrad.data", "minigrad.training", *ABOVE),
    "minigrad.graph": ("minigrad.transforms", "minigrad.checks", "minigrad.data", "minigrad.training", *ABOVE),
    "minigrad.data": ("minigrad.transforms", "minigrad.checks", "minigrad.graph", "minigrad.training", *ABOVE),
    "minigrad.training": ("minigrad.transforms", "minigrad.checks", "minigrad.graph", *ABOVE),
    "minigrad.nn": ("minigrad.checks", "minigrad.graph", "minigrad.data", "minigrad.training"),
    "minigrad.optim": ("minigrad.checks", "minigrad.graph", "minigrad.data", "minigrad.training"),
    "minigrad.optim.solve": ("minigrad.optim.minimizers", "minigrad.optim.fitting", "minigrad.optim.closures"),
    "minigrad.optim.minimizers": ("minigrad.optim.fitting", "minigrad.optim.closures"),
    "minigrad.optim.fitting": ("minigrad.optim.minimizers", "minigrad.optim.closures"),
}
"""For each package or module, those that none of its imports, nor theirs, lead to."""

PASSES = ("minigrad.autograd.reverse", "minigrad.autograd.forward")
"""Backward and forward: the passes over the graph."""

MOST_STOREYS = 6
"""How many of a package's direct children may stand on one another."""

CIRCLES = {"minigrad.backend.batched": (1, 4)}
"""For each package that may have circles of files: how many, and of how many files. This one is vmap's array, which is
an array library in itself."""

ONE_MEANING = {
    "activations",
    "augmentation",
    "bias",
    "convolution",
    "dropout",
    "gradients",
    "indexing",
    "linalg",
    "linear",
    "losses",
    "normalization",
    "pooling",
    "products",
    "windows",
}
"""Module names that stand in several packages: ops, their kernels and their layers are called alike on purpose."""


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == PACKAGES


def test_the_rules_speak_of_packages_and_modules_that_exist():
    named = {name for package, others in NEVER_REACHES.items() for name in (package, *others)}
    assert not sorted(name for name in named | CIRCLES.keys() | set(PASSES) if name not in FILES)


def test_no_test_imports_from_another():
    """What two tests need stands in tests/support."""
    for module, targets in module_graph(modules({"tests": ROOT / "tests"})).items():
        found = {name for name in targets if name.rpartition(".")[2].startswith("test_")}
        assert not found, f"{module} imports {found}"


def test_kernels_know_nothing_of_the_engine():
    for module in (name for name in GRAPH if inside(name, "minigrad.backend")):
        outside = {name for name in GRAPH[module] if not inside(name, "minigrad.backend")}
        assert not outside, f"{module} imports {outside}"


@pytest.mark.parametrize("package", NEVER_REACHES)
def test_imports_go_one_way(package):
    for module in (name for name in GRAPH if inside(name, package)):
        for other in NEVER_REACHES[package]:
            found = {name for name in reachable(GRAPH, module) if inside(name, other)}
            assert not found, f"{module} leads to {min(found)}"


def test_ops_do_not_know_backward():
    """They use tensors and primitives, but none imports a pass over the graph."""
    for module in (name for name in GRAPH if inside(name, "minigrad.ops")):
        assert not GRAPH[module] & set(PASSES), f"{module} imports {GRAPH[module] & set(PASSES)}"


def test_only_the_front_door_names_nn_and_optim():
    for module in GRAPH:
        if module != "minigrad" and not any(inside(module, package) for package in ABOVE):
            found = {name for name in GRAPH[module] if any(inside(name, package) for package in ABOVE)}
            assert not found, f"{module} imports {found}"


def test_nn_is_written_with_what_any_user_has():
    for name, path in FILES.items():
        if inside(name, "minigrad.nn"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.startswith("minigrad"):
                    names = {alias.name for alias in node.names}
                    assert node.module == "minigrad" and names <= set(minigrad.__all__), f"{name}: {node.module}"


def test_only_the_front_door_of_optim_names_the_optimizers_of_models():
    for module in (name for name in GRAPH if name != "minigrad.optim" and not inside(name, "minigrad.optim.closures")):
        found = {name for name in GRAPH[module] if inside(name, "minigrad.optim.closures")}
        assert not found, f"{module} imports {found}"


def test_a_module_name_has_one_meaning():
    homes: dict[str, list[str]] = {}
    for module, path in FILES.items():
        if path.name != "__init__.py":
            homes.setdefault(module.rpartition(".")[2], []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1 and name not in ONE_MEANING} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_few_storeys(package):
    """The longest way down through the imports of its direct children, where a circle counts as one step."""
    own = {name: targets for name, targets in GRAPH.items() if package != "minigrad" or not name.startswith(ABOVE)}
    path = longest_path(rooms(own, package))
    assert len(path) <= MOST_STOREYS, " > ".join("+".join(sorted(step)) for step in path)


def test_circles_of_files_are_few_and_small():
    found: dict[str, list[set[str]]] = {}
    for circle in circles(GRAPH):
        home = max((package for package in PACKAGES if all(inside(name, package) for name in circle)), key=len)
        found.setdefault(home, []).append(circle)
    for package, theirs in found.items():
        most, size = CIRCLES.get(package, (0, 0))
        text = "\n".join(", ".join(sorted(circle)) for circle in theirs)
        assert len(theirs) <= most and all(len(circle) <= size for circle in theirs), f"circles in {package}:\n{text}"


def test_the_readme_tells_how_long_the_engine_is():
    lines = {path.stem: code_lines(path) for path in (ROOT / "minigrad" / "autograd").glob("*.py")}
    told = re.search(
        r"which has ([\d,]+) lines of code .*?docstrings; (\d+) are .*?and (\d+) in `calls.py`",
        (ROOT / "README.md").read_text(),
        re.S,
    )
    counted = [sum(lines.values()), lines["methods"], lines["calls"]]
    assert [int(number.replace(",", "")) for number in told.groups()] == counted
