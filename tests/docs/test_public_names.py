"""Every package has a clean face: `__all__` says what is public, and `dir()` shows that and nothing else."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import minigrad


def packages() -> list[str]:
    found = pkgutil.walk_packages(minigrad.__path__, "minigrad.")
    return ["minigrad", *(module.name for module in found if module.ispkg)]


def modules_in(package: ModuleType) -> set[str]:
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


@pytest.fixture(params=packages())
def package(request) -> ModuleType:
    return importlib.import_module(request.param)


def test_a_package_lists_its_public_names_or_has_none(package):
    taken_in = {name for name in vars(package) if not name.startswith("_")} - modules_in(package)
    assert hasattr(package, "__all__") or not taken_in, f"{package.__name__} has no __all__ for {sorted(taken_in)}"


def test_every_public_name_exists_and_is_listed_once(package):
    names = getattr(package, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(package, name)] == []


def test_dir_shows_the_public_names_alone(package):
    shown = {name for name in dir(package) if not name.startswith("__")}
    if hasattr(package, "__all__"):
        assert shown == {name for name in package.__all__ if not name.startswith("__")}


def test_no_public_name_hides_a_module_of_its_package(package):
    names = modules_in(package) & set(getattr(package, "__all__", vars(package)))
    assert [name for name in names if not isinstance(getattr(package, name), ModuleType)] == []
