"""grad, vjp, jvp and related transforms: functions that turn a function into its derivative.

After this file you know that all of them are a recorded call (`Trace`) and then one walk back (`pull`), one walk
forward (`push`), or both. Signatures are those of JAX. Arguments and results may be tuples, lists and dicts of Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar, overload

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.creation import ones_like
from minigrad.transforms.trace import Trace, normal_argnums, scalar_of
from minigrad.transforms.trees import Tree, flatten, flatten_like

P = ParamSpec("P")
R = TypeVar("R")
X = TypeVar("X")
Aux = TypeVar("Aux")


def grad(f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[P, Tree]:
    """The function that computes the gradient of `f`, which must return a single number.

    Parameters
    ----------
    argnums : the positional arguments to differentiate by; for a tuple of them the gradient is a tuple
    has_aux : f returns (number, more); the result is then (gradient, more)

    The gradient has the form, shapes and dtypes of the argument: a Tensor, or a tree of them. What f does not depend
    on has gradient zero. Raises GradientError if f does not return one number, or if it depends on the arguments
    by numbers alone that it took out of Tensors (float, item, math.*); warns where that is so for some of them.
    """
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f, assigned=("__name__", "__doc__"))
    def gradient_of(*args: P.args, **kwargs: P.kwargs) -> Tree:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return gradient_of


def value_and_grad(
    f: Callable[P, Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[P, tuple[Any, Tree]]:
    """The function that computes (value, gradient) of `f` in one go; with `has_aux` ((value, more), gradient)."""

    @wraps(f, assigned=("__name__", "__doc__"))
    def value_and_gradient_of(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, Tree]:
        numbers = normal_argnums(argnums, args, "grad")
        trace = Trace(f, args, kwargs, numbers, has_aux, "grad")
        one = ones_like(scalar_of(trace, "grad").detach())
        gradients = trace.arguments(trace.pull([one], retain_graph=False))
        value = (trace.value(), trace.side()) if has_aux else trace.value()
        return value, gradients if isinstance(argnums, Sequence) else gradients[0]

    return value_and_gradient_of


@overload
def vjp(f: Callable[..., R], *primals: Tree, has_aux: Literal[False] = False) -> tuple[R, Callable[[Tree], tuple]]: ...


@overload
def vjp(
    f: Callable[..., tuple[R, Aux]], *primals: Tree, has_aux: Literal[True]
) -> tuple[R, Callable[[Tree], tuple], Aux]: ...


def vjp(f: Callable[..., Any], *primals: Tree, has_aux: bool = False) -> tuple:
    """(f(*primals), pull): `pull(cotangent)` gives the vector-Jacobian product, a tuple with one entry a primal.

    The cotangent has the form and shapes of the result. `pull` may be called any number of times; it holds the graph
    of the call, and costs about two evaluations of f. With `has_aux` (result, pull, more).
    """
    trace = Trace(f, primals, {}, range(len(primals)), has_aux, "vjp")

    def pull(cotangent: Tree) -> tuple:
        vectors = matching(trace.out, trace.outputs, cotangent, "the cotangent")
        return trace.arguments(trace.pull(vectors))

    return (trace.value(), pull, trace.side()) if has_aux else (trace.value(), pull)


@overload
def jvp(
    f: Callable[..., R], primals: Sequence[Tree], tangents: Sequence[Tree], has_aux: Literal[False] = False
) -> tuple[R, R]: ...


@overload
def jvp(
    f: Callable[..., tuple[R, Aux]], primals: Sequence[Tree], tangents: Sequence[Tree], has_aux: Literal[True]
) -> tuple[R, R, Aux]: ...


def jvp(f: Callable[..., Any], primals: Sequence[Tree], tangents: Sequence[Tree], has_aux: bool = False) -> tuple:
    """(f(*primals), the result's tangent when the primals move along the tangents): a Jacobian-vector product.

    Both are tuples or lists with one entry for each argument of f. With `has_aux` (result, tangent, more).
    """
    trace = Trace(f, _sequence(primals, "primals"), {}, range(len(primals)), has_aux, "jvp")
    moved = trace.out, _pushed(trace, primals, _sequence(tangents, "tangents"))
    trace_value = trace.value()
    return (trace_value, moved[1], trace.side()) if has_aux else (trace_value, moved[1])


@overload
def linearize(f: Callable[..., R], *primals: Tree, has_aux: Literal[False] = False) -> tuple[R, Callable[..., R]]: ...


@overload
def linearize(
    f: Callable[..., tuple[R, Aux]], *primals: Tree, has_aux: Literal[True]
) -> tuple[R, Callable[..., R], Aux]: ...


def linearize(f: Callable[..., Any], *primals: Tree, has_aux: bool = False) -> tuple:
    """(f(*primals), push): `push(*tangents)` is the linear map that f is near the primals; its graph is reused."""
    trace = Trace(f, primals, {}, range(len(primals)), has_aux, "linearize")

    def push(*tangents: Tree) -> Tree:
        return _pushed(trace, primals, tangents)

    return (trace.value(), push, trace.side()) if has_aux else (trace.value(), push)


def hvp(f: Callable[[X], Any], x: X, v: Tree) -> X:
    """The Hessian of `f`, which returns one number, at x, times v; x and v are alike, Tensors or trees of them.

    A few gradients' cost, and no matrix (Pearlmutter 1994). The Hessian is symmetric, so that v may be pulled back
    through the gradient instead of pushed on: reverse mode twice, which here has fewer steps than forward over reverse.
    """
    trace = Trace(grad(f), (x,), {}, (0,))
    return trace.arguments(trace.pull(matching(trace.out, trace.outputs, v, "the vector"), retain_graph=False))[0]


def ggn_vp(f: Callable[[X], Any], x: X, v: Tree, loss: Callable[[Any], Any] | None = None) -> X:
    """The generalised Gauss-Newton matrix J' H J of `loss(f(x))` times v (Schraudolph 2002).

    J is the Jacobian of f at x, H the Hessian of `loss` at f(x); x and v are alike. Without a loss it is half the sum
    of squares, H = 1, and the result J'J v. The matrix is positive semi-definite if the loss is convex.
    """
    trace = Trace(f, (x,), {}, (0,), owner="ggn_vp")
    moved = _pushed(trace, (x,), (v,))
    if loss is not None:
        moved = hvp(loss, trace.value(), moved)
    return trace.arguments(trace.pull(flatten(moved)[0]))[0]


# --- checks of tangents and cotangents ---


def matching(tree: Tree, leaves: Sequence[Tensor], given: Tree, what: str) -> list[Tensor]:
    """The leaves of `given`, which must have the form of `tree` and the shapes of its leaves."""
    values = [as_tensor(value) for value in flatten_like(tree, given, what)]
    for leaf, value in zip(leaves, values, strict=True):
        if leaf.shape != value.shape:
            raise ShapeError(f"{what} has shape {value.shape} where {leaf.shape} was expected.")
    return values


def _pushed(trace: Trace, primals: Sequence[Tree], tangents: Sequence[Tree]) -> Tree:
    vectors = matching(tuple(primals), trace.inputs, tuple(tangents), "the tangent")
    return flatten(trace.out)[1](trace.push(vectors))


def _sequence(values: Sequence[Tree], what: str) -> tuple:
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"jvp: {what} must be a tuple with one entry for each argument; got {type(values).__name__}.")
    return tuple(values)
