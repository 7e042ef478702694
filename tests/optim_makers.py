"""What several tests of the optimizers need: all combinations of options, parameters, steps with given gradients."""

import itertools

import pytest

import minigrad as mg

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
