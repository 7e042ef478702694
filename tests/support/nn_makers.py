"""What several tests of minigrad.nn need: numbers that repeat, in float64, and the state of a module as arrays."""

import numpy as np

import minigrad as mg


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(array, requires_grad=False):
    return mg.tensor(array, dtype=np.float64, requires_grad=requires_grad)


def snapshot(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def assert_same_snapshot(before, after):
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
