"""Cases of linear algebra, on matrices made from factors, so that they lie far from where the ops are not smooth.

References that are textbook algorithms in NumPy stand at the end. They are analytic functions of their input (they
conjugate nothing), and so serve for derivatives by a complex step too.
"""

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad.linalg import iterative
from minigrad.transforms.linear_solve import System
from tests.support.op_cases.case import Call, Case
from tests.support.strategies import broadcastable_shapes, seeds, shapes

BOTH = ("f4", "f8")  # no library decomposes float16

# --- matrices ---


def batches(max_dims=2):
    """Batches of some matrices; ops/linalg/test_values.py has those of none."""
    return shapes(max_dims=max_dims, min_side=1, max_side=2)


def _orthonormal(random, rows, columns):
    """Orthonormal columns whose signs are clear: no entry is near half the size of the largest in its column."""
    while True:
        q = np.linalg.qr(random.standard_normal((rows, rows)))[0][:, :columns]
        sizes = np.abs(q) / np.abs(q).max(axis=0, initial=1e-300)
        if (np.abs(sizes - 0.5) > 0.05).all():
            return q


def _stack(make, batch):
    made = [make() for _ in range(int(np.prod(batch)))]
    return np.asarray(made).reshape(*batch, *make().shape)


def _apart(random, size):
    """`size` numbers from 0.5 on, in rising order, 0.3 or more from each other."""
    return 0.5 + 0.5 * np.arange(size) + random.uniform(-0.1, 0.1, size)


@st.composite
def general(draw, rows, columns, batch=None):
    """Matrices of full rank, whose singular values lie apart."""
    random, k = draw(seeds()), min(rows, columns)
    batch = draw(batches()) if batch is None else batch

    def make():
        left, right = _orthonormal(random, rows, k), _orthonormal(random, columns, k)
        return (left * _apart(random, k)[::-1]) @ right.T

    return _stack(make, batch)


@st.composite
def symmetric(draw, size, positive, batch=None):
    """A symmetric matrix with eigenvalues apart, and an antisymmetric part, which must not count."""
    random = draw(seeds())
    batch = draw(batches()) if batch is None else batch

    def make():
        v = _orthonormal(random, size, size)
        w = _apart(random, size) - (0 if positive else 0.5 * size + 0.1)
        skew = random.standard_normal((size, size))
        return (v * w) @ v.T + (skew - skew.T)

    return _stack(make, batch)


@st.composite
def triangular(draw, size, batch):
    """Matrices with either triangle well conditioned; what stands in the other must not count."""
    random = draw(seeds())
    return random.uniform(-1, 1, (*batch, size, size)) + 3 * np.eye(size) * random.choice([-1, 1], size)


@st.composite
def of_any_size(draw):
    """Square matrices, small and large ones in one batch."""
    matrices = draw(sizes.flatmap(lambda n: general(n, n)))
    return Call((matrices * draw(seeds()).choice([0.1, 1, 5], (*matrices.shape[:-2], 1, 1)),))


sizes = st.integers(0, 3)


@st.composite
def one(draw, kind, *more, **options):
    """A call with one matrix: `kind(size, ...)`."""
    options = {name: draw(value) if isinstance(value, st.SearchStrategy) else value for name, value in options.items()}
    return Call((draw(kind(draw(sizes), *more)),), options)


@st.composite
def square(draw, **options):
    """A call with one square matrix of full rank."""
    options = {name: draw(value) for name, value in options.items()}
    size = draw(sizes)
    return Call((draw(general(size, size)),), options)


@st.composite
def rectangular(draw, wide=True):
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return Call((draw(general(*((m, n) if wide else (max(m, n), min(m, n))))),))


@st.composite
def systems(draw, make, vectors=True, options=None):
    """A matrix and a right-hand side whose batches broadcast, one vector among the forms of the latter."""
    left, right = draw(broadcastable_shapes(max_dims=2, max_side=2))
    a = draw(make(left))
    rows, columns = a.shape[-2], draw(st.integers(0, 2))
    forms = [(*right, rows, columns)] + ([(rows,)] if vectors else [])
    b = draw(seeds()).standard_normal(draw(st.sampled_from(forms)))
    return Call((a, b), {name: draw(value) for name, value in (options or {}).items()})


def squares(batch):
    return sizes.flatmap(lambda n: general(n, n, batch))


def triangles(batch):
    return sizes.flatmap(lambda n: triangular(n, batch))


def rectangles(batch):
    return st.tuples(st.integers(1, 4), st.integers(1, 3)).flatmap(lambda shape: general(*shape, batch))


def neighbours(v):
    """A matrix in a ring, not symmetric, and dominated by its diagonal: as a function of Tensors."""
    return 3 * v - mg.roll(v, 1, 0) - 0.5 * mg.roll(v, -1, 0)


def _splitting(apply, r, allowed):
    """x <- x + r / 3 to the last digit: each iteration halves the error at least."""
    return iterative.jacobi(apply, r, diagonal=0 * r.reshape((r.shape[0], -1))[:, 0] + 3, rtol=0.0, maxiter=60).x


@st.composite
def rings(draw):
    """A call of the solver with the matrix above: a vector, or columns in one line."""
    shape = draw(st.sampled_from([(1,), (3,), (5,), (2, 1), (4, 2)]))
    system = System(neighbours, _splitting, None, _splitting, 1e-5, 0.0, "ring", shape=shape)
    return Call((draw(seeds()).standard_normal(int(np.prod(shape))),), {"system": system})


TRIANGLE = {"lower": st.booleans(), "unit_diagonal": st.booleans()}

# --- references ---


def t(x):
    return np.swapaxes(x, -1, -2)


def packed(factors):
    """The factors as the primitives give them: each in one line, side by side."""

    def of(a, **options):
        batch = a.shape[:-2]
        parts = factors(a, **options)
        return np.concatenate([p.reshape(*batch, int(np.prod(p.shape[len(batch) :]))) for p in parts], axis=-1)

    return of


def _solve(a, b):
    return np.linalg.solve(a, b[:, None])[..., 0] if b.ndim == 1 else np.linalg.solve(a, b)


def _solve_triangular(a, b, lower=False, unit_diagonal=False):
    a = np.tril(a) if lower else np.triu(a)
    one = np.eye(a.shape[-1], dtype=a.dtype)
    return _solve(a * (1 - one) + one if unit_diagonal else a, b)


def _linear_solve(packed, system):
    n = system.shape[0]
    one = np.eye(n)
    ring = 3 * one - np.roll(one, 1, 0) - 0.5 * np.roll(one, -1, 0)
    return np.linalg.solve(ring.astype(packed.dtype), packed.reshape(n, -1)).reshape(system.shape)


def _cofactors(a):
    return np.linalg.det(a)[..., None, None] * t(np.linalg.inv(a))


def _slogdet(a):
    """log|det| as an analytic function."""
    det = np.linalg.det(a)
    sign = np.sign(det.real)
    return sign + 0 * det, np.log(det * sign)


def _cholesky(a):
    """Column by column."""
    a = (a + t(a)) / 2
    out = np.zeros_like(a)
    for j in range(a.shape[-1]):
        column = a[..., j:, j] - (out[..., j:, :j] @ out[..., j, :j, None])[..., 0]
        out[..., j:, j] = column / np.sqrt(column[..., :1])
    return out


def _qr(a):
    """Gram and Schmidt, twice over, so that rounding does no harm."""
    q = np.zeros_like(a[..., : min(a.shape[-2:])])
    for j in range(q.shape[-1]):
        column = a[..., j, None]
        for _ in range(2):
            column = column - q[..., :j] @ (t(q[..., :j]) @ column)
        q[..., j] = (column / np.sqrt((column * column).sum(axis=-2, keepdims=True)))[..., 0]
    return q, t(q) @ a


def _signs(v):
    """1 or -1 for each column, by its first entry of at least half the largest one's size."""
    signs = np.ones((*v.shape[:-2], 1, v.shape[-1]), v.dtype)
    for place in np.ndindex(*v.shape[:-2], v.shape[-1]):
        column = v[(*place[:-1], slice(None), place[-1])]
        signs[(*place[:-1], 0, place[-1])] = np.sign(next(x for x in column if abs(x) >= 0.5 * np.abs(column).max()))
    return signs


def _eigh(a):
    w, v = np.linalg.eigh((a + t(a)) / 2)
    return w, v * _signs(v)


def _svd(a):
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return u * _signs(u), s, vh * t(_signs(u))


def _pinv(a):
    """By the normal equations, which serve well-conditioned matrices of full rank."""
    tall = a.shape[-2] >= a.shape[-1]
    return np.linalg.inv(t(a) @ a) @ t(a) if tall else t(a) @ np.linalg.inv(a @ t(a))


def _lstsq(a, b):
    return (_pinv(a) @ b[:, None])[..., 0] if b.ndim == 1 else _pinv(a) @ b


def _expm(a):
    """Taylor's series of a / 256, squared eight times."""
    x = a / 256
    term = total = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    for i in range(1, 16):
        term = term @ x / i
        total = total + term
    for _ in range(8):
        total = total @ total
    return total


def analytic(calls, reference, **more):
    """A case whose reference serves complex numbers too. Views that repeat a row would make a matrix singular."""
    return Case(calls, reference, reference, dtypes=BOTH, distinct=True, **more)


def by_lapack(calls, reference):
    return Case(calls, reference, dtypes=BOTH, distinct=True)


OPS = {
    "inv": analytic(square(), np.linalg.inv),
    "solve": analytic(systems(squares, vectors=False), np.linalg.solve),
    "solve_triangular": analytic(systems(triangles, vectors=False, options=TRIANGLE), _solve_triangular),
    "cholesky": analytic(one(symmetric, True), _cholesky),
    "qr": analytic(rectangular(wide=False), packed(_qr)),
    "eigh": by_lapack(one(symmetric, False), packed(_eigh)),
    "eigvalsh": by_lapack(one(symmetric, False), lambda a: np.linalg.eigvalsh((a + t(a)) / 2)),
    "svd": by_lapack(rectangular(), packed(_svd)),
    "svdvals": by_lapack(rectangular(), lambda a: np.linalg.svd(a, compute_uv=False)),
    "det": analytic(square(), np.linalg.det),
    "cofactors": analytic(square(), _cofactors),
    "slogdet": analytic(square(), lambda a: np.stack(_slogdet(a), axis=-1)),
    "pinv": analytic(rectangular(), _pinv),
    "linear_solve": analytic(rings(), _linear_solve),
}

COMPOSITES = {
    "cholesky": analytic(
        one(symmetric, True, upper=st.booleans()), lambda a, upper: t(_cholesky(a)) if upper else _cholesky(a)
    ),
    "solve": analytic(systems(squares), _solve),
    "solve_triangular": analytic(systems(triangles, options=TRIANGLE), _solve_triangular),
    "qr": analytic(rectangular(), _qr),
    "eigh": by_lapack(one(symmetric, False), _eigh),
    "svd": by_lapack(rectangular(), _svd),
    "slogdet": analytic(square(), _slogdet),
    "lstsq": analytic(systems(rectangles), _lstsq),
    "matrix_power": analytic(square(n=st.integers(-3, 5)), np.linalg.matrix_power),
    "expm": analytic(of_any_size(), _expm),
}
