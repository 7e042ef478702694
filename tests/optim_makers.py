"""What several tests of the optimizers need: all combinations of options, parameters, steps with given gradients."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim import optimizer as walk

OPTIMIZERS = {
    "SGD": {
        "momentum": [0, 0.9],
        "dampening": [0, 0.3],
        "weight_decay": [0, 0.1],
        "nesterov": [False, True],
        "maximize": [False, True],
    },
    "Adam": {
        "betas": [(0.9, 0.999), (0.5, 0.9)],
        "weight_decay": [0, 0.1],
        "amsgrad": [False, True],
        "maximize": [False, True],
    },
    "AdamW": {"eps": [1e-8, 1e-3], "weight_decay": [0, 0.1], "amsgrad": [False, True], "maximize": [False, True]},
}
"""For each optimizer the options tried, in all combinations that are allowed."""


def combinations(name):
    grid = OPTIMIZERS[name]
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        if not (options.get("nesterov") and (not options["momentum"] or options["dampening"])):
            yield options


CASES = [pytest.param(name, options, id=f"{name} {options}") for name in OPTIMIZERS for options in combinations(name)]


def leaves(*arrays):
    return [mg.tensor(array, requires_grad=True) for array in arrays]


def run(optimizer, params, gradients):
    """Give the parameters each row of gradients in turn, None for no gradient, with a step after each row."""
    for row in gradients:
        optimizer.zero_grad()
        for p, g in zip(params, row, strict=True):
            if g is not None:
                p.grad = mg.tensor(g)
        optimizer.step()


def values(params):
    return [p.detach().numpy().copy() for p in params]


def assert_close(found, expected, rtol):
    """Within rtol of the largest entry."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.max(np.abs(b), initial=0))


# --- however the parameters lie in memory ---

SHAPES = [(), (1,), (0,), (7,), (3, 5), (2, 3, 4), (walk.SMALL + 1,), (70, 90)]
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": lambda a: np.array(a, order="F"),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
}


def check_against_the_formula(situation, by_formula, rtol):
    """Steps on parameters of any shapes, dtypes and layouts, of which some have no gradient at times."""
    name, options, shapes, dtypes, layouts, present, seed = situation
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal(s).astype(d) for s, d in zip(shapes, dtypes, strict=True)]
    params = [mg.Tensor(LAYOUTS[x](a.copy())).requires_grad_() for x, a in zip(layouts, start, strict=True)]
    # Away from 0: many divide by a root to which epsilon is added, where float32 has few digits of small squares left.
    gradients = [
        [
            (rng.choice([-1, 1], s) * rng.uniform(0.1, 1, s)).astype(d) if here else None
            for s, d, here in zip(shapes, dtypes, row, strict=True)
        ]
        for row in present
    ]
    run(getattr(optim, name)(params, **options), params, gradients)
    exact = [[None if g is None else g.astype("f8") for g in row] for row in gradients]
    expected = by_formula(name, options, [a.astype("f8") for a in start], exact)
    for p, e, d in zip(params, expected, dtypes, strict=True):
        assert p.dtype == d
        assert_close(values([p]), [e], rtol[d])
