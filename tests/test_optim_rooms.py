"""The rooms of `optim/` keep their directions: solvers share `solve/`, and only the optimizers of models see both."""

import ast
from pathlib import Path

import pytest

import minigrad.optim

OPTIM = Path(minigrad.optim.__file__).parent
ROOMS = ("solve", "minimizers", "fitting", "closures")

MAY_IMPORT = {
    "solve": set(),
    "minimizers": {"solve"},
    "fitting": {"solve"},
    "closures": {"solve", "minimizers", "fitting"},
}


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """Every name that a file of `optim/` imports from this package, as a path below `optim/`, wherever in it."""
    here, found = path.relative_to(OPTIM).with_suffix("").parts[:-1], set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            dotted = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            dotted = [(*(node.module or "").split("."), alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("minigrad", "optim", *here)
            base = base[: len(base) - node.level + 1]
            dotted = [(*base, *(node.module or "").split("."), alias.name) for alias in node.names]
        else:
            continue
        found |= {tuple(filter(None, name))[2:] for name in dotted if name[:2] == ("minigrad", "optim")}
    return found


def rooms_reached(path: Path) -> set[str]:
    return {name[0] for name in imports_of(path) if name and name[0] in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_second_order_imports_only_what_lies_below_it(room):
    files = sorted((OPTIM / room).rglob("*.py"))
    assert files
    for path in files:
        beyond = rooms_reached(path) - MAY_IMPORT[room] - {room}
        assert not beyond, f"{path.relative_to(OPTIM)} imports {beyond}"


def test_only_the_front_door_of_optim_imports_the_optimizers_of_models():
    for path in OPTIM.rglob("*.py"):
        if path.parent != OPTIM / "closures" and path != OPTIM / "__init__.py":
            assert "closures" not in rooms_reached(path), path.relative_to(OPTIM)


def imports_within(room: str) -> dict[str, set[str]]:
    """For each file of a room the files of the same room that it imports."""
    names = {path.stem for path in (OPTIM / room).glob("*.py")} - {"__init__"}
    return {
        name: {found[1] for found in imports_of(OPTIM / room / f"{name}.py") if found[:1] == (room,)} & names
        for name in names
    }


@pytest.mark.parametrize("room", ROOMS)
def test_imports_within_a_room_have_no_circle_and_at_most_six_storeys(room):
    below = imports_within(room)

    def storey(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"a circle of imports: {' -> '.join([*above, name])}"
        return 1 + max((storey(other, (*above, name)) for other in below[name]), default=0)

    storeys = {name: storey(name) for name in below}
    assert max(storeys.values()) <= 6, storeys


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_of_one_room_has_a_name_of_its_own(room):
    names = {path.stem for path in (OPTIM / room).glob("*.py")} - {"__init__"}
    others = {path.stem for path in OPTIM.rglob("*.py") if path.parent != OPTIM / room and path.stem != "__init__"}
    assert not names & others
