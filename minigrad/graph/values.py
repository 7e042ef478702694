"""The values of a forward pass, recovered from its graph.

A node stores only the values that its rules named. The others are recovered: leaves that are still alive have theirs,
ops are run again on known arguments, and a constant that no rule asked for, such as the 1 in `x + 1`, is solved for and
tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.autograd.node import Node, leaf_was_written_since
from minigrad.backend import Array, is_array, namespace, to_device

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "UNKNOWN"})()
"""Stands for a value that cannot be recovered. (None is a value: that of an argument left out.)"""

SOLUTIONS: dict[tuple[str, int], Callable] = {
    ("add", 0): lambda out, b: out - b,
    ("add", 1): lambda out, a: out - a,
    ("subtract", 0): lambda out, b: out + b,
    ("subtract", 1): lambda out, a: a - out,
    ("multiply", 0): lambda out, b: out / b,
    ("multiply", 1): lambda out, a: out / a,
    ("divide", 0): lambda out, b: out * b,
    ("divide", 1): lambda out, a: a / out,
    ("negative", 0): lambda out: -out,
}
"""How an argument follows from the result and the other argument, for ops whose rules do not name it."""

ROUNDED_UP_TO = 100  # elements: larger constants are not rounded element by element


class Values:
    """The values of the nodes of a graph, and of the constant arguments of its ops, as far as they can be recovered.

    Parameters
    ----------
    nodes : list of Nodes
        A whole graph, oldest first.
    computed : arrays by Node
        Results that are known, such as the output.
    candidates : arrays
        Constants that may have been used.
    """

    def __init__(self, nodes: list[Node], computed: Mapping[Node, Array], candidates: Sequence[Array] = ()):
        self.nodes, self.candidates = nodes, candidates
        self.of: dict[Node, Array] = {}
        self.constants: dict[tuple[Node, int], Any] = {}
        self._collect_saved()
        self.of.update(computed)
        saved = dict(self.of)
        self._read_leaves()
        self._run_again()
        if not self._agree(computed):  # a leaf has other data since, or an op gives other results each time
            self.of = saved
            return
        self._solve()
        self._run_again()

    def arguments(self, node: Node) -> list[Any]:
        """The values of the arguments of a node's op; UNKNOWN for those that cannot be recovered."""
        return [
            self.constants.get((node, position), UNKNOWN) if parent is None else self.of.get(parent, UNKNOWN)
            for position, parent in enumerate(node.parents)
        ]

    def _collect_saved(self) -> None:
        """What nodes saved of their arguments and of their result."""
        for node in self.nodes:
            saved = saved_by_name(node)
            if "out" in saved:
                self.of[node] = saved["out"]
            for position, parent in enumerate(node.parents):
                name = node.plan.op.argument_name(position)
                if name in saved:
                    value = saved[name][position] if node.plan.op.variadic else saved[name]
                    self._note(node, position, parent, value)

    def _note(self, node: Node, position: int, parent: Node | None, value: Any) -> None:
        if parent is None:
            self.constants[node, position] = value
        else:
            self.of[parent] = value

    def _read_leaves(self) -> None:
        """Values of leaves that are alive and were not written to since they were used."""
        first_use = {parent: node for node in reversed(self.nodes) for parent in node.parents}
        for node in self.nodes:
            tensor = node.grad_owner and node.grad_owner()
            if node.plan is not None or tensor is None:
                continue
            if node not in first_use or not leaf_was_written_since(node, first_use[node].order):
                self.of.setdefault(node, tensor.data)

    def _run_again(self) -> None:
        """Compute the results of ops whose arguments are all known, oldest first."""
        for node in self.nodes:
            if node not in self.of and node.plan is not None:
                out = run_again(node, self.arguments(node))
                if out is not UNKNOWN:
                    self.of[node] = out

    def _agree(self, computed: Mapping[Node, Array]) -> bool:
        """Whether the known results follow from the values recovered so far."""
        for node, value in computed.items():
            again = run_again(node, self.arguments(node))
            if again is not UNKNOWN and not np.allclose(on_host(again), on_host(value), rtol=1e-3, equal_nan=True):
                return False
        return True

    def _solve(self) -> None:
        """Solve for single unknown arguments, latest op first, so that one leads to the next."""
        for node in reversed(self.nodes):
            arguments = self.arguments(node)
            missing = [position for position, value in enumerate(arguments) if value is UNKNOWN]
            if node in self.of and len(missing) == 1:
                value = solve(node, self.of[node], missing[0], arguments, self.candidates)
                if value is not UNKNOWN:
                    self._note(node, missing[0], node.parents[missing[0]], value)


def run_again(node: Node, arguments: list[Any]) -> Any:
    """The result of the op's forward for these arguments; UNKNOWN if one of them or an option is."""
    op, saved = node.plan.op, saved_by_name(node)
    options = [saved.get(name, UNKNOWN) for name in op.options]
    if any(value is UNKNOWN for value in (*arguments, *options)):
        return UNKNOWN
    if any(callable(value) for value in options):  # calling it again may have side effects
        return UNKNOWN
    out = op.forward(*arguments, **dict(zip(op.options, options, strict=True)))
    return out[0] if op.residuals else out


def solve(node: Node, out: Array, position: int, arguments: list[Any], candidates: Sequence[Array]) -> Any:
    """A value for one argument with which the op, run again, gives its result to the bit; UNKNOWN if none is found."""
    guesses = [] if node.parents[position] else [array for array in candidates if _fits(array, out.shape)]
    guesses += _solutions(node, out, position, arguments)
    for guess in guesses if node.plan.op.kind == "elementwise" and out.size else []:
        if (run_again(node, [guess if value is UNKNOWN else value for value in arguments]) == out).all():
            return guess
    return UNKNOWN


def _solutions(node: Node, out: Array, position: int, arguments: list[Any]) -> Iterator[Array]:
    """The equation solved for one argument, rounded to few digits first: it was most likely a short number."""
    solution, parent = SOLUTIONS.get((node.plan.op.name, position)), node.parents[position]
    if solution is None or not out.size or (parent is not None and parent.shape != node.shape):
        return
    exact = solution(out, *(value for value in arguments if value is not UNKNOWN))
    while parent is None and exact.ndim and (exact == exact[:1]).all():
        exact = exact[0]  # all rows are the same: as good as one row, or one number, repeated
    if exact.size <= ROUNDED_UP_TO:
        yield from (rounded(exact, digits) for digits in (6, 9))
    yield exact


def _fits(array: Array, shape: tuple[int, ...]) -> bool:
    """Whether it broadcasts to this shape."""
    pairs = zip(reversed(array.shape), reversed(shape), strict=False)
    return array.ndim <= len(shape) and all(size in (1, full) for size, full in pairs)


def rounded(array: Array, digits: int) -> Array:
    """The array rounded to so many significant digits."""
    host = on_host(array)
    numbers = [float(f"{value:.{digits}g}") for value in host.reshape(-1)]
    return namespace(array).asarray(np.reshape(numbers, host.shape), dtype=host.dtype)[()]


def saved_by_name(node: Node) -> dict[str, Any]:
    """What a node saved for its rules; empty for a leaf, or after a backward pass has freed it."""
    return {} if node.plan is None or node.saved is None else dict(zip(node.plan.names, node.saved, strict=True))


def on_host(value: Any) -> np.ndarray:
    """A value as a NumPy array on the host."""
    return np.asarray(to_device(value, "cpu") if is_array(value) else value)
