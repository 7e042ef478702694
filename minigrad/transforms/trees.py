"""Trees: tuples, lists and dicts of Tensors, and of each other, as functions take and return them.

A transform sees arguments of any form as a flat list of leaves, and a function that puts others in their places. None
is a tree without leaves; a dict's leaves come in the order in which its keys were put in.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from copy import copy
from typing import Any, TypeAlias

Tree: TypeAlias = Any
"""A Tensor, or a tuple, list or dict of trees."""


MOST_LEVELS = 100
"""How deep a tree may be: a tenth of the calls in one another that Python allows."""


def flatten(tree: Tree) -> tuple[list, Callable[[list], Tree]]:
    """The leaves of a tree, and a function that makes the same tree of other leaves."""
    leaves: list = []
    build = _collect(tree, leaves)
    return leaves, lambda values: build(iter(values))


def map_leaves(function: Callable, tree: Tree, *others: Tree) -> Tree:
    """The tree with function(leaf, ...) for each leaf; other trees must have the same form."""
    leaves, rebuild = flatten(tree)
    columns = [flatten_like(tree, other, "another tree") for other in others]
    return rebuild([function(*row) for row in zip(leaves, *columns, strict=True)])


def flatten_like(tree: Tree, other: Tree, what: str) -> list:
    """The leaves of `other`, which must have the form of `tree`; an error that shows both where it has not.

    They come in the order of the leaves of `tree`, whatever the order of a dict's keys in `other`.
    """
    leaves: list = []
    if not _collect_alike(tree, other, leaves):
        raise TypeError(f"{what} has the form {form(other)}, but {form(tree)} was expected (* is a tensor).")
    return leaves


def spread_prefix(prefix: Tree, tree: Tree, what: str) -> list:
    """One entry of `prefix` for each leaf of `tree`: a prefix stands for everything below it (as in_axes of vmap)."""
    if isinstance(prefix, (tuple, list)) and isinstance(tree, (tuple, list)):
        if len(prefix) != len(tree):
            raise ValueError(f"{what} has {len(prefix)} entries for {len(tree)} values: {reprlib.repr(prefix)}.")
        pairs = zip(prefix, tree, strict=True)
        return [entry for part, branch in pairs for entry in spread_prefix(part, branch, what)]
    if isinstance(prefix, dict) and isinstance(tree, dict):
        if prefix.keys() != tree.keys():
            raise ValueError(f"{what} has the keys {list(prefix)} for a dict of {list(tree)}.")
        return [entry for key in tree for entry in spread_prefix(prefix[key], tree[key], what)]
    if isinstance(prefix, (tuple, list, dict)):
        raise ValueError(f"{what} {reprlib.repr(prefix)} is deeper than the value it is for, {form(tree)}.")
    return [prefix] * len(flatten(tree)[0])


def form(tree: Tree, level: int = 0) -> str:
    """The tree with * for each leaf, as text."""
    if level > MOST_LEVELS:
        return "..."
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {form(branch, level + 1)}" for key, branch in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inside = ", ".join(form(branch, level + 1) for branch in tree)
        return f"[{inside}]" if isinstance(tree, list) else f"({inside})"
    return "None" if tree is None else "*"


def _collect(tree: Tree, leaves: list, level: int = 0) -> Callable:
    """Append the tree's leaves; the function given back takes an iterator of others and builds the tree."""
    if level > MOST_LEVELS:
        raise ValueError(f"a tree of tuples, lists and dicts in one another, more than {MOST_LEVELS} levels deep.")
    if isinstance(tree, dict):
        branches = {key: _collect(branch, leaves, level + 1) for key, branch in tree.items()}
        empty = copy(tree)  # an OrderedDict stays one, and a defaultdict keeps its default
        empty.clear()
        return lambda values: _filled(copy(empty), {key: build(values) for key, build in branches.items()})
    if isinstance(tree, (tuple, list)):
        parts = [_collect(branch, leaves, level + 1) for branch in tree]
        kind = type(tree)
        make = kind._make if hasattr(kind, "_make") else kind  # a named tuple takes its fields one by one
        return lambda values: make([build(values) for build in parts])
    if tree is None:
        return lambda values: None
    leaves.append(tree)
    return next


def _filled(empty: dict, entries: dict) -> dict:
    empty.update(entries)
    return empty


def _collect_alike(tree: Tree, other: Tree, leaves: list) -> bool:
    """Append the leaves of `other` in the order of the tree's; False where it has another form."""
    if isinstance(tree, dict):
        same = isinstance(other, dict) and tree.keys() == other.keys()
        return same and all(_collect_alike(tree[key], other[key], leaves) for key in tree)
    if isinstance(tree, (tuple, list)):
        same = isinstance(other, list if isinstance(tree, list) else tuple) and len(tree) == len(other)
        return same and all(_collect_alike(*pair, leaves) for pair in zip(tree, other, strict=True))
    if tree is None:
        return other is None
    leaves.append(other)
    return other is not None and not isinstance(other, (dict, tuple, list))
