"""Linear algebra where it has no answer, or only just: singular matrices, repeated eigenvalues, NaN, wrong shapes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, autograd
from minigrad import linalg as la
from tests.support import strict_backend, strict_linalg
from tests.support.linalg_makers import REPEATED, gradient, hessian, second_derivative_of_det, tracked

RANDOM = np.random.default_rng(4)
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
INDEFINITE = np.array([[4.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 1.0, 5.0]])
ONE_SIDE = np.array([[1.0], [2.0]])


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """The CPU, and the stand-in for CuPy, which does not say that something failed."""
    with strict_backend.installed():
        yield request.param


# --- what a matrix does not have ---

FAILURES = {
    "inv": (la.inv, SINGULAR, r"inv: the matrix \(2, 2\) is singular.*lstsq"),
    "inv of a batch": (la.inv, np.stack([np.eye(2), SINGULAR]), r"inv: a matrix of the batch \(2, 2, 2\) is singular"),
    "solve": (lambda a: la.solve(a, a[:, 0]), SINGULAR, r"solve: the matrix \(2, 2\) is singular"),
    "solve, a batch": (lambda a: la.solve(a, a), np.stack([np.eye(2), SINGULAR]), r"solve: a matrix of the batch"),
    "solve_triangular": (
        lambda a: la.solve_triangular(a, a),
        np.diag([1.0, 0.0]),
        r"solve_triangular: .*zero on its diag",
    ),
    "cholesky": (la.cholesky, INDEFINITE, r"cholesky: the matrix \(3, 3\) is not positive definite"),
    "cholesky, semidefinite": (la.cholesky, np.diag([1.0, 0.0]), "not positive definite"),
    "cholesky of a batch": (
        la.cholesky,
        np.stack([np.eye(3), INDEFINITE]),
        "a matrix of the batch.*not positive definite",
    ),
    "cholesky, negative": (la.cholesky, -np.eye(2), "not positive definite"),
    "matrix_power": (lambda a: la.matrix_power(a, -1), SINGULAR, "matrix_power: the matrix .* is singular"),
    "lstsq": (lambda a: la.lstsq(a, a[:, 0]), np.ones((4, 2)), r"lstsq: a matrix of shape \(4, 2\) has not full rank"),
    "lstsq, wide": (lambda a: la.lstsq(a, a[:, 0]), np.ones((2, 4)), "has not full rank"),
    "expm": (la.expm, np.diag([1000.0, 1.0]), r"expm: e\^a of shape \(2, 2\) holds numbers larger than float64"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_matrix_does_not_have_is_an_error_on_every_device(name, device):
    f, a, message = FAILURES[name]
    with pytest.raises(la.LinAlgError, match=message), np.errstate(all="ignore"):
        f(tracked(a, device))
    with pytest.raises(np.linalg.LinAlgError, match=message), np.errstate(all="ignore"):
        f(tracked(a, device).detach())


def test_the_stand_in_for_cupy_says_nothing_when_something_fails():
    """Else the tests above would hold on it without our looking at results."""
    of = {
        name: strict_linalg.unreported(name, getattr(np.linalg, name)) for name in ("inv", "solve", "cholesky", "svd")
    }
    assert np.isnan(of["inv"](SINGULAR)).all() and np.isnan(of["solve"](SINGULAR, np.ones((2, 1)))).all()
    factor = of["cholesky"](INDEFINITE)
    assert np.isfinite(factor).all(), "as LAPACK leaves it: finite, and wrong"
    np.testing.assert_allclose(factor[:, 0], [2, 1, 0])
    u, s, vh = of["svd"](np.full((2, 3, 2), np.nan), full_matrices=False)
    assert u.shape == (2, 3, 2) and s.shape == (2, 2) and vh.shape == (2, 2, 2)


DECOMPOSING = {
    "inv": la.inv,
    "solve": lambda a: la.solve(a, a[..., 0]),
    "cholesky": la.cholesky,
    "qr": la.qr,
    "eigh": la.eigh,
    "eigvalsh": la.eigvalsh,
    "svd": la.svd,
    "svdvals": la.svdvals,
    "pinv": la.pinv,
    "lstsq": lambda a: la.lstsq(a, a[..., 0]),
    "expm": la.expm,
}


@pytest.mark.parametrize("name", DECOMPOSING)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_a_matrix_to_be_decomposed_are_an_error_that_says_so(name, value, device):
    a = np.eye(2)
    a[1, 0] = a[0, 1] = value
    with pytest.raises(la.LinAlgError, match="holds NaN or infinity"), np.errstate(all="ignore"):
        DECOMPOSING[name](tracked(a, device))


def test_nan_goes_through_right_hand_sides_determinants_and_powers(device):
    nan = np.full((2, 2), np.nan)
    a, b = mg.tensor(np.eye(2), device=device), mg.tensor([np.nan, 1.0], dtype="f8", device=device)
    for y in (la.solve(a, b), la.solve_triangular(a, b)):
        assert np.isnan(y.numpy()[0])
    with np.errstate(all="ignore"):
        for y in (la.det(mg.tensor(nan)), la.slogdet(mg.tensor(nan))[1], la.matrix_power(mg.tensor(nan), 2)):
            assert np.isnan(y.numpy()).all()


SHAPES = {
    "inv": (lambda: la.inv(mg.ones(2, 3)), r"inv: expected square matrices in the last two axes, got \(2, 3\)"),
    "cholesky": (
        lambda: la.cholesky(mg.ones(3)),
        r"cholesky: expected matrices, in the last two axes; got shape \(3,\)",
    ),
    "eigh": (lambda: la.eigh(mg.ones(4, 2, 3)), "eigh: expected square"),
    "svd": (lambda: la.svd(mg.ones(3)), "svd: expected matrices"),
    "solve": (
        lambda: la.solve(mg.ones(3, 3), mg.ones(2)),
        r"solve: a right-hand side of shape \(2,\) .* expected \(3,\)",
    ),
    "solve, rows of vectors": (lambda: la.solve(mg.ones(5, 3, 3), mg.ones(5, 3)), r"b\[..., None\]"),
    "solve, batches": (lambda: la.solve(mg.ones(2, 3, 3), mg.ones(4, 3, 1)), "batch axes .* do not broadcast"),
    "lstsq": (lambda: la.lstsq(mg.ones(4, 2), mg.ones(2)), r"lstsq: .* expected \(4,\)"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit_are_named(name):
    f, message = SHAPES[name]
    with pytest.raises(ShapeError, match=message):
        f()


def test_what_is_no_matrix_of_floats_is_refused():
    with pytest.raises(TypeError, match=r"float16 has no linear algebra.*astype\(float32\)"):
        la.inv(mg.ones(2, 2, dtype="float16"))
    with pytest.raises(TypeError, match="solve: expected Tensors or arrays, got NoneType"):
        la.solve(mg.ones(1, 1), None)
    with pytest.raises(TypeError, match=r"solve: .*str"):
        la.solve(mg.ones(1, 1), "1")
    assert la.solve([[2.0]], [1.0]).tolist() == la.solve(2 * mg.ones(1, 1), [1.0]).tolist() == [0.5]  # as NumPy's
    with pytest.raises(TypeError, match="exponent must be an integer, got float"):
        la.matrix_power(mg.ones(2, 2), 0.5)
    with pytest.raises(ValueError, match="only full_matrices=False"):
        la.svd(mg.ones(2, 2), full_matrices=True)


# --- determinants of singular matrices ---


def cofactors(a):
    """From the minors themselves."""
    found = np.zeros_like(a)
    for i, j in np.ndindex(a.shape):
        found[i, j] = (-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1))
    return found


def of_rank(rank, size=4):
    return RANDOM.standard_normal((size, rank)) @ RANDOM.standard_normal((rank, size))


@pytest.mark.parametrize("rank", [4, 3, 2, 1, 0])
def test_det_has_the_right_first_and_second_derivative_at_every_rank(rank):
    a = of_rank(rank)
    scale = 1e-12 * (1 + np.abs(a).max()) ** 4
    np.testing.assert_allclose(gradient(la.det, a), cofactors(a), rtol=1e-12, atol=scale)
    np.testing.assert_allclose(hessian(la.det, a), second_derivative_of_det(a), rtol=1e-11, atol=scale)
    mg.gradcheck(la.det, tracked(a))
    mg.gradgradcheck(la.det, tracked(a))


def test_det_at_an_exactly_singular_integer_matrix():
    a = np.arange(1.0, 10).reshape(3, 3)  # LU leaves 6e-16 in the corner: the inverse would be nonsense
    np.testing.assert_allclose(gradient(la.det, a), [[-3, 6, -3], [6, -12, 6], [-3, 6, -3]], atol=1e-13)
    np.testing.assert_allclose(hessian(la.det, a), second_derivative_of_det(a), atol=1e-12)
    np.testing.assert_array_equal(gradient(la.det, np.zeros((1, 1))), [[1]])


def test_third_derivatives_of_det_exist_where_it_is_regular_and_are_refused_where_not():
    def third(a):
        x = tracked(a)
        (g,) = autograd.grad(la.det(x), x, create_graph=True)
        (h,) = autograd.grad(g[0, 0], x, create_graph=True)
        return autograd.grad(h[1, 1], x)[0].numpy()

    np.testing.assert_allclose(third(np.eye(3)), np.diag([0, 0, 1]), atol=1e-14)
    for a, reason in ((of_rank(2, 3), "a singular value that is zero"), (np.diag([1, 1, 1e-5]), "a repeated sing")):
        with pytest.raises(GradientError, match=f"svd: the vectors of {reason}.*third and higher derivatives of det"):
            third(a)
    np.testing.assert_allclose(third(np.diag([1, 0.5, 1e-5])), np.diag([0, 0, 1]), atol=1e-9)


def test_slogdet_of_a_singular_matrix_is_minus_infinity_and_has_no_derivative(device):
    x = tracked(np.stack([np.eye(2), np.diag([1.0, 0.0])]), device)
    sign, log = la.slogdet(x)
    np.testing.assert_array_equal(sign.numpy(), [1, 0])
    np.testing.assert_array_equal(log.numpy(), [0, -np.inf])
    with pytest.raises(GradientError, match=r"slogdet: log\|det\| has no derivative here: inv: .* is singular"):
        log.sum().backward()


# --- repeated eigenvalues and singular values ---


VALUES = {"eigvalsh": la.eigvalsh, "eigh": lambda a: la.eigh(a)[0]}
every_way_to_values = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)


@every_way_to_values
def test_at_a_repeated_eigenvalue_functions_of_the_values_alone_have_gradients(values):
    """tr(a), tr(a^2) and log det(a), by eigenvalues, have the gradients 1, 2a and a^-1."""
    for f, expected in (
        (lambda a: values(a).sum(), np.eye(3)),
        (lambda a: (values(a) ** 2).sum(), 2 * REPEATED),
        (lambda a: mg.log(values(a)).sum(), np.linalg.inv(REPEATED)),
    ):
        np.testing.assert_allclose(gradient(f, REPEATED), expected, atol=1e-13)


@pytest.mark.parametrize("values", [la.svdvals, lambda a: la.svd(a)[1]], ids=["svdvals", "svd"])
def test_at_a_repeated_singular_value_functions_of_the_values_alone_have_gradients(values):
    np.testing.assert_allclose(gradient(lambda a: (values(a) ** 2).sum(), REPEATED), 2 * REPEATED, atol=1e-13)


@pytest.mark.parametrize("values", [la.eigvalsh, la.svdvals])
def test_at_a_repeated_value_functions_of_the_values_alone_have_a_forward_derivative(values):
    x, direction = tracked(REPEATED), RANDOM.standard_normal((3, 3))
    (moved,) = mg.push((values(x) ** 2).sum(), x, direction)
    np.testing.assert_allclose(moved.numpy(), (2 * REPEATED * direction).sum(), rtol=1e-12)


VECTORS = {
    "eigh": (lambda a: la.eigh(a)[1], REPEATED, "eigh: the vectors of a repeated eigenvalue.*eigvalsh"),
    "svd, left": (lambda a: la.svd(a)[0], REPEATED, "svd: the vectors of a repeated singular value.*svdvals"),
    "svd, right": (lambda a: la.svd(a)[2], REPEATED, "svd: the vectors of a repeated singular value"),
    "svd, zero": (
        lambda a: la.svd(a)[0],
        np.outer([1.0, 2], [1, 3]),
        "svd: the vectors of a singular value that is zero",
    ),
    "identity": (lambda a: la.eigh(a)[1], np.eye(3), "repeated eigenvalue"),
    "zeros": (lambda a: la.eigh(a)[1], np.zeros((2, 2)), "repeated eigenvalue"),
    "qr": (lambda a: la.qr(a)[0], np.ones((3, 2)), "qr: at a matrix without full column rank"),
    "qr, exact zero": (lambda a: la.qr(a)[1], np.diag([1.0, 0.0]), "qr: at a matrix without full column rank"),
    "pinv": (la.pinv, np.ones((3, 2)), "pinv: at a matrix without full rank the pseudoinverse jumps"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_where_there_is_no_derivative_there_is_a_value_and_an_error_in_both_modes(name, device):
    f, a, message = VECTORS[name]
    y = f(tracked(a, device))
    assert np.isfinite(y.numpy()).all()
    weights = mg.tensor(RANDOM.standard_normal(y.shape), device=device)
    for create_graph in (False, True):
        x = tracked(a, device)
        with pytest.raises(GradientError, match=message):
            autograd.grad(f(x), x, weights, create_graph=create_graph)
    x = tracked(a, device)
    with pytest.raises(GradientError, match=message):
        mg.push(f(x), x, mg.ones(*x.shape, dtype="f8", device=device))


def test_the_vector_of_an_eigenvalue_that_stands_alone_keeps_its_derivatives():
    direction = RANDOM.standard_normal((3, 3))

    def along(f, a, step=1e-4):
        up, down = (f(mg.tensor(a + s * step * direction)).numpy() for s in (1, -1))
        return (up - down) / (2 * step)

    for f in (lambda a: la.eigh(a)[1][:, 2], lambda a: la.svd(a)[0][:, 0], lambda a: la.svd(a)[2][0]):
        x = tracked(REPEATED)
        (g,) = autograd.grad((f(x) * np.array([1.0, -2, 3])).sum(), x, create_graph=True)
        expected = along(lambda a, f=f: (f(a) * np.array([1.0, -2, 3])).sum(), REPEATED)
        np.testing.assert_allclose((g.detach().numpy() * direction).sum(), expected, rtol=1e-6)


@every_way_to_values
def test_the_second_derivative_of_a_repeated_eigenvalue_is_refused(values):
    x = tracked(REPEATED)
    (g,) = autograd.grad(values(x)[0], x, create_graph=True)
    with pytest.raises(GradientError, match="repeated eigenvalue"):
        autograd.grad(g, x, RANDOM.standard_normal((3, 3)))


@every_way_to_values
def test_an_eigenvalue_that_stands_alone_beside_repeated_ones_has_its_second_derivative(values):
    x, direction, step = tracked(REPEATED), RANDOM.standard_normal((3, 3)), 1e-5
    (g,) = autograd.grad(values(x)[2], x, create_graph=True)
    (found,) = autograd.grad(g, x, direction)
    up, down = (gradient(lambda a: values(a)[2], REPEATED + s * step * direction) for s in (1, -1))
    np.testing.assert_allclose(found.numpy(), (up - down) / (2 * step), atol=1e-8)


def test_one_matrix_with_repeated_eigenvalues_does_not_spoil_a_batch_that_leaves_it_alone():
    batch = np.stack([REPEATED, INDEFINITE])
    found = gradient(lambda a: la.eigh(a)[1][1, 0, 0], batch)
    np.testing.assert_allclose(found[1], gradient(lambda a: la.eigh(a)[1][0, 0], INDEFINITE), rtol=1e-12)
    np.testing.assert_array_equal(found[0], 0)
    x, direction = tracked(batch), np.zeros((2, 3, 3))
    direction[1] = RANDOM.standard_normal((3, 3))
    (pushed,) = mg.push(la.eigh(x)[1], x, direction)
    assert np.isfinite(pushed.numpy()).all() and (pushed.numpy()[0] == 0).all()


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_close_eigenvalues_are_still_two(gap):
    """At a = diag(1, 1 + gap) a change of the corners by h turns the vectors by h / gap."""
    x = tracked(np.diag([1.0, 1.0 + gap]))
    (turn,) = mg.push(la.eigh(x)[1], x, np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(turn.numpy(), np.array([[0, 1], [-1, 0]]) / gap, rtol=1e-6)


# --- choices of sign, and rank ---


def test_signs_do_not_depend_on_the_signs_that_a_library_chose(monkeypatch):
    a = RANDOM.standard_normal((3, 4, 3))
    symmetric = a.swapaxes(-1, -2) @ a
    expected = [la.qr(mg.tensor(a)), la.svd(mg.tensor(a)), la.eigh(mg.tensor(symmetric))]
    qr, svd, eigh = np.linalg.qr, np.linalg.svd, np.linalg.eigh
    flips = np.array([-1.0, 1, -1])
    monkeypatch.setattr(np.linalg, "qr", lambda x: (qr(x)[0] * flips, qr(x)[1] * flips[:, None]))
    monkeypatch.setattr(np.linalg, "eigh", lambda x: (eigh(x)[0], eigh(x)[1] * flips))

    def flipped(x, **options):
        u, s, vh = svd(x, **options)
        return u * flips, s, vh * flips[:, None]

    monkeypatch.setattr(np.linalg, "svd", flipped)
    found = [la.qr(mg.tensor(a)), la.svd(mg.tensor(a)), la.eigh(mg.tensor(symmetric))]
    for these, those in zip(found, expected, strict=True):
        for x, y in zip(these, those, strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_vectors_with_entries_of_equal_size_have_the_first_one_positive():
    _, v = la.eigh(mg.tensor([[2.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_allclose(v.numpy(), np.array([[1, 1], [-1, 1]]) / np.sqrt(2), rtol=1e-6)


def test_pinv_of_a_matrix_without_full_rank_is_numpys_and_rcond_moves_the_border():
    a = RANDOM.standard_normal((4, 2)) @ RANDOM.standard_normal((2, 3))
    np.testing.assert_allclose(la.pinv(mg.tensor(a)).numpy(), np.linalg.pinv(a, rcond=1e-12), atol=1e-12)
    small = np.diag([1.0, 1e-3])
    np.testing.assert_allclose(la.pinv(mg.tensor(small)).numpy(), np.diag([1, 1e3]))
    np.testing.assert_allclose(la.pinv(mg.tensor(small), rcond=1e-2).numpy(), np.diag([1, 0]))
    x = la.pinv(mg.tensor(np.ones((2, 2)))) @ mg.tensor(ONE_SIDE)
    np.testing.assert_allclose(x.numpy(), np.linalg.lstsq(np.ones((2, 2)), ONE_SIDE, rcond=None)[0], rtol=1e-12)
