"""Who imports whom: the imports of a package as a graph, its circles, and its storeys.

An import is followed to the module that defines the name: `from minigrad import Tensor` leads to the module from which
`minigrad/__init__.py` takes Tensor, and so does `mg.Tensor` after `import minigrad as mg`. Imports inside functions
count, since they are made when the program runs; those under `if TYPE_CHECKING:` are never made and do not count.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = dict[str, set[str]]
"""For each node, the nodes that it leads to."""


# --- from files to a graph ---


def modules(folders: Mapping[str, Path]) -> dict[str, Path]:
    """{dotted name: file} of the modules of some packages, each with its folder; links are not followed."""
    found = {}
    for package, folder in folders.items():
        for path in sorted(_files(folder)):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def module_graph(files: Mapping[str, Path]) -> Graph:
    """For each of the modules, those of them that it imports when it runs."""
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}
    taken = {name: list(_taken(trees[name], name, path.name == "__init__.py")) for name, path in files.items()}
    bound = {name: {as_name: (module, part) for module, part, as_name in taken[name]} for name in files}

    def where(module: str, part: str, seen: tuple = ()) -> str | None:
        """The module that defines `part` of `module`; None if that is none of ours."""
        if (module, part) in seen:
            return module
        seen = (*seen, (module, part))
        if f"{module}.{part}" in files:
            return f"{module}.{part}"
        if module not in files:
            return None
        if part in bound[module]:
            source, name = bound[module][part]
            return where(source, name, seen) if name else source if source in files else None
        for source, name in bound[module].values():
            if name == "*" and source in files and (found := where(source, part, seen)) not in (None, source):
                return found
        return module

    def uses(name: str, target: str, as_name: str) -> set[str | None]:
        """What module `name` uses of a module that it calls `as_name`: what its attributes lead to, or all of it."""
        attributes, whole = _attributes(trees[name], as_name)
        return {where(target, attribute) for attribute in attributes} | ({target} if whole else set())

    graph: Graph = {}
    for name in files:
        targets: set[str | None] = set()
        for module, part, as_name in taken[name]:
            target = f"{module}.{part}" if part else module
            if part == "*":
                targets.add(module)
            elif target in files:
                targets |= uses(name, target, as_name)
            elif part:
                targets.add(where(module, part))
        graph[name] = {target for target in targets if target in files and target != name}
    return graph


def _taken(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, str, str]]:
    """(module, part or "" for the module itself, the name it gets here) for each import that is made."""
    for node in _running(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.name, "", alias.asname) if alias.asname else (alias.name, "", alias.name)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                here = module.split(".")
                here = here[: len(here) - node.level + is_package]
                source = ".".join([*here, *([source] if source else [])])
            for alias in node.names:
                as_name = f"* of {source}" if alias.name == "*" else alias.asname or alias.name
                yield source, alias.name, as_name


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a tree without what is under `if TYPE_CHECKING:`."""
    yield node
    parts = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        parts = iter(node.orelse)
    for part in parts:
        yield from _running(part)


def _attributes(tree: ast.Module, name: str) -> tuple[set[str], bool]:
    """The x of each `name.x` in a tree, where the name may be dotted; and whether the name is used without one."""
    found, as_values, names = set(), 0, 0
    for node in _running(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == name:
            found.add(node.attr)
            as_values += 1
        if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) == name:
            names += 1
    return found, not found or names > as_values


# --- measures of a graph ---


def reachable(graph: Graph, start: str) -> set[str]:
    """The nodes that one can get to from a node."""
    found, ahead = set(), [start]
    while ahead:
        new = graph[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def components(graph: Graph) -> list[set[str]]:
    """The strongly connected components (Tarjan 1972), each before those that lead to it."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            start = stack.index(node)
            found.append(set(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def circles(graph: Graph) -> list[set[str]]:
    """The components of more than one node: each leads to all others of its circle."""
    return [component for component in components(graph) if len(component) > 1]


def rooms(graph: Graph, package: str) -> Graph:
    """The graph of a package's direct children: its modules, and its packages with all that is in them.

    The package's own `__init__` is no room: it is the door, and may name them all.
    """
    depth = package.count(".") + 1

    def room(module: str) -> str | None:
        parts = module.split(".")
        return parts[depth] if module.startswith(f"{package}.") else None

    found: Graph = {room(module): set() for module in graph if room(module)}
    for module, targets in graph.items():
        if here := room(module):
            found[here] |= {room(target) for target in targets} - {None, here}
    return found


def longest_path(graph: Graph) -> list[set[str]]:
    """The longest way through the graph, from the top down, where a circle counts as one step."""
    best: dict[frozenset, list[set[str]]] = {}
    home: dict[str, frozenset] = {}
    for component in components(graph):  # what it leads to comes first
        key = frozenset(component)
        home |= dict.fromkeys(component, key)
        below = {home[other] for node in component for other in graph[node]} - {key}
        best[key] = [component, *max((best[other] for other in below), key=len, default=[])]
    return max(best.values(), key=len, default=[])


def code_lines(path: Path) -> int:
    """Lines of a file that are neither blank, nor comment, nor docstring."""
    source = path.read_text(encoding="utf-8")
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in documented for number, line in lines)
