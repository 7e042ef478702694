"""Hessian-free optimization, for neural networks: Newton-CG with Gauss-Newton's matrix in place of the Hessian, damped.

After this file you know why that matrix suits a network: it has no negative eigenvalues where the loss is convex, and
its product with a vector is one push through the model, one product with the loss's Hessian, and one pull back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad import Tensor, grad, no_grad
from minigrad.backend import Array
from minigrad.linalg import iterative
from minigrad.transforms import vjp
from minigrad.transforms.trace import Trace
from minigrad.transforms.trees import flatten

from ..solve.objective import Point
from .curved_direction import steepest_step
from .newton_cg import NewtonCGDirection
from .steihaug import Product


class Composite(NamedTuple):
    """A function to minimize with its two parts apart, as the method "hessian-free" needs them: loss(model(x, *args)).

    model : from x to predictions z, Tensors or a tree of them
    loss : from z to one number; convex, so that its Hessian has no negative eigenvalues
    """

    model: Callable
    loss: Callable

    def __call__(self, x: Any, *args: Any) -> Any:
        return self.loss(self.model(x, *args))


class HessianFreeDirection(NewtonCGDirection):
    """Gauss-Newton by conjugate gradients, with damping (Martens 2010): (G + damping I) p = -g.

    G = J' H_loss J, of the model's Jacobian J and the loss's Hessian, is H without the curvature of the model: never
    negative where the loss is convex. Conjugate gradients start from the last step, shortened. The damping follows how
    much of the promised decrease came, as in Levenberg-Marquardt. The function must be a `Composite`.

    Parameters
    ----------
    damping : float
        At the start, relative to the curvature along the gradient.
    max_products : int
        Products with G for one step, at most.
    """

    loosest = 0.05

    def __init__(self, damping: float = 0.01, max_products: int = 250):
        super().__init__(max_products)
        if not 0 <= damping < math.inf:
            raise ValueError(f"HessianFree: damping must be a number >= 0, got {damping!r}.")
        self.relative_damping = damping
        self.damping: float | None = None
        self.last_step: Array | None = None
        self.known: tuple[Point, Product] | None = None

    def product(self, here: Point) -> Product:
        """v -> G v, without damping; the graph of the model at a point serves all products there."""
        if self.known is None or self.known[0] is not here:
            self.known = here, gauss_newton_products(here)
        return self.known[1]

    def along(self, here: Point) -> Array:
        if self.steepest:
            return steepest_step(here)
        product = self.product(here)
        damping = self.first_damping(here, product) if self.damping is None else self.damping
        self.damping = damping
        start = None if self.last_step is None else 0.95 * self.last_step
        found = iterative.cg(
            lambda v: product(v) + damping * v, -here.g, x0=start, rtol=self.eta, maxiter=self.limit(here)
        )
        if not self.sees(here, found.residual_norm) or not float(here.g @ found.x) < 0:
            return steepest_step(here)
        return found.x

    def first_damping(self, here: Point, product: Product) -> float:
        size = float(here.g @ here.g)
        return self.relative_damping * abs(float(here.g @ product(here.g))) / size if size > 0 else 0.0

    def learn(self, old: Point, new: Point) -> None:
        """The rule of Martens 2010, section 4.1, for a step that the line search may have shortened."""
        p = new.x - old.x
        predicted = -float(old.g @ p) - 0.5 * float(p @ self.product(old)(p))
        right = (old.f - new.f) / predicted if predicted > 0 else 0.0
        if self.damping is not None and not self.steepest:
            self.damping *= 2 / 3 if right > 0.75 else 3 / 2 if right < 0.25 else 1.0
        self.last_step = p
        super().learn(old, new)

    def forget(self) -> None:
        super().forget()
        self.last_step = None
        self.damping = None if self.damping is None else 10 * self.damping


def gauss_newton_products(here: Point) -> Product:
    """v -> J' H_loss J v at a point: pushed through the model, through the loss's Hessian, and pulled back."""
    objective = here.objective
    if not isinstance(objective.fun, Composite):
        raise TypeError(
            f"{objective.owner}: hessian-free needs the model and the loss apart; give it Composite(model, loss) "
            "instead of the function, or choose newton-cg, which needs the function alone."
        )
    variables, (model, loss) = objective.variables, objective.fun
    with no_grad(), np.errstate(all="ignore"):
        trace = Trace(model, (variables.tensors(here.x), *objective.args), {}, (0,))
        through_loss = vjp(grad(loss), trace.value())[1]
    rebuild = flatten(trace.out)[1]

    def product(v: Array) -> Array:
        objective.nhev += 1
        with no_grad(), np.errstate(all="ignore"):
            pushed = trace.push([Tensor(leaf) for leaf in variables.leaves(v)])
            (pulled,) = through_loss(rebuild(pushed))
            return variables.flat(trace.pull(flatten(pulled)[0]))

    return product
