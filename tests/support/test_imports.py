"""The measure of imports is right on a made-up package whose graph is known."""

import pytest

from tests.support.imports import circles, code_lines, components, longest_path, module_graph, modules, reachable, rooms

TREE = {
    "__init__.py": "from .low import base, Thing\nfrom .high.top import run as start\nfrom .star import *\nVERSION = 1",
    "low/__init__.py": "from .base import Thing\nimport os",
    "low/base.py": "import numpy\n\nclass Thing: ...",
    "star.py": "from house.low import Thing as Other",
    "high/__init__.py": "",
    "high/top.py": "import house as h\n\ndef run():\n    return h.Thing, h.start",
    "high/late.py": "def run():\n    from house.high import typed\n    return typed.x",
    "high/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.high.late import run\n"
    "else:\n    from house import Other",
    "high/ring.py": "from house.high.late import run\nfrom . import gnir",
    "high/gnir.py": "import house.high.ring\nprint(house.high.ring)",
    "door.py": "from house import VERSION",
}
GRAPH = {
    "house": {"house.low", "house.low.base", "house.high.top", "house.star"},
    "house.low": {"house.low.base"},
    "house.low.base": set(),
    "house.star": {"house.low.base"},  # Thing, by way of house.low
    "house.high": set(),
    "house.high.top": {"house.low.base"},  # h.Thing; h.start is its own
    "house.high.late": {"house.high.typed"},  # an import in a function is made when it runs
    "house.high.typed": {"house.low.base"},  # not that for the type checker; Other comes through a star
    "house.high.ring": {"house.high.late", "house.high.gnir"},
    "house.high.gnir": {"house.high.ring"},
    "house.door": {"house"},
}


@pytest.fixture
def graph(tmp_path):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "low")
    return module_graph(modules({"house": tmp_path}))


def test_an_import_leads_to_the_module_that_defines_the_name(graph):
    assert graph == GRAPH | {"house": GRAPH["house"] - {"house.low"}}


def test_what_is_reached_and_what_is_a_circle():
    assert reachable(GRAPH, "house.high.late") == {"house.high.typed", "house.low.base"}
    assert circles(GRAPH) == [{"house.high.ring", "house.high.gnir"}]
    order = components(GRAPH)
    places = {name: i for i, component in enumerate(order) for name in component}
    assert all(places[target] <= places[name] for name, targets in GRAPH.items() for target in targets)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}}) == [{"d", "e"}, {"a", "b", "c"}]


def test_rooms_are_direct_children_and_the_door_is_none():
    assert rooms(GRAPH, "house") == {"low": set(), "star": {"low"}, "high": {"low"}, "door": set()}
    assert longest_path(rooms(GRAPH, "house")) in ([{"star"}, {"low"}], [{"high"}, {"low"}])
    assert longest_path(rooms(GRAPH, "house.high")) == [{"ring", "gnir"}, {"late"}, {"typed"}]
    assert longest_path(rooms(GRAPH, "house.low")) == [{"base"}]
    assert longest_path({}) == []


def test_lines_of_code_are_neither_blank_nor_comment_nor_docstring(tmp_path):
    (tmp_path / "file.py").write_text(
        '"""Two\nlines."""\n\n# why\nx = 1  # here\n\n\ndef f():\n    """One."""\n    return x\n'
    )
    assert code_lines(tmp_path / "file.py") == 3
