"""gradcheck and gradgradcheck: is a derivative the derivative?

After this file you know how: move the inputs a little along a random direction u, see how much the output, weighed with
random v, changes; that must be v'Ju, which reverse mode gives as <J'v, u> and forward mode as <v, Ju>. Random
directions, never ones: ones hide errors that cancel in sums. The tolerance is relative to the size of the derivative
plus what rounding in f itself can explain, so that a small wrong gradient is found as surely as a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minigrad.autograd.arguments import as_list
from minigrad.autograd.forward import push
from minigrad.autograd.grad_mode import enable_grad, no_grad
from minigrad.autograd.reverse import grad
from minigrad.autograd.tensor import Tensor
from minigrad.creation import tensor


class GradcheckError(AssertionError):
    """A derivative that disagrees with finite differences; the message says which, and by how much."""


def gradcheck(
    f: Callable,
    inputs: Tensor | Sequence[Tensor],
    *,
    eps: float = 1e-3,
    rtol: float = 1e-6,
    directions: int = 2,
    seed: int = 0,
    forward: bool = True,
) -> bool:
    """Compare the first derivatives of `f` with central differences along random directions.

    Parameters
    ----------
    f : function of Tensors that gives a Tensor, or a tuple of them
    inputs : float64 Tensors; those that require gradients are checked, one by one and then together
    eps : step, relative to the size of the input; differences are extrapolated (Richardson), so their error is eps^4
    rtol : allowed difference relative to the derivative
    directions : random directions tried for each input
    forward : also check forward mode

    Returns True. Raises GradcheckError where a derivative is wrong, TypeError for inputs that are not float64.
    """
    inputs = as_list(inputs)
    checked = _checked(inputs)
    random = np.random.default_rng(seed)
    sets = [[i] for i in checked] + ([checked] if len(checked) > 1 else [])
    for moved in sets:
        for _ in range(directions):
            _check_along(f, inputs, moved, random, eps, rtol, forward)
    return True


def gradgradcheck(f: Callable, inputs: Tensor | Sequence[Tensor], **options) -> bool:
    """The same for second derivatives: gradcheck of the gradients of `f`, in its inputs and in the cotangent."""
    inputs = as_list(inputs)
    checked = _checked(inputs)
    with no_grad():
        outputs = as_list(f(*inputs))
    random = np.random.default_rng(options.get("seed", 0) + 1)
    cotangents = [_random_like(y, random) for y in outputs if y.dtype.kind == "f"]

    def gradients(*arguments):
        points, vs = arguments[: len(inputs)], arguments[len(inputs) :]
        points = [_differentiable(x) if i in checked else x for i, x in enumerate(points)]
        results = [y for y in as_list(f(*points)) if y.requires_grad]
        wanted = [points[i] for i in checked]
        found = grad(results, wanted, list(vs[: len(results)]), create_graph=True, allow_unused=True)
        # an input that the result does not depend on has gradient zero
        return tuple(x * 0 if g is None else g + x * 0 for g, x in zip(found, wanted, strict=True))

    return gradcheck(gradients, [*inputs, *(v.requires_grad_() for v in cotangents)], **options)


def _checked(inputs: Sequence) -> list[int]:
    """Which inputs to check: those that require gradients, which must be float64."""
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: none of the inputs requires a gradient, so there is nothing to check.")
    for i in checked:
        if inputs[i].dtype != np.float64:
            raise TypeError(
                f"gradcheck: input {i} is {inputs[i].dtype}; differences need float64, as in x.astype(float64)."
            )
    return checked


def _differentiable(x: Tensor) -> Tensor:
    """A tensor with x's values to take gradients at; connected to x where x is tracked."""
    return x.clone() if x.requires_grad else x.detach().requires_grad_()


def _random_like(x: Tensor, random: np.random.Generator) -> Tensor:
    return tensor(random.standard_normal(x.shape), dtype=x.dtype, device=x.device)


def _check_along(f, inputs, moved, random, eps, rtol, forward) -> None:
    """One direction u for the moved inputs, one cotangent v for the outputs: all ways to v'Ju must agree."""
    directions = {i: _random_like(inputs[i], random) for i in moved}
    points = [tensor(x, requires_grad=True) if i in moved else x for i, x in enumerate(inputs)]
    with enable_grad():
        outputs = [y for y in as_list(f(*points)) if y.dtype.kind == "f"]
    cotangents = [_random_like(y, random) for y in outputs]
    numeric, noise = _difference(f, inputs, directions, cotangents, eps)
    scale = max(abs(numeric), 1e-300)
    what = f"input{'s' if len(moved) > 1 else ''} {', '.join(map(str, moved))} of shape {inputs[moved[0]].shape}"

    reverse = 0.0
    tracked = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if tracked:
        ys, vs = zip(*tracked, strict=True)
        wanted = [points[i] for i in moved]
        found = grad(ys, wanted, list(vs), retain_graph=True, allow_unused=True)
        reverse = sum(_inner(g, directions[i]) for i, g in zip(moved, found, strict=True) if g is not None)
    _compare("reverse mode", what, reverse, numeric, rtol * scale + noise)
    if forward and tracked:
        tangents = push(ys, wanted, [directions[i] for i in moved])
        pushed = sum(_inner(v, t) for v, t in zip(vs, tangents, strict=True) if t is not None)
        _compare("forward mode", what, pushed, numeric, rtol * scale + noise)


def _difference(f, inputs, directions, cotangents, eps) -> tuple[float, float]:
    """v'Ju by central differences with steps eps and eps/2, extrapolated; and the error that rounding may have made."""

    def value(step: float) -> tuple[float, float]:
        moved = [
            x.detach() + directions[i] * step if i in directions else x.detach() if isinstance(x, Tensor) else x
            for i, x in enumerate(inputs)
        ]
        with enable_grad():  # f may itself take gradients
            moved = [x.requires_grad_() if i in directions else x for i, x in enumerate(moved)]
            outputs = [y for y in as_list(f(*moved)) if y.dtype.kind == "f"]
        parts = [v.numpy() * y.detach().numpy() for v, y in zip(cotangents, outputs, strict=True)]
        return float(sum(p.sum() for p in parts)), float(sum(np.abs(p).sum() for p in parts))

    largest = max((float(np.abs(inputs[i].detach().numpy()).max(initial=0.0)) for i in directions), default=1.0)
    step = eps * min(max(largest, 0.1), 1.0)
    (up, size), (down, _) = value(step), value(-step)
    (up_half, _), (down_half, _) = value(step / 2), value(-step / 2)
    coarse, fine = (up - down) / (2 * step), (up_half - down_half) / step
    rounding = 100 * np.finfo(np.float64).eps * (size + 1e-8) / step
    return (4 * fine - coarse) / 3, rounding + abs(fine - coarse) * 1e-2


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.detach().numpy() * b.detach().numpy()).sum())


def _compare(mode: str, what: str, found: float, numeric: float, allowed: float) -> None:
    if not abs(found - numeric) <= allowed:
        raise GradcheckError(
            f"{mode}: the derivative in {what} along a random direction is {found:.12g}, finite differences say "
            f"{numeric:.12g}; the difference {abs(found - numeric):.3g} is more than {allowed:.3g} allows."
        )
