"""A table of a model: its layers, the shapes that come out of them, their parameters and their work.

The model is left as it was: forward hooks on every module take notes of one pass in evaluation mode, without a graph,
and hooks and modes are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import HookHandle, Tensor

HEADINGS = ("layer", "output shape", "parameters", "multiply-adds")

Hook = Callable[[Any, tuple, Any], Any]
Shape = tuple[int, ...]


class Layer(Protocol):
    """What a summary asks of a model and of each layer in it; `Module`, which stands above this file, answers it."""

    training: bool

    def __call__(self, *inputs: Any) -> Any: ...
    def named_modules(self) -> Iterator[tuple[str, Any]]: ...
    def parameters(self, recurse: bool = True) -> Iterator[Tensor]: ...
    def register_forward_hook(self, hook: Hook, /) -> HookHandle: ...
    def multiply_adds(self, input_shape: Shape, output_shape: Shape) -> int: ...
    def eval(self) -> Any: ...
    def unregistered(self) -> list[str]: ...


@dataclass
class Row:
    """One module: where it stands, what it is, and what one pass showed of it."""

    name: str
    kind: str
    depth: int
    output_shapes: list[Shape] = field(default_factory=list)
    parameters: int = 0
    multiply_adds: int = 0


@dataclass
class Summary:
    """What `summary` found; print it for the table. Multiply-adds are those of linear and convolution layers.

    Layers that plain lists hold are not seen; `unregistered` names those lists.
    """

    rows: list[Row]
    parameters: int
    trainable: int
    multiply_adds: int
    unregistered: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [HEADINGS] + [_cells(row) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        body = [_align(line, widths) for line in lines]
        rule = "-" * max(map(len, body))
        total = f"{self.parameters:,} parameters ({self.trainable:,} to train), {self.multiply_adds:,} multiply-adds"
        return "\n".join([body[0], rule, *body[1:], rule, total, *self.unregistered])

    __repr__ = __str__


def summary(model: Layer, x: Tensor | Sequence[Tensor] | Shape, dtype: DTypeLike | None = None) -> Summary:
    """Run a model once and list its layers.

    Parameters
    ----------
    model : Module
    x : Tensor, tuple of Tensors, or shape
        An input; of a shape, with the batch axis, zeros are made. The multiply-adds are for this input.
    dtype : optional
        The dtype of those zeros, such as "int64" for an Embedding; by default that of the parameters.

    Returns
    -------
    Summary
        `print` it; or take `.rows`, `.parameters`, `.trainable` and `.multiply_adds`. A module used twice has one row
        with the work of both calls; a parameter used twice is counted where it comes first.
    """
    inputs = _inputs(model, x, dtype)
    rows: dict[int, Row] = {}
    counted: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, own))
        depth = name.count(".") + 1 if name else 0
        rows[id(module)] = Row(name, type(module).__name__, depth, parameters=sum(p.size for p in own))

    def note(module: Layer, arguments: tuple, output: object) -> None:
        row = rows[id(module)]
        if isinstance(output, Tensor):
            row.output_shapes.append(output.shape)
            if arguments and isinstance(arguments[0], Tensor):
                row.multiply_adds += module.multiply_adds(arguments[0].shape, output.shape)

    with ExitStack() as undo, mg.no_grad():
        for _, module in model.named_modules():
            undo.callback(setattr, module, "training", module.training)
            undo.callback(module.register_forward_hook(note).remove)
        model.eval()
        model(*inputs)
    parameters = list(model.parameters())
    return Summary(
        rows=list(rows.values()),
        parameters=sum(p.size for p in parameters),
        trainable=sum(p.size for p in parameters if p.requires_grad),
        multiply_adds=sum(row.multiply_adds for row in rows.values()),
        unregistered=model.unregistered(),
    )


def _inputs(model: Layer, x: Tensor | Sequence[Tensor] | Shape, dtype: DTypeLike | None) -> tuple:
    if isinstance(x, Tensor):
        return (x,)
    if isinstance(x, (tuple, list)) and x and all(isinstance(part, Tensor) for part in x):
        return tuple(x)
    if not (isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)):
        raise TypeError(
            f"summary: expected a Tensor, a tuple of Tensors, or a shape such as (1, 3, 32, 32), got {x!r}."
        )
    first = next(model.parameters(), None)
    if first is None:
        return (mg.zeros(tuple(x), dtype=dtype or mg.float32),)
    return (mg.zeros(tuple(x), dtype=dtype or first.dtype, device=first.device),)


def _cells(row: Row) -> tuple[str, ...]:
    name = row.name.rpartition(".")[2]
    shape = str(row.output_shapes[0]) if row.output_shapes else "-"
    calls = f" x {len(row.output_shapes)}" if len(row.output_shapes) > 1 else ""
    return (
        "  " * row.depth + (f"{name}: {row.kind}" if name else row.kind),
        shape + calls,
        f"{row.parameters:,}" if row.parameters else "-",
        f"{row.multiply_adds:,}" if row.multiply_adds else "-",
    )


def _align(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(left + right)
