"""What the makers of random numbers refuse, by their own names."""

import math

import numpy as np
import pytest

import minigrad as mg

NO_NUMBERS = ["a", None, [0.5], True, np.ones(2)]


@pytest.mark.parametrize("make", [mg.dropout, mg.dropout_mask, lambda x, p: mg.nn.Dropout(p)(x)])
def test_probabilities_that_are_none_are_refused(make):
    for p in (-3, 1.0000001, 2, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"(?i)dropout.*p="):
            make(mg.ones(3), p)
    for p in NO_NUMBERS:
        with pytest.raises(TypeError, match=r"(?i)dropout.*p must be a number"):
            make(mg.ones(3), p)
    with pytest.raises(TypeError, match=r"dropout_mask: expected a Tensor, got NoneType"):
        mg.dropout_mask(None, 0.5)


def test_bounds_and_lengths_that_are_no_integers_are_refused():
    for call, kind, words in [
        (lambda: mg.randint(3, 3, (2,)), ValueError, "low=3, high=3"),
        (lambda: mg.randint(5, 3, (2,)), ValueError, "low=5, high=3"),
        (lambda: mg.randint(0, math.nan, (2,)), TypeError, "randint: high"),
        (lambda: mg.randint("0", 3, (2,)), TypeError, "randint: low"),
        (lambda: mg.randperm(-1), ValueError, "randperm: n=-1"),
        (lambda: mg.randperm(2.5), TypeError, "randperm: n must be an integer"),
        (lambda: mg.randperm("a"), TypeError, "randperm"),
        (lambda: mg.manual_seed("a"), TypeError, "manual_seed"),
        (lambda: mg.manual_seed(-1), ValueError, "manual_seed"),
    ]:
        with pytest.raises(kind, match=words):
            call()
    assert sorted(mg.randperm(np.int64(4)).tolist()) == [0, 1, 2, 3] and mg.randperm(0).shape == (0,)
