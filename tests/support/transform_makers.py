"""What several tests of the transforms need: tensors in float64, and comparisons of trees and of arrays."""

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.transforms.trees import flatten, form


def T(values, **options):
    return mg.tensor(np.asarray(values, float), **options)


def close(found, expected, rtol=1e-10, what=""):
    """Trees of one form with equal leaves."""
    assert form(found) == form(expected), f"{what}: {form(found)}, expected {form(expected)}"
    for x, y in zip(flatten(found)[0], flatten(expected)[0], strict=True):
        x, y = (np.asarray(z.detach().numpy() if isinstance(z, Tensor) else z) for z in (x, y))
        assert x.shape == y.shape, f"{what}: shape {x.shape}, expected {y.shape}"
        np.testing.assert_allclose(x, y, rtol, rtol * max(1, np.abs(y).max(initial=0)), err_msg=what)


def agree(found, expected, what, rtol=1e-9):
    """Arrays that are equal to within rtol of the largest entry, or of 1."""
    found, expected = np.asarray(found), np.asarray(expected)
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else np.zeros(0)
    scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * scale, err_msg=what)
