"""What several tests of the optimizers need: all combinations of options, parameters, steps with given gradients."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.backend import threads
from minigrad.optim import optimizer as walk
from minigrad.serialization import load_state, save_state
from tests.support import strict_backend

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


def check_on_cuda(name, options, by_formula, start, gradients):
    """Steps on the device "cuda", in the arrays that the parameters had before."""
    params = [mg.tensor(a, device="cuda", requires_grad=True) for a in start]
    arrays = [p.data for p in params]
    optimizer = getattr(optim, name)(params, lr=0.01, **options)
    for row in gradients:
        for p, g in zip(params, row, strict=True):
            p.grad = mg.tensor(g, device="cuda")
        optimizer.step()
    assert all(p.data is array for p, array in zip(params, arrays, strict=True))
    expected = by_formula(name, {"lr": 0.01, **options}, start, gradients)
    assert_close([p.detach().numpy() for p in params], expected, 1e-12)


def check_that_a_step_does_not_wait(name, options, steps_before=0):
    """No array crosses between the host and the strict stand-in for a device during a step."""
    p = mg.ones(3, 3, device="cuda", requires_grad=True)
    optimizer = getattr(optim, name)([p], **options)
    p.grad = mg.ones(3, 3, device="cuda")
    for _ in range(steps_before):
        optimizer.step()
    strict_backend.traffic.clear()
    optimizer.step()
    assert not strict_backend.traffic


# --- however the work is divided, and wherever it is interrupted ---


def same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def check_threads_and_blocks(name, options, start, gradients, divisions, monkeypatch):
    """The same bits with any (number of threads, size of a block, size from which threads are used)."""
    results = []
    before = threads.get_num_threads()
    try:
        monkeypatch.setattr(walk, "LARGE", 4000)
        for count, block, threaded in divisions:
            threads.set_num_threads(count)
            monkeypatch.setattr(walk, "CHUNK", block)
            monkeypatch.setattr(walk, "THREADED", threaded)
            params = leaves(*start)
            run(getattr(optim, name)(params, **options), params, gradients)
            results.append(values(params))
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        same_bits(other, results[0])


def check_restored_runs(name, options, start, gradients, file, as_json=None):
    """A run that is saved after four steps and restored by another optimizer, of other rates, goes on bit by bit."""

    def make(arrays, lr):
        params = leaves(*arrays)
        groups = [{"params": params[:1], "lr": 2 * lr}, {"params": params[1:]}]
        return params, getattr(optim, name)(groups, lr, **options)

    params, optimizer = make(start, 0.01)
    run(optimizer, params, gradients[:4])
    save_state(file, optimizer.state_dict())
    snapshot, middle = optimizer.state_dict(), values(params)
    run(optimizer, params, gradients[4:])
    for state in (load_state(file), snapshot, *([as_json(snapshot)] if as_json else [])):
        again, other = make(middle, 0.1)
        other.load_state_dict(state)
        run(other, again, gradients[4:])
        same_bits(values(again), values(params))


def check_the_way_down(name, options, start):
    """50 steps on a sum of squares, downhill, or uphill on its negative."""
    (x,) = leaves(np.array(start))
    optimizer = getattr(optim, name)([x], **options)
    sign = -1 if options["maximize"] else 1
    for _ in range(50):
        optimizer.zero_grad()
        (sign * (x * x).sum()).backward()
        optimizer.step()
    assert (x * x).sum().item() < 13.99
