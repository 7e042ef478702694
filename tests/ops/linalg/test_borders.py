"""Linear algebra on either side of a border: of rank, of singularity, of two values that are one to rounding."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, autograd
from minigrad import linalg as la
from tests.support.linalg_makers import (
    FUNCTIONS,
    REPEATED,
    gradient,
    gradients,
    hessian,
    second_derivative_of_det,
    tracked,
)

RANDOM = np.random.default_rng(6)


def with_singular_values(*values):
    left, right = (np.linalg.qr(RANDOM.standard_normal((len(values), len(values))))[0] for _ in range(2))
    return (left * np.array(values)) @ right


# --- rank ---


@pytest.mark.parametrize("a", [[[1.0, -1.0], [0.0, 1.0]], [[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]]])
def test_rows_of_r_may_sum_to_zero(a):
    assert mg.gradcheck(la.qr, tracked(a)) and mg.gradgradcheck(la.qr, tracked(a))
    np.testing.assert_allclose(la.lstsq(tracked(a), mg.ones(len(a))).detach().numpy(), np.linalg.solve(a, [1] * len(a)))


DEPENDENT = {
    "nothing but zeros": np.zeros((3, 2)),
    "a zero": np.zeros((1, 1)),
    "two equal columns before another": np.array([[1.0, 1, 0], [2, 2, 1], [3, 3, 0], [1, 1, 5]]),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_columns_that_depend_on_others_are_noticed_wherever_they_stand(name):
    a = DEPENDENT[name]
    with pytest.raises(GradientError, match="qr: at a matrix without full column rank"):
        gradient(lambda a: la.qr(a)[0].sum(), a)
    with pytest.raises(la.LinAlgError, match=r"lstsq: .* has not full rank"):
        la.lstsq(mg.tensor(a), mg.tensor(a))


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 3)])
def test_the_vectors_of_a_single_singular_value_of_zero_have_no_derivative(shape):
    for vectors in (lambda a: la.svd(a)[0].sum(), lambda a: la.svd(a)[2].sum()):
        with pytest.raises(GradientError, match="svd: the vectors of a singular value that is zero"):
            gradient(vectors, np.zeros(shape))
    assert np.isfinite(gradient(lambda a: la.svd(a)[1].sum(), np.zeros(shape))).all()


def test_the_vectors_of_a_square_matrix_lose_no_digits_close_to_a_singular_one():
    """With x = U'da V, dU = U w, w_ij = (x_ij s_j + s_i x_ji) / (s_j^2 - s_i^2), and V likewise with x': no 1 / s_j."""
    s, (left, right) = np.array([1, 0.5, 1e-12]), (np.linalg.qr(RANDOM.standard_normal((3, 3)))[0] for _ in range(2))
    x, da = tracked((left * s) @ right.T), RANDOM.standard_normal((3, 3))
    u, _, vh = la.svd(x)
    for vectors, factor, moved in (
        (u, left, left.T @ da @ right),
        (mg.transpose(vh, (1, 0)), right, right.T @ da.T @ left),
    ):
        signs = np.sign(np.diag(factor.T @ vectors.detach().numpy()))
        squares = s[None, :] ** 2 - s[:, None] ** 2 + np.eye(3)
        turn = (moved * s[None, :] + s[:, None] * moved.T) / squares * (1 - np.eye(3))
        expected = factor @ turn * signs
        np.testing.assert_allclose(mg.push(vectors, x, da)[0].numpy(), expected, atol=1e-11)
        weights = RANDOM.standard_normal((3, 3))
        (g,) = autograd.grad(vectors, x, weights, retain_graph=True)
        np.testing.assert_allclose((g.numpy() * da).sum(), (expected * weights).sum(), atol=1e-11)


def test_the_pseudoinverse_of_a_regular_matrix_has_the_inverses_derivatives_to_the_last_digits():
    """Entry by entry, however differently its rows are scaled."""
    rows = 10 ** RANDOM.uniform(-11, 0, (20, 3))
    a, inverse = rows[..., None] * np.eye(3), 1 / rows[..., None] * np.eye(3)
    weights, da = RANDOM.standard_normal((2, 20, 3, 3))
    x = tracked(a)
    y = la.pinv(x)
    np.testing.assert_allclose(mg.push(y, x, da)[0].numpy(), -inverse @ da @ inverse, rtol=1e-13)
    np.testing.assert_allclose(autograd.grad(y, x, weights)[0].numpy(), -inverse @ weights @ inverse, rtol=1e-13)


# --- two values, or one ---


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [3, 4, 6])
def test_eigenvalues_are_two_from_a_gap_of_10_sqrt_n_eps_of_the_largest_on(size, dtype):
    """Those of a diagonal matrix are its entries, to the last bit, and 0 and a gap lie exactly a gap apart."""

    def slope(gap):
        x = mg.tensor(np.diag(np.array([0, gap, *np.linspace(1, 0.5, size - 2)], dtype)), requires_grad=True)
        return autograd.grad(la.eigh(x)[1].sum(), x)[0].numpy()

    border = 10 * np.sqrt(size) * float(np.finfo(dtype).eps)
    with pytest.raises(GradientError, match="equal to rounding"):
        slope(0.9995 * border)
    assert np.isfinite(slope(1.0005 * border)).all()


def test_one_matrix_with_repeated_singular_values_does_not_spoil_a_batch_that_leaves_it_alone():
    other = with_singular_values(3, 2, 1)
    batch, direction = np.stack([REPEATED, other]), np.zeros((2, 3, 3))
    direction[1] = RANDOM.standard_normal((3, 3))
    for part in range(3):
        x = tracked(batch)
        (pushed,) = mg.push(la.svd(x)[part], x, direction)
        y = tracked(other)
        (alone,) = mg.push(la.svd(y)[part], y, direction[1])
        np.testing.assert_allclose(pushed.numpy()[1], alone.numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(pushed.numpy()[0], 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_derivative_divides_by_zero_on_the_way(name):
    """Not even where the quotient is thrown away: a user would be warned of it."""
    f, arrays = FUNCTIONS[name]

    def gradient_of(*xs):
        ys = f(*xs)
        ys = ys if isinstance(ys, tuple) else (ys,)
        return autograd.grad(ys, xs, [mg.ones(*y.shape, dtype="f8") for y in ys], create_graph=True)

    with warnings.catch_warnings(), np.errstate(divide="raise", invalid="raise"):
        warnings.simplefilter("error")
        gradients(gradient_of, arrays)


# --- determinants close to singular matrices, and of several at once ---


def check_two_derivatives_of_det(a):
    """Of one matrix, to rounding: relative to the largest entry."""
    expected = second_derivative_of_det(a)
    np.testing.assert_allclose(hessian(la.det, a), expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())
    x, direction = tracked(a), RANDOM.standard_normal(a.shape)
    (g,) = autograd.grad(la.det(x), x, create_graph=True)
    (pushed,) = mg.push(g, x, direction)
    along = np.einsum("ijkl,kl->ij", expected, direction)
    np.testing.assert_allclose(pushed.numpy(), along, rtol=1e-11, atol=1e-12 * np.abs(along).max())


NEARLY_SINGULAR = {
    "one small value": (1, 0.5, 1e-12),
    "two small values": (1, 0.5, 1e-9, 1e-12),
    "small values of a large matrix": (1e9, 5e8, 1e0),
    "singular and large": (1e10, 5e9, 0, 0),
    "small in all directions, and singular": (1e-9, 5e-10, 0),
    "all small, and regular": (1e-9, 5e-10, 2e-10),
}


@pytest.mark.parametrize("name", NEARLY_SINGULAR)
def test_two_derivatives_of_det_are_right_to_rounding_close_to_singular_matrices(name):
    check_two_derivatives_of_det(with_singular_values(*NEARLY_SINGULAR[name]))


def test_the_determinant_of_one_number_has_the_second_derivative_zero_even_where_it_is_zero():
    for number in (0.0, 2.0):
        np.testing.assert_array_equal(hessian(la.det, [[number]]), np.zeros((1, 1, 1, 1)))


@pytest.mark.parametrize(
    "batch",
    [
        [(1, 0.5, 1e-12), (1, 0.7, 0.4)],
        [(1, 0.7, 0.4), (1, 0.5, 1e-12)],
        [(1, 0.7, 0.4), (1e9, 5e8, 1)],
        [(1e9, 5e8, 1), (1, 0, 0)],
    ],
)
def test_in_a_batch_each_matrix_has_its_own_two_derivatives_of_det(batch):
    a = np.stack([with_singular_values(*values) for values in batch])
    x, direction = tracked(a), RANDOM.standard_normal(a.shape)
    (g,) = autograd.grad(la.det(x).sum(), x, create_graph=True)
    for found in (autograd.grad(g, x, direction, retain_graph=True)[0], mg.push(g, x, direction)[0]):
        for matrix, along, one in zip(a, direction, found.numpy(), strict=True):
            expected = np.einsum("ijkl,kl->ij", second_derivative_of_det(matrix), along)
            np.testing.assert_allclose(one, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())
