"""A function called once and recorded as a graph: what every transform starts from.

After this file you know that a graph has inputs and outputs, and is walked both ways: cotangents are pulled back
through it, tangents pushed forward. And you know how transforms nest. Each call of a transform gives the function
points of its own to differentiate at. Where the caller's arguments are being differentiated themselves, the points are
connected to them and the derivatives are recorded, so that they can be differentiated again; otherwise the graph is
freed after the call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from minigrad.autograd import forward, reverse
from minigrad.autograd.errors import GradientError
from minigrad.autograd.grad_mode import enable_grad, grad_mode, is_grad_enabled
from minigrad.autograd.node import leaf, nodes_between
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.creation import zeros_like
from minigrad.transforms.trees import Tree, flatten, form, map_leaves


class Graph:
    """The ops between some tensors and others that were computed from them, for derivatives to be walked through.

    inputs, outputs : Tensors that need gradients, and Tensors that may have been computed from them
    """

    connected = False
    """Whether derivatives must be recorded because a caller differentiates through this graph as well."""

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]):
        self.inputs, self.outputs = list(inputs), list(outputs)

    def pull(self, cotangents: Sequence[Tensor | None], retain_graph: bool = True) -> list[Tensor]:
        """The cotangents of the outputs (None: zero) pulled back to the inputs; the graph is freed unless retained."""
        pairs = [(y, v) for y, v in zip(self.outputs, cotangents, strict=True) if v is not None and y.node is not None]
        create_graph = self._must_record(cotangents)
        found: Sequence[Tensor | None] = [None] * len(self.inputs)
        if pairs and self.inputs:
            ys, vs = zip(*pairs, strict=True)
            found = reverse.grad(
                ys,
                self.inputs,
                vs,
                retain_graph=retain_graph or create_graph,
                create_graph=create_graph,
                allow_unused=True,
            )
        return [zeros_like(x.detach()) if g is None else g for g, x in zip(found, self.inputs, strict=True)]

    def push(self, tangents: Sequence[Tensor | None]) -> list[Tensor]:
        """The tangents of the inputs (None: zero) pushed forward to the outputs."""
        pairs = [(x, t) for x, t in zip(self.inputs, tangents, strict=True) if t is not None]
        found: Sequence[Tensor | None] = [None] * len(self.outputs)
        if pairs:
            xs, ts = zip(*pairs, strict=True)
            found = forward.push(self.outputs, xs, ts, create_graph=self._must_record(ts))
        return [zeros_like(y.detach()) if t is None else t for t, y in zip(found, self.outputs, strict=True)]

    def _must_record(self, vectors: Sequence[Tensor | None]) -> bool:
        """Whether the derivative along these vectors may be differentiated itself."""
        tracked = any(v is not None and v.node is not None for v in vectors)
        return is_grad_enabled() and (self.connected or tracked)


class Trace(Graph):
    """`f(*args)`, recorded from the arguments numbered in `argnums` to the result.

    inputs, outputs : the leaves of those arguments and of the result
    out, aux : the result, and the second one of a function with `has_aux`
    connected : whether derivatives must be recorded because a caller differentiates through this call as well

    Raises GradientError, which begins with the `owner`'s name, where the result holds plain numbers and no Tensor.
    """

    def __init__(
        self,
        f: Callable,
        args: Sequence[Tree],
        kwargs: dict[str, Tree],
        argnums: Sequence[int],
        has_aux: bool = False,
        owner: str = "a derivative",
        judge_paths: bool = True,
    ):
        super().__init__((), ())
        self.recording = is_grad_enabled()
        self.trees: list[tuple[int, Callable]] = []  # for each argument: how many leaves, and what makes a tree of them
        self.given: list[Tensor] = []
        args = list(args)
        for number in argnums:
            leaves, rebuild = flatten(args[number])
            self.given += [_float_tensor(x, number) for x in leaves]
            points = [self._point(x) for x in self.given[len(self.inputs) :]]
            args[number] = rebuild(points)
            self.inputs += points
            self.trees.append((len(points), rebuild))
        before = grad_mode.taken_out
        with enable_grad():
            out = f(*args, **kwargs)
        self.out: Tree = out
        self.aux: Tree = None
        if has_aux:
            self.out, self.aux = _with_aux(out)
        leaves = flatten(self.out)[0]
        if leaves and not any(isinstance(x, Tensor) for x in leaves):
            raise GradientError(_without_graph(owner, leaves[0]))
        self.outputs = [x if isinstance(x, Tensor) else as_tensor(x) for x in leaves]
        self.connected = self.recording and self._reaches_beyond()
        if judge_paths and grad_mode.taken_out > before:
            self._check_paths(owner)

    def _check_paths(self, owner: str) -> None:
        """Tell of arguments without a path to the result, where numbers were taken out of Tensors on the way."""
        sinks = [y.node for y in self.outputs if y.node is not None]
        reached = nodes_between([x.node for x in self.inputs], sinks)
        lost = [i for i, x in enumerate(self.inputs) if x.node not in reached]
        if not lost:
            return
        which = "the arguments" if len(self.inputs) == len(lost) else f"differentiated tensors {lost}"
        told = (
            f"{owner}: no recorded op leads from {which} to the result, and numbers were taken out of Tensors on the "
            "way, by float(), .item(), .numpy() or math.*. Derivatives pass through mg.exp, mg.log and their kin only; "
            "of what is only looked at say x.detach() first."
        )
        if len(lost) == len(self.inputs):
            raise GradientError(told)
        warnings.warn(told, UserWarning, stacklevel=4)

    def _point(self, x: Tensor) -> Tensor:
        if self.recording and x.node is not None:
            return x.reshape(x.shape)
        return Tensor(x.data, leaf(x.data))

    def _reaches_beyond(self) -> bool:
        """Whether the result depends on tensors with gradients other than the points."""
        if any(x.node is not None for x in self.given):
            return True
        stack = [x.node for x in (*self.outputs, *flatten(self.aux)[0]) if isinstance(x, Tensor) and x.node is not None]
        seen = {x.node for x in self.inputs}
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            if node.plan is None:
                return True
            seen.add(node)
            stack.extend(parent for parent in node.parents if parent is not None)
        return False

    # --- results ---

    def value(self) -> Tree:
        """The result as the caller gets it: detached unless `connected`."""
        return self._released(self.out)

    def side(self) -> Tree:
        """The second result of a function with `has_aux`."""
        return self._released(self.aux)

    def _released(self, tree: Tree) -> Tree:
        if self.connected:
            return tree
        return map_leaves(lambda x: x.detach() if isinstance(x, Tensor) else x, tree)

    def arguments(self, values: Sequence[Any]) -> tuple[Tree, ...]:
        """One tree for each differentiated argument, of values for their leaves."""
        rest = iter(values)
        return tuple(rebuild([next(rest) for _ in range(count)]) for count, rebuild in self.trees)


def normal_argnums(argnums: int | Sequence[int], args: Sequence, what: str) -> tuple[int, ...]:
    """`argnums` as a tuple of positions from 0; an error for one that is not there."""
    given = tuple(argnums) if isinstance(argnums, Sequence) else (int(argnums),)
    for number in given:
        if not -len(args) <= number < len(args):
            raise ValueError(
                f"{what}: argnums={argnums} for a function called with {len(args)} positional arguments; "
                "differentiated arguments must be given by position."
            )
    numbers = tuple(number % len(args) for number in given)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{what}: argnums={argnums} names an argument twice; name each once.")
    return numbers


def scalar_of(trace: Trace, what: str) -> Tensor:
    """The result, which must be a single number."""
    if form(trace.out) != "*" or trace.outputs[0].size != 1:
        shapes = " and ".join(str(y.shape) for y in trace.outputs)
        what_came = f"{form(trace.out)}, where * has shape {shapes}" if shapes else form(trace.out)
        raise GradientError(
            f"{what}: the function returned {what_came}; a gradient is that of a single number. Reduce it, as with "
            ".sum()" + (", say has_aux=True if it returns (number, more), or use jacobian." * (what == "grad") or ".")
        )
    if trace.outputs[0].dtype.kind != "f":
        raise GradientError(
            f"{what}: the function returned {trace.outputs[0].dtype}, and integers and bools have no derivative; "
            "leave out what turned the values into them."
        )
    return trace.outputs[0]


def _without_graph(owner: str, value: Any) -> str:
    return (
        f"{owner}: the function returned a {type(value).__name__}, not a Tensor, so its result does not depend on the "
        "arguments through recorded ops, and has no derivative. Return the Tensor: leave out float(), .item(), "
        ".numpy() and math.*, and write mg.exp for math.exp or np.exp."
    )


def _float_tensor(x: Any, number: int) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(
            f"argument {number} holds {x.dtype}; only floating-point values can be differentiated. "
            "Leave it out of argnums, or convert it with .astype(float)."
        )
    return x


def _with_aux(out: Tree) -> tuple[Tree, Tree]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"has_aux=True: the function must return a pair (result, more); it returned {form(out)}.")
    return out
