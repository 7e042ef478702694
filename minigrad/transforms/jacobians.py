"""Jacobians and Hessians, from one recorded call.

A Jacobian costs little more than one derivative: the graph is made once, and all rows (in reverse mode) or columns (in
forward mode) are computed in it together, as examples of a `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec

from minigrad.autograd.errors import GradientError
from minigrad.autograd.levels import enter_level, leave_level
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, namespace
from minigrad.ops import concatenate, moveaxis
from minigrad.transforms.batched_tangents import push_together
from minigrad.transforms.trace import Graph, Trace, normal_argnums
from minigrad.transforms.trees import Tree, flatten
from minigrad.transforms.vectorization import new_level

P = ParamSpec("P")


def jacobian(
    f: Callable[P, Any],
    argnums: int | Sequence[int] = 0,
    *,
    mode: str | None = None,
    chunk_size: int | None = None,
    has_aux: bool = False,
) -> Callable[P, Tree]:
    """The function that computes the Jacobian of `f`, of shape (*output.shape, *input.shape).

    Parameters
    ----------
    argnums : the positional arguments to differentiate by, one or a tuple
    mode : "forward" (a column for each element of the argument), "reverse" (a row for each element of the
        result), or None for the mode with fewer of them
    chunk_size : the number of rows or columns computed at a time; None: all. Memory grows with it.
    has_aux : f returns (result, more); so does the Jacobian

    Where f returns or takes trees, the result is the output's tree with the input's in place of each leaf, as in JAX.
    """
    if mode not in (None, "forward", "reverse"):
        raise ValueError(f'jacobian: mode={mode!r}; expected "forward", "reverse" or None.')
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"jacobian: chunk_size={chunk_size}; expected a positive number, or None for all at once.")

    @wraps(f, assigned=("__name__", "__doc__"))
    def jacobian_of(*args: P.args, **kwargs: P.kwargs) -> Tree:
        trace = Trace(f, args, kwargs, normal_argnums(argnums, args, "jacobian"), has_aux, "jacobian")
        if any(y.dtype.kind != "f" for y in trace.outputs):
            raise GradientError("jacobian: the function returns integers or bools, which have no derivative.")
        columns, rows = (sum(x.size for x in leaves) for leaves in (trace.inputs, trace.outputs))
        forward = columns <= rows if mode is None else mode == "forward"
        blocks = (columns_of if forward else rows_of)(trace, chunk_size)
        result = flatten(trace.out)[1]([_by_argument(trace, line, argnums) for line in blocks])
        return (result, trace.side()) if has_aux else result

    return jacobian_of


def hessian(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, *, chunk_size: int | None = None, has_aux: bool = False
) -> Callable[P, Tree]:
    """The function that computes the Hessian of `f`: for a scalar function of x, shape (*x.shape, *x.shape).

    Forward mode over reverse mode: the gradient is recorded once, and all directions are pushed through it together.
    """
    inner = jacobian(f, argnums, mode="reverse", has_aux=has_aux)
    return jacobian(inner, argnums, mode="forward", chunk_size=chunk_size, has_aux=has_aux)


def rows_of(graph: Graph, chunk_size: int | None) -> list[list[Tensor]]:
    """For each output, its derivative by each input: cotangents that pick one element each, pulled back together."""

    def pull(i: int, pick: Tensor) -> list[Tensor]:
        return graph.pull([pick if j == i else None for j in range(len(graph.outputs))])

    blocks = []
    for i, y in enumerate(graph.outputs):
        lines = _one_by_one(y, chunk_size, partial(pull, i), graph.inputs)
        blocks.append([line.reshape(y.shape + x.shape) for line, x in zip(lines, graph.inputs, strict=True)])
    return blocks


def columns_of(graph: Graph, chunk_size: int | None) -> list[list[Tensor]]:
    """The same derivatives by tangents that move one element each, pushed on together."""

    def push(i: int, move: Tensor) -> list[Tensor]:
        return graph.push([move if j == i else None for j in range(len(graph.inputs))])

    blocks: list[list[Tensor]] = [[] for _ in graph.outputs]
    for i, x in enumerate(graph.inputs):
        lines = _one_by_one(x, chunk_size, partial(push, i), graph.outputs, None if graph.connected else x)
        for block, line, y in zip(blocks, lines, graph.outputs, strict=True):
            block.append(moveaxis(line, 0, -1).reshape(y.shape + x.shape))
    return blocks


def jacobian_matrix(graph: Graph) -> Array:
    """The Jacobian as one matrix (output elements, input elements), by the cheaper mode; it has no graph."""
    columns, rows = (sum(x.size for x in leaves) for leaves in (graph.inputs, graph.outputs))
    xp = namespace(graph.inputs[0].data)
    if columns > rows:
        lines = [
            [x.data.reshape((y.size, -1)) for x in xs]
            for xs, y in zip(rows_of(graph, None), graph.outputs, strict=True)
        ]
        return _joined(xp, [_joined(xp, line, 1) for line in lines], 0)
    blocks = []
    for x in graph.inputs:
        units = xp.eye(x.size, dtype=x.dtype).reshape((x.size, *x.shape))
        pushed = zip(push_together(graph.outputs, x, units), graph.outputs, strict=True)
        parts = [xp.zeros((x.size, y.size), y.dtype) if t is None else t.reshape((x.size, -1)) for t, y in pushed]
        blocks.append(_joined(xp, parts, 1))
    return _joined(xp, blocks, 0).T


def _joined(xp: Any, arrays: list[Array], axis: int) -> Array:
    return arrays[0] if len(arrays) == 1 else xp.concatenate(arrays, axis)


def _one_by_one(
    x: Tensor, chunk_size: int | None, derive: Callable, others: Sequence[Tensor], source: Tensor | None = None
) -> list[Tensor]:
    """derive(d) for each unit vector d of x's shape: for each of `others` an array (x.size, *its shape).

    With a `source`, `derive` pushes d from there and the result need not be recorded; that is done in a cheaper way.
    """
    xp, chunk = namespace(x.data), chunk_size or max(1, x.size)
    if x.size == 0:
        return [Tensor(xp.zeros((0, *y.shape), y.dtype)) for y in others]
    chunks = []
    for start in range(0, x.size, chunk):
        count = min(chunk, x.size - start)
        units = xp.eye(count, x.size, start, dtype=x.dtype).reshape((count, *x.shape))
        chunks.append(_together(Tensor(units), derive) if source is None else _moved(units, source, others))
    return [parts[0] if len(parts) == 1 else concatenate(parts) for parts in zip(*chunks, strict=True)]


def _together(vectors: Tensor, derive: Callable) -> list[Tensor]:
    """derive(d) for each vector along axis 0, as the examples of one `vmap`."""
    if len(vectors) == 1:
        return [found.reshape((1, *found.shape)) for found in derive(vectors[0])]
    with new_level(len(vectors)) as level:
        found = derive(enter_level(vectors, axis=0, level=level))
        return [leave_level(line, axis=0, level=level) for line in found]


def _moved(units: Array, source: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    found = zip(push_together(others, source, units), others, strict=True)
    xp = namespace(units)
    return [Tensor(xp.zeros((len(units), *y.shape), y.dtype) if line is None else line) for line, y in found]


def _by_argument(trace: Trace, line: list[Tensor], argnums: int | Sequence[int]) -> Tree:
    """One output's derivatives as the tree of the argument; a tuple of trees for several arguments."""
    trees = trace.arguments(line)
    return trees if isinstance(argnums, Sequence) else trees[0]
