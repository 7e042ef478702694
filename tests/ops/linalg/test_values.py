"""Linear algebra beyond the table of ops: what PyTorch and SciPy say, identities, batches, third derivatives.

The table's tests (laws/test_op_table.py, support/op_cases/linalg.py) compare values and two derivatives with NumPy,
differences and complex steps. Matrices where something fails are in test_edges.py.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd
from minigrad import linalg as la
from tests.support.linalg_makers import (
    FUNCTIONS,
    POSITIVE,
    RIGHT,
    RIGHT3,
    SQUARE,
    SYMMETRIC,
    TALL,
    WIDE,
    all_tracked,
    gradients,
    results,
)

RANDOM = np.random.default_rng(9)
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def t(x):
    return x.swapaxes(-1, -2)


def close(found, expected, rtol=1e-9):
    found, expected = (np.asarray(x.detach().numpy() if hasattr(x, "detach") else x) for x in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * max(1.0, np.abs(expected).max(initial=0)))


def third_derivative_check(f, *arrays):
    """gradgradcheck of f's gradient."""

    def gradient(*xs):
        with mg.enable_grad():
            xs = [x.clone() if x.requires_grad else x.detach().requires_grad_() for x in xs]
            ys, weights = results(f(*xs)), np.random.default_rng(1)
            return autograd.grad(ys, xs, [weights.standard_normal(y.shape) for y in ys], create_graph=True)

    return mg.gradgradcheck(gradient, all_tracked(*arrays))


# --- PyTorch and SciPy ---


def peers(torch) -> dict:
    """The same functions of PyTorch's, with our choice of signs, and symmetric parts taken."""
    ours = torch.linalg

    def turned(vectors, *others):
        """Vectors (columns) with the first entry of at least half the largest's size positive; others in step."""
        large = vectors.abs() >= 0.5 * vectors.abs().amax(dim=-2, keepdim=True)
        first = large.to(torch.int8).argmax(dim=-2, keepdim=True)
        signs = vectors.gather(-2, first).sign().detach()
        return [vectors * signs, *(x * signs.mT for x in others)]

    def qr(a):
        q, r = ours.qr(a)
        signs = r.diagonal(dim1=-2, dim2=-1).sign().detach()
        return q * signs[..., None, :], r * signs[..., None]

    def eigh(a):
        w, v = ours.eigh((a + a.mT) / 2)
        return w, *turned(v)

    def svd(a):
        u, s, vh = ours.svd(a, full_matrices=False)
        u, vh = turned(u, vh)
        return u, s, vh

    def triangle(a, b, **options):
        return ours.solve_triangular(a, b, **options)

    return {
        "inv": ours.inv,
        "solve": ours.solve,
        "solve_triangular": lambda a, b: triangle(a, b, upper=True),
        "solve_triangular, lower, unit": lambda a, b: triangle(a, b, upper=False, unitriangular=True),
        "cholesky": lambda a: ours.cholesky((a + a.mT) / 2),
        "qr, tall": qr,
        "qr, wide": qr,
        "eigh": eigh,
        "eigvalsh": lambda a: ours.eigvalsh((a + a.mT) / 2),
        "svd, tall": svd,
        "svd, wide": svd,
        "svdvals": ours.svdvals,
        "det": ours.det,
        "slogdet": ours.slogdet,
        "lstsq, tall": lambda a, b: ours.lstsq(a, b).solution,
        "lstsq, wide": lambda a, b: ours.lstsq(a, b).solution,
        "pinv, tall": ours.pinv,
        "pinv, wide": ours.pinv,
        "matrix_power, 5": lambda a: ours.matrix_power(a, 5),
        "matrix_power, -2": lambda a: ours.matrix_power(a, -2),
        "expm": ours.matrix_exp,
        "expm, large": lambda a: ours.matrix_exp(4 * a),
    }


@every_function
def test_values_and_two_derivatives_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    (f, arrays), peer, random = FUNCTIONS[name], peers(torch)[name], np.random.default_rng(3)
    xs, theirs = all_tracked(*arrays), [torch.tensor(a, requires_grad=True) for a in arrays]
    ys, zs = results(f(*xs)), results(peer(*theirs)) if name != "slogdet" else list(peer(*theirs))
    assert len(ys) == len(zs)
    for y, z in zip(ys, zs, strict=True):
        close(y, z)

    weights = [random.standard_normal(y.shape) for y in ys]
    directions = [random.standard_normal(x.shape) for x in xs]
    first = autograd.grad(ys, xs, weights, create_graph=True)
    second = autograd.grad(list(first), xs, directions, allow_unused=True)
    scalar = sum((z * torch.tensor(w)).sum() for z, w in zip(zs, weights, strict=True))
    first_there = torch.autograd.grad(scalar, theirs, create_graph=True)
    scalar = sum((g * torch.tensor(u)).sum() for g, u in zip(first_there, directions, strict=True))
    second_there = torch.autograd.grad(scalar, theirs, allow_unused=True)
    for found, expected in zip((*first, *second), (*first_there, *second_there), strict=True):
        close(found, expected, rtol=1e-8)


def test_gradients_of_symmetric_arguments_are_symmetric_as_pytorchs():
    torch = pytest.importorskip("torch")
    weights = np.random.default_rng(0).standard_normal(POSITIVE.shape)
    x = torch.tensor(POSITIVE, requires_grad=True)
    (torch.linalg.cholesky(x) * torch.tensor(weights)).sum().backward()
    (found,) = gradients(la.cholesky, [POSITIVE])
    close(found, x.grad)
    for f in (la.cholesky, la.eigh, la.eigvalsh):
        (g,) = gradients(f, [POSITIVE])
        np.testing.assert_array_equal(g, np.swapaxes(g, -1, -2))


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_expm_and_its_derivative_are_scipys(scale):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    a, da = scale * SQUARE[0], RANDOM.standard_normal((4, 4))
    value, change = scipy_linalg.expm_frechet(a, da)
    (x,) = all_tracked(a)
    y = la.expm(x)
    close(y, value, rtol=1e-11)
    close(mg.push(y, x, da)[0], change, rtol=1e-11)


# --- identities ---


def test_factors_multiply_to_the_matrix_and_are_what_they_are_called():
    def same(found, expected):
        close(found, expected, rtol=1e-13)

    factor = la.cholesky(mg.tensor(POSITIVE)).numpy()
    same(factor @ t(factor), POSITIVE)
    assert (np.triu(factor, 1) == 0).all()
    for a in (TALL, WIDE, SQUARE):
        q, r = (x.numpy() for x in la.qr(mg.tensor(a)))
        same(q @ r, a)
        same(t(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), t(q).shape[:-1] + q.shape[-1:]))
        assert (np.tril(r, -1) == 0).all() or a is WIDE
        assert (np.diagonal(r, axis1=-2, axis2=-1) > 0).all()
        u, s, vh = (x.numpy() for x in la.svd(mg.tensor(a)))
        same((u * s[..., None, :]) @ vh, a)
        assert (np.diff(s) <= 0).all()
        same(s, la.svdvals(mg.tensor(a)))
        p = la.pinv(mg.tensor(a)).numpy()
        for found, expected in ((a @ p @ a, a), (p @ a @ p, p), (t(a @ p), a @ p), (t(p @ a), p @ a)):
            same(found, expected)
    w, v = (x.numpy() for x in la.eigh(mg.tensor(SYMMETRIC)))
    same(SYMMETRIC @ v, v * w[..., None, :])
    same(w, la.eigvalsh(mg.tensor(SYMMETRIC)))


def test_jacobis_formula_and_the_derivatives_of_the_inverse_and_of_logdet():
    da, (x,) = RANDOM.standard_normal(SQUARE.shape), all_tracked(SQUARE)
    inverse = np.linalg.inv(SQUARE)
    det, y, (sign, log) = la.det(x), la.inv(x), la.slogdet(x)
    ddet, dy, dlog = mg.push([det, y, log], x, da)
    close(ddet, np.linalg.det(SQUARE) * np.trace(inverse @ da, axis1=-2, axis2=-1))
    close(dy, -inverse @ da @ inverse)
    close(dlog, np.trace(inverse @ da, axis1=-2, axis2=-1))
    close(sign.detach().numpy() * np.exp(log.detach().numpy()), det)


def test_the_hessian_of_logdet_is_minus_two_inverses():
    inverse = np.linalg.inv(POSITIVE[0])
    hessian = mg.hessian(lambda a: la.slogdet(a)[1])(mg.tensor(POSITIVE[0]))
    close(hessian, -np.einsum("jk,li->ijkl", inverse, inverse))


def test_logdet_by_cholesky_eigenvalues_and_slogdet_are_one_function():
    def by_cholesky(a):
        return 2 * mg.log(mg.diagonal(la.cholesky(a), axis1=-2, axis2=-1)).sum(axis=-1)

    ways = [by_cholesky, lambda a: mg.log(la.eigvalsh(a)).sum(axis=-1), lambda a: la.slogdet(a)[1]]
    for f in ways:
        (x,) = all_tracked(POSITIVE)
        close(f(x), np.log(np.linalg.det(POSITIVE)))
        close(*(gradients(g, [POSITIVE])[0] for g in (f, ways[-1])))


def test_the_exponential_turns_sums_into_products_and_traces_into_determinants():
    a = mg.tensor(SQUARE)
    close(la.expm(a) @ la.expm(-a), np.broadcast_to(np.eye(4), SQUARE.shape))
    close(la.det(la.expm(a)), np.exp(np.trace(SQUARE, axis1=-2, axis2=-1)))
    angle = 30.0
    (x,) = all_tracked(angle)
    turn = la.expm(x * np.array([[0.0, -1.0], [1.0, 0.0]]))
    close(turn, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[0, 0].backward()
    close(x.grad, -np.sin(angle))


def test_least_squares_solutions_are_numpys_and_the_residual_is_orthogonal():
    for a, b in ((TALL[0], RIGHT3[0]), (WIDE[0], RIGHT[0, :3]), (TALL[0], RIGHT3[0, :, 0])):
        x = la.lstsq(mg.tensor(a), mg.tensor(b)).numpy()
        close(x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-12)
        close(a.T @ (b - a @ x), 0 * (a.T @ b), rtol=1e-12)


# --- batches, dtypes, transforms ---


@every_function
def test_a_batch_gives_what_its_matrices_give_one_by_one(name):
    f, arrays = FUNCTIONS[name]
    together = results(f(*all_tracked(*arrays)))
    for i in range(2):
        for whole, part in zip(together, results(f(*all_tracked(*(a[i] for a in arrays)))), strict=True):
            close(whole.detach().numpy()[i], part, rtol=1e-12)
    at_once = gradients(lambda *xs: [y.sum(axis=0) for y in results(f(*xs))], arrays)
    for i in range(2):
        for whole, part in zip(at_once, gradients(f, [a[i] for a in arrays]), strict=True):
            close(whole[i], part, rtol=1e-11)


def test_expm_halves_each_matrix_of_a_batch_as_often_as_its_own_size_asks():
    batch = mg.tensor(SQUARE[0] * np.array([1e-3, 1.0, 30.0])[:, None, None])
    for found, alone in zip(la.expm(batch), batch, strict=True):
        close(found, la.expm(alone), rtol=1e-11)


@every_function
def test_inside_vmap_it_is_the_batch(name):
    f, arrays = FUNCTIONS[name]
    for found, expected in zip(
        results(mg.vmap(f)(*map(mg.tensor, arrays))), results(f(*map(mg.tensor, arrays))), strict=True
    ):
        close(found, expected, rtol=1e-12)


def test_the_jacobian_of_a_solution_shares_the_matrix_among_cotangents():
    a, b = mg.tensor(SQUARE[0]), mg.tensor(RIGHT[0])
    jacobian = mg.jacobian(lambda b: la.solve(a, b))(b)
    close(jacobian, np.einsum("ik,jl->ijkl", np.linalg.inv(SQUARE[0]), np.eye(3)))


@every_function
def test_gradients_in_float32_are_those_in_float64(name):
    f, arrays = FUNCTIONS[name]
    for found, exact in zip(gradients(f, arrays, "f4"), gradients(f, arrays), strict=True):
        assert found.dtype == np.float32
        close(found, exact, rtol=2e-3)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "large" not in n])
def test_third_derivatives_agree_with_differences(name):
    f, arrays = FUNCTIONS[name]
    assert third_derivative_check(f, *(a[0] for a in arrays))


def test_integers_become_float64():
    a = mg.tensor([[2, 1], [1, 3]])
    for y in (la.inv(a), la.det(a), la.solve(a, mg.tensor([1, 2])), la.cholesky(a), *la.eigh(a), *la.qr(a), la.expm(a)):
        assert y.dtype == np.float64
    assert la.matrix_power(a, 3).dtype == np.int64
    close(la.solve(a, mg.tensor([1, 2])), [0.2, 0.6])


def test_empty_batches_and_empty_matrices_give_what_numpy_gives():
    for shape in ((0, 3, 3), (2, 0, 0)):
        for f in (
            la.inv,
            la.det,
            la.cholesky,
            la.expm,
            la.pinv,
            la.svdvals,
            lambda a: la.eigh(a)[1],
            lambda a: la.qr(a)[0],
        ):
            (x,) = all_tracked(np.zeros(shape))
            y = f(x)
            y.sum().backward()
            assert x.grad.shape == shape and y.shape[0] == shape[0]
    close(la.det(mg.tensor(np.zeros((2, 0, 0)))), [1, 1])


def test_large_matrices_are_solved_to_rounding():
    a, b = mg.tensor(RANDOM.standard_normal((200, 200))), mg.tensor(RANDOM.standard_normal((200, 3)))
    close(a @ la.solve(a, b), b, rtol=1e-10)
    triangle = mg.tril(a) + 20 * np.eye(200)
    close(triangle @ la.solve_triangular(triangle + mg.triu(a, k=1), b, lower=True), b, rtol=1e-12)
