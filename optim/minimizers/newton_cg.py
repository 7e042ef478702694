"""Newton's method without a matrix: conjugate gradients on products of the Hessian with vectors, stopped early.

After this file you know three ways to solve H p = -g only as well as is worth it, from products that cost a few
gradients each: up to a tolerance that tightens as the gradient falls; up to the border of a trust region; and, damped
and with Gauss-Newton's matrix in place of H, for neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad import Tensor, grad, no_grad
from minigrad.backend import Array, namespace
from minigrad.linalg import iterative
from minigrad.transforms import vjp
from minigrad.transforms.trace import Trace
from minigrad.transforms.trees import flatten

from ..solve.objective import Point
from ..solve.vectors import length_of
from .newton import Curved, cauchy_step, clearly, is_finite, steepest_step

Product = Callable[[Array], Array]


class NewtonCG(Curved):
    """An approximate Newton step: -H^-1 g up to a residual of eta |g|; or Steihaug's, within a radius.

    eta falls with the square of the gradient's decrease over the last step (Eisenstat & Walker 1996, choice 2): loose
    far away, where a better solution would be wasted, tight near the minimum, where it makes convergence superlinear.

    Parameters
    ----------
    max_products : int or None
        Products with the Hessian for one step, at most; None: twice as many as there are variables.
    """

    loosest = 0.5
    """The largest eta."""

    def __init__(self, max_products: int | None = None):
        super().__init__()
        if max_products is not None and max_products < 1:
            raise ValueError(f"NewtonCG: max_products must be 1 or more, got {max_products!r}.")
        self.max_products = max_products
        self.eta = self.loosest

    def product(self, here: Point) -> Product:
        """The function v -> H v at a point."""
        return here.hvp

    def along(self, here: Point) -> Array:
        """Where a direction d of negative curvature is met, the solution so far, and d besides, as far as if its
        curvature were positive (after Nocedal & Wright 2006, algorithm 7.1, which takes d only if it is the first)."""
        length = length_of(here.g)
        if self.steepest or not length > 0:
            return steepest_step(here)
        product = self.product(here)
        found = iterative.cg(product, -here.g / length, rtol=self.eta, maxiter=self.limit(here))
        if not self.sees(here, found.residual_norm):
            return steepest_step(here)
        if found.direction is None:
            return length * found.x
        d = found.direction
        curvature, most = abs(float(d @ product(d))), 10 * max(1.0, length_of(here.x)) / length / length_of(d)
        t = min(float(found.residual_norm) ** 2 / curvature, most) if curvature > 0 else most
        return length * (found.x + t * d)

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        product = self.product(here)
        if self.steepest:
            return cauchy_step(here.g, float(here.g @ product(here.g)), radius)
        p, predicted = steihaug(product, here.g, radius, self.eta, self.limit(here))
        if not self.sees(here, p):
            return cauchy_step(here.g, 0.0, radius)
        return p, predicted

    def limit(self, here: Point) -> int:
        return self.max_products or max(20, 2 * here.x.size)

    def way_down(self, here: Point) -> Array | None:
        return negative_curvature(here.hvp, here.x)

    def learn(self, old: Point, new: Point) -> None:
        super().learn(old, new)
        before = 0.9 * self.eta**2
        eta = 0.9 * (length_of(new.g) / length_of(old.g)) ** 2 if length_of(old.g) > 0 else self.loosest
        self.eta = min(self.loosest, max(eta, before) if before > 0.1 else eta)


def steihaug(product: Product, g: Array, radius: float, eta: float, limit: int) -> tuple[Array, float]:
    """A p, |p| <= radius, that makes the model g'p + p'Hp / 2 low, and by how much (Steihaug 1983).

    Conjugate gradients from 0, whose iterates become longer and the model lower with every step; where the next one
    would leave the region, or the curvature is not positive, p goes on to the border and ends there. NaN if a
    product is NaN.
    """
    size = length_of(g)
    if not size > 0:
        return -g, 0.0
    p, predicted = _steihaug(product, g / size, radius / size, eta, limit)
    return size * p, size * predicted * size


def _steihaug(product: Product, g: Array, radius: float, eta: float, limit: int) -> tuple[Array, float]:
    """The same for a g of length 1, whose squares do not overflow."""
    p, r, d = namespace(g).zeros_like(g), g, -g
    rr, predicted = float(r @ r), 0.0
    for _ in range(limit):
        if rr <= eta * eta:
            break
        Hd = product(d)
        curvature = float(d @ Hd)
        if not math.isfinite(curvature):
            return p + math.nan, math.nan
        t = rr / curvature if curvature > 0 else math.inf
        edge = to_border(p, d, radius)
        if t >= edge:
            return p + edge * d, predicted + edge * rr - 0.5 * edge * edge * curvature
        p, r = p + t * d, r + t * Hd
        predicted += 0.5 * t * rr
        before, rr = rr, float(r @ r)
        d = (rr / before) * d - r
    return p, predicted


def to_border(p: Array, d: Array, radius: float) -> float:
    """The t >= 0 with |p + t d| = radius, for |p| <= radius."""
    a, b, c = float(d @ d), float(p @ d), max(radius * radius - float(p @ p), 0.0)
    root = math.sqrt(b * b + a * c)
    return c / (b + root) if b > 0 else (root - b) / a


def negative_curvature(product: Product, x: Array, steps: int = 30) -> Array | None:
    """A unit vector v with clearly negative v'Hv, by Lanczos' method from a random start; or None if none was found.

    The lowest eigenvalue of a Krylov space comes close to that of H after few products (Kuczynski & Wozniakowski
    1992). Vectors are kept orthogonal explicitly; the space is that of at most `steps` products.
    """
    xp = namespace(x)
    start = xp.asarray(np.random.default_rng(0).standard_normal(x.size).astype(x.dtype))
    basis = [start / length_of(start)]
    alphas: list[float] = []
    betas: list[float] = []
    while True:
        image = product(basis[-1])
        if not is_finite(image):
            return None
        alphas.append(float(basis[-1] @ image))
        for _ in range(2):  # twice is enough
            for v in basis:
                image = image - (v @ image) * v
        beta = length_of(image)
        if len(basis) == min(steps, x.size) or beta <= clearly(x) * max(map(abs, alphas + betas)):
            break
        betas.append(beta)
        basis.append(image / beta)
    values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    if values[0] >= -clearly(x) * max(abs(values[0]), abs(values[-1])):
        return None
    down = sum(float(share) * v for share, v in zip(vectors[:, 0], basis, strict=True))
    return down / length_of(down)


# --- Hessian-free ---


class Composite(NamedTuple):
    """A function to minimize with its two parts apart, as `HessianFree` needs them: loss(model(x, *args)).

    model : from x to predictions z, Tensors or a tree of them
    loss : from z to one number; convex, so that its Hessian has no negative eigenvalues
    """

    model: Callable
    loss: Callable

    def __call__(self, x: Any, *args: Any) -> Any:
        return self.loss(self.model(x, *args))


class HessianFree(NewtonCG):
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
        """v -> G v, without damping; the record of the model at a point serves all products there."""
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
