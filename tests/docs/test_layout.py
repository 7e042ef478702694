"""The house keeps its promises: packages are installed, imports go one way, and no package has too many storeys."""

import tomllib
from pathlib import Path

import pytest

from tests.support.imports import circles, longest_path, module_graph, modules, reachable, rooms

ROOT = Path(__file__).parents[2]
FILES = modules({"minigrad": ROOT / "minigrad", "minigrad.nn": ROOT / "nn", "minigrad.optim": ROOT / "optim"})
GRAPH = module_graph(FILES)
PACKAGES = sorted(name for name, path in FILES.items() if path.name == "__init__.py")

ABOVE = ("minigrad.nn", "minigrad.optim")
"""Imported as parts of minigrad, but folders of their own, that use what any user could use."""

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

STOREYS = dict.fromkeys(PACKAGES, 6) | {"minigrad.nn": 7}
"""For each package, how many of its direct children may stand on one another."""

CIRCLES = {"minigrad": (1, 3), "minigrad.nn": (1, 2), "minigrad.backend.batched": (1, 4)}
"""For each package that may have circles of files: how many, and of how many files. The first is the Tensor with its
ops; the second a Module that shows its summary; the third vmap's array, which is an array library in itself."""


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == PACKAGES


def test_the_rules_speak_of_packages_and_modules_that_exist():
    named = {name for package, others in NEVER_REACHES.items() for name in (package, *others)}
    assert not sorted(name for name in named | CIRCLES.keys() | STOREYS.keys() | set(PASSES) if name not in FILES)


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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_few_storeys(package):
    """The longest way down through the imports of its direct children, where a circle counts as one step."""
    own = {name: targets for name, targets in GRAPH.items() if package != "minigrad" or not name.startswith(ABOVE)}
    path = longest_path(rooms(own, package))
    assert len(path) <= STOREYS[package], " > ".join("+".join(sorted(step)) for step in path)


def test_circles_of_files_are_few_and_small():
    found: dict[str, list[set[str]]] = {}
    for circle in circles(GRAPH):
        home = max((package for package in PACKAGES if all(inside(name, package) for name in circle)), key=len)
        found.setdefault(home if home in CIRCLES else "minigrad", []).append(circle)
    for package, theirs in found.items():
        most, size = CIRCLES[package]
        text = "\n".join(", ".join(sorted(circle)) for circle in theirs)
        assert len(theirs) <= most and all(len(circle) <= size for circle in theirs), f"circles in {package}:\n{text}"
