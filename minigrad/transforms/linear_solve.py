"""A solver as a differentiable function: the derivative of a solution is another solution.

After this file you know why a solver's steps are not recorded. A x = b says dx = A^-1 (db - dA x) (the implicit
function theorem), so that a gradient g of x becomes u = A^-T g for b, and the gradient of -u'A x, x held fixed, for
whatever A is made of. u comes from a solver too, with the transposed operator. Written with Tensors, it is such a
solution itself: derivatives of any order follow from this one rule.

The tensors that a function A closes over are found by the clock: run once on a new vector, it leaves a graph, and the
nodes in it that are older than the run came from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minigrad.autograd import forward, reverse
from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.grad_mode import grad_mode, no_grad, recording
from minigrad.autograd.levels import levels_of
from minigrad.autograd.node import Node, leaf, leaf_was_written_since, nodes_between, tick, viewed
from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor, array_of, as_tensor
from minigrad.backend import Array, bare, give_to_all, namespace
from minigrad.ops.linalg.iterative import ConvergenceError
from minigrad.ops.linalg.matrices import some
from minigrad.ops.linalg.operators import column_norm, threshold
from minigrad.ops.shapes import concatenate

Apply = Callable[[Array], Array]
Solver = Callable[[Apply, Array, Array], Array]  # (v -> A v, right-hand side, how long its residual may be) -> x

ROUNDS = 4  # calls of a solver; after the first they correct x by what is left of the residual


def custom_linear_solve(
    matvec: Callable[[Tensor], Tensor],
    b: ArrayLike,
    solve: Callable[[Apply, Array], Array],
    transpose_solve: Callable[[Apply, Array], Array] | None = None,
    symmetric: bool = False,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
) -> Tensor:
    """x with matvec(x) = b by a solver of yours, differentiable to any order: `jax.lax.custom_linear_solve`.

    Parameters
    ----------
    matvec : a linear function of a Tensor of b's shape, which may close over Tensors that need gradients
    b : Tensor or array (n,) or (n, k)
    solve : (v -> A v, right-hand side) -> x, all of them arrays; nothing in it is recorded
    transpose_solve : the same for the transposed operator, (v -> A'v, right-hand side) -> x; by default `solve`
    symmetric : whether A = A', so that matvec serves for the transposed operator too
    rtol, atol : |b - A x| <= max(rtol |b|, atol) is checked, of derivatives likewise

    An x that misses the tolerance is corrected by solving for its residual, up to three times. Raises ConvergenceError
    if the tolerance is still missed, ShapeError if matvec changes the shape, and GradientError if a derivative is asked
    for and matvec's result was not computed from its argument by ops.
    """
    back = transpose_solve or solve
    system = System(
        matvec,
        lambda apply, r, allowed: solve(apply, r),
        matvec if symmetric else None,
        lambda apply, r, allowed: back(apply, r),
        rtol,
        atol,
        "custom_linear_solve",
    )
    return solution_of(system, right_hand_side("custom_linear_solve", b))


@dataclass(eq=False)
class System:
    """A linear operator with the solvers for it and for its transpose.

    function, transposed : v -> A v and v -> A'v on Tensors; `transposed` None: found by differentiating `function`
    solve, transpose_solve : solvers on arrays
    rtol, atol : the tolerances of a residual
    x0 : where the first solver may start
    original : the system whose transpose this one is, where `function` differentiates that one's
    shape : of the right-hand side
    outside : the nodes of the tensors that A is made of, other than its argument
    order : the creation number at which `outside` was found
    """

    function: Callable[[Tensor], Tensor]
    solve: Solver
    transposed: Callable[[Tensor], Tensor] | None
    transpose_solve: Solver
    rtol: float
    atol: float
    name: str
    x0: Array | None = None
    original: System | None = None
    shape: tuple[int, ...] = ()
    outside: tuple[Node, ...] = ()
    order: int = field(default_factory=tick)

    def __repr__(self) -> str:
        return f"<{self.name} {self.shape}>"

    @property
    def symmetric(self) -> bool:
        return self.transposed is self.function

    def transpose(self) -> System:
        """The system of A'."""
        if self.original is not None:
            return replace(self.original, x0=None)
        return replace(
            self,
            function=self.transposed or self.pulled_through,
            solve=self.transpose_solve,
            transposed=self.function,
            transpose_solve=self.solve,
            name=self.name if self.symmetric else f"{self.name}, transposed",
            x0=None,
            original=None if self.transposed else self,
        )

    def __call__(self, v: Tensor) -> Tensor:
        """A v, recorded if gradients are enabled."""
        return self.checked(as_tensor(self.function(v)), v)

    def checked(self, image: Any, v: Any) -> Any:
        """`image`, which must have the shape of v."""
        if image.shape != v.shape:
            raise ShapeError(
                f"{self.name}: A made {image.shape} of a vector of shape {v.shape}; it must keep the shape. "
                "For other matrices see lsmr and lstsq."
            )
        return image

    def on_arrays(self, like: Array) -> Apply:
        """v -> A v on arrays, without a graph."""
        original = self.original
        if original is None:
            return lambda v: array_of(self(Tensor(v)))
        v, image = original.trace(like)  # one graph serves for all products
        return lambda u: original.walk(image, u, v, [v.node])[0]

    def pulled_through(self, u: Tensor) -> Tensor:
        """A'u: u pulled back through A, recorded so that it can be differentiated again."""
        v, image = self.trace(namespace(u.data).zeros_like(u.data))
        return as_tensor(self.walk(image, u, v, [v.node])[0])

    def trace(self, x: Tensor | Array) -> tuple[Tensor, Tensor]:
        """(v, A v) recorded, for a v with the value of x that is not connected to x, unless x is a Tensor."""
        with recording():
            v = x.clone() if isinstance(x, Tensor) and x.node is not None else _point(array_of(x))
            return v, self(v)

    def walk(self, image: Tensor, u: Tensor | Array, v: Tensor, ends: Sequence[Node]) -> list[Any]:
        """Gradients of u'A v at the nodes `ends`; the walk stops at them and at v. Recorded if u is a Tensor."""
        if image.node is None:
            raise GradientError(
                f"{self.name}: A v was not computed from v by ops, so A has no transpose to differentiate with. Write "
                "A with ops on Tensors, or state symmetric=True."
            )
        found = dict.fromkeys(ends)
        _WalkWithin({v.node, *ends}, isinstance(u, Tensor), found).run([(image.node, u)])
        xp = namespace(array_of(u))
        return [xp.zeros(tuple(node.shape), node.dtype) if g is None else g for node, g in found.items()]

    # --- solving ---

    def solution(self, b: Array, x0: Array | None = None) -> Array:
        """x with A x = b, all of them arrays; ConvergenceError if its residual, computed anew, is too long."""
        with no_grad():
            apply = self.on_arrays(b)
            allowed = threshold(b, self.rtol, self.atol)
            x, r = (namespace(b).zeros_like(b), b) if x0 is None else (x0, b - apply(x0))
            for _ in range(ROUNDS):
                if not some(~(column_norm(r) <= allowed)):
                    return x
                x = x + self.checked(self.solve(apply, r, allowed), b)
                r = b - apply(x)
        norm = column_norm(r)
        if not some(~(norm <= allowed)):
            return x
        left, most = (float(bare(x).max()) for x in (norm, allowed))
        raise ConvergenceError(
            f"{self.name}: a residual |b - A x| = {left:.3g} is left where {most:.3g} was asked for, and solving for "
            "it again does not help. Rounding allows no better, or A is not linear, or lacks what the solver needs "
            "(rank, symmetry): try a larger rtol, float64, or a direct solver (solve, lstsq)."
        )

    def solve_for(self, b: Any) -> Any:
        """The solution for a Tensor, recorded, or for an array."""
        return solution_of(self, b) if isinstance(b, Tensor) else self.solution(b)

    def check_unchanged(self) -> None:
        """Raise if a tensor that A is made of was written to since the solve: the derivative would see another A."""
        for node in self.outside:
            if leaf_was_written_since(node, self.order):
                root = viewed(node)
                raise GradientError(
                    f"derivative through {self.name}: {root.name or 'a tensor'} {root.shape}, which A is made of, "
                    "was changed in place after the solve (by an optimizer step, copy_ or mark_dirty); solve again."
                )

    def check_symmetric(self, g: Array, image: Array) -> None:
        """Raise if u, which solves A u = g, does not solve A'u = g: A is not symmetric as it should be."""
        wrong = column_norm(g - image)
        allowed = 10 * threshold(g, self.rtol, self.atol) + np.finfo(g.dtype).eps ** 0.5 * column_norm(g)
        if some(~(wrong <= allowed)):
            raise GradientError(
                f"derivative through {self.name}: A is not symmetric, as it must be for this solver, so that its "
                "derivative would be wrong. Make it so, as with (A + A.T) / 2, or use solve."
            )


class _WalkWithin(reverse._Pass):
    """A backward pass that ends at the nodes `border`, though some of them may come from others of them."""

    def __init__(self, border: set[Node | None], create_graph: bool, captured: dict[Node, Any]):
        super().__init__(True, create_graph, captured)
        self.border = border

    def pull(self, node: Node, gradient: Any) -> None:
        if node not in self.border:
            super().pull(node, gradient)


# --- the op ---


def right_hand_side(name: str, b: ArrayLike) -> Tensor:
    """b as a Tensor of floats, a vector or columns."""
    b = as_tensor(b)
    if b.ndim not in (1, 2):
        raise ShapeError(f"{name}: a right-hand side of shape {b.shape}; expected a vector (n,) or columns (n, k).")
    return b if b.dtype.kind == "f" else b.astype(np.float64)


def solution_of(system: System, b: Tensor) -> Tensor:
    """The solution as a Tensor, recorded where b, or what A is made of, needs gradients."""
    outside = _outside(system, b) if grad_mode.enabled else ()
    system = replace(system, shape=b.shape, outside=outside, order=tick())
    parts = [b.reshape((-1,)), *(_placeholder(node, b).reshape((-1,)) for node in system.outside)]
    return _linear_solve(concatenate(parts) if len(parts) > 1 else parts[0], system=system)


@primitive(symbol="A^-1", local="A^-1 (.)")
def _linear_solve(packed: Any, system: System) -> Array:
    """The solution for the right-hand side in front in `packed`.

    Behind it stand placeholders for what A is made of: their values are in A already, but their gradients arrive here.
    So one rule gives all gradients, from one solve.
    """
    b = packed[: prod(system.shape)].reshape(system.shape)
    return system.solution(b, system.x0)


def _back(g: Any, out: Any, system: System) -> Any:
    system.check_unchanged()
    with _examples_apart(out):
        u, gradients = system.transpose().solve_for(g), []
        if system.symmetric:
            v, image = system.trace(out)
            pulled, *gradients = system.walk(image, u, v, [v.node, *system.outside])
            system.check_symmetric(array_of(g), array_of(pulled))
        elif system.outside:
            v, image = system.trace(out)
            gradients = system.walk(image, u, v, system.outside)
    return concatenate([u.reshape((-1,)), *(-h.reshape((-1,)) for h in gradients)])


def _on(tangent: Any, out: Any, system: System) -> Any:
    system.check_unchanged()
    size = prod(system.shape)
    b_tangent = tangent[:size].reshape(system.shape)
    if system.outside:
        b_tangent = b_tangent - _moved(system, out, _cut(tangent[size:], system.outside))
    return replace(system, x0=None).solve_for(b_tangent)


_linear_solve.defvjp(packed=_back)
_linear_solve.defjvp(packed=_on)


def _moved(system: System, x: Any, tangents: Iterable[Any]) -> Any:
    """The tangent of A x for a fixed x, when what A is made of moves along the tangents."""
    start = tick()
    _, image = system.trace(x)
    moving = dict(zip(system.outside, tangents, strict=True))
    for node in nodes_between(moving, [image.node]):
        if node.order > start:  # nodes up to x, from which v may have been copied, are older
            moving[node] = forward.push_through(node, moving, isinstance(x, Tensor))
    return moving[image.node]


def _cut(packed: Any, nodes: Sequence[Node]) -> Iterator[Any]:
    """The parts of `packed` that belong to the nodes, in their shapes and dtypes."""
    start = 0
    for node in nodes:
        stop = start + prod(node.shape)
        yield packed[start:stop].reshape(tuple(node.shape)).astype(node.dtype)
        start = stop


# --- what A is made of ---


def _point(array: Array) -> Tensor:
    return Tensor(array, leaf(array))


def _outside(system: System, b: Tensor) -> tuple[Node, ...]:
    """The nodes from outside that A v is computed from."""
    start = tick()
    v, image = system.trace(namespace(b.data).zeros_like(b.data))
    found: dict[Node, None] = {}
    stack, seen = [image.node] if image.node is not None else [], set()
    while stack:
        node = stack.pop()
        if node.order < start:  # older
            found[node] = None
        elif node not in seen:
            seen.add(node)
            stack.extend(parent for parent in node.parents if parent is not None)
    if v.node not in seen and (found or b.node is not None):
        raise GradientError(
            f"{system.name}: A v was not computed from v by ops, so that derivatives through it would be lost. "
            "Write A with ops on Tensors; for what is constant solve under no_grad()."
        )
    return tuple(found)


def _placeholder(node: Node, b: Tensor) -> Tensor:
    """A Tensor of zeros for a node, batched at the levels of a vmap at which the node is."""
    array = namespace(b.data).zeros(tuple(node.shape), node.dtype)
    for level in reversed(getattr(node.shape, "levels", ())):
        array = give_to_all(array, level)
    return Tensor(array, node)


@contextmanager
def _examples_apart(out: Any) -> Iterator[None]:
    """Inside, each example that `out` stands for has a gradient of its own, even after the vmap has ended.

    The engine sums over the examples where the rule's result arrives, so they must not be summed here too.
    """
    levels = list(levels_of(out))
    before = [(level, level.open) for level in levels]
    for level in levels:
        level.open = True
    try:
        yield
    finally:
        for level, was_open in before:
            level.open = was_open
