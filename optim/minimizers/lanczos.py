"""Negative curvature from products with the Hessian alone, by Lanczos' method."""

from __future__ import annotations

import numpy as np

from minigrad.backend import Array, namespace

from ..solve.vectors import is_finite, length_of, root_of_rounding
from .steihaug import Product


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
        if len(basis) == min(steps, x.size) or beta <= root_of_rounding(x) * max(map(abs, alphas + betas)):
            break
        betas.append(beta)
        basis.append(image / beta)
    values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    if values[0] >= -root_of_rounding(x) * max(abs(values[0]), abs(values[-1])):
        return None
    down = sum(float(share) * v for share, v in zip(vectors[:, 0], basis, strict=True))
    return down / length_of(down)
