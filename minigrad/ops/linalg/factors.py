"""Factors of a matrix: Cholesky, QR, eigenvalues of symmetric matrices, singular values.

After this file you know how a decomposition is differentiated: write its defining equations, differentiate them, and
multiply by the factors until the unknown, a triangular or an antisymmetric matrix, is alone on its side. And you know
where that fails: the antisymmetric matrix of rotations among eigenvectors contains 1 / (w_j - w_i). Where two
eigenvalues are equal the vectors are not unique and have no derivative, so asking for it raises. The eigenvalues alone
still have theirs.

Signs, which the equations leave open, are chosen here, so that every device and library gives the same factors: the
diagonal of R is positive; in an eigenvector, and a left singular vector, the first entry of at least half the largest
one's size is positive.
"""

from __future__ import annotations

from minigrad.autograd.errors import GradientError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import TensorLike
from minigrad.backend import namespace
from minigrad.ops.linalg.matrices import (
    LinAlgError,
    attempt,
    check_matrix,
    identity,
    inverse_unless,
    pack,
    rounding,
    some,
    symmetric_part,
    t,
    unpack,
)
from minigrad.ops.linalg.solving import solve_triangular
from minigrad.ops.products import matmul
from minigrad.ops.shapes import concatenate, tril

NO_CONVERGENCE = "could not be decomposed: the iteration did not converge."
SVDVALS = "svdvals. (At or close to a singular matrix, third and higher derivatives of det go through these vectors.)"

# --- Cholesky ---


@composite
def cholesky(a: TensorLike, *, upper: bool = False) -> Tensor:
    """The lower triangular L, of positive diagonal, with L L' = a, for symmetric positive definite a (..., n, n).

    L' if `upper`. A function of the symmetric part (a + a') / 2: the gradient is symmetric, as PyTorch's, and right
    along every direction. (NumPy reads one triangle; for symmetric a that is the same.) Derivatives: Murray 2016,
    "Differentiation of the Cholesky decomposition": dL = L Phi(L^-1 da L^-T), where Phi keeps the lower triangle and
    half the diagonal. Raises LinAlgError where a is not positive definite.
    """
    return t(_cholesky(a)) if upper else _cholesky(a)


@primitive(symbol="chol", local="L tril(L^-1 (.) L^-T)")
def _cholesky(a: TensorLike) -> Tensor:
    check_matrix("cholesky", a, square=True)
    xp = namespace(a)

    def compute():
        factor = xp.linalg.cholesky(symmetric_part(a))
        if some((factor <= 0) & (identity(factor, a.shape[-1]) > 0)):  # where LAPACK stopped; CuPy does not report it
            raise LinAlgError("a pivot is not positive")
        return factor

    return attempt("cholesky", compute, a, "is not positive definite: its symmetric part has an eigenvalue <= 0.")


def _phi(x):
    """The lower triangle with half the diagonal: of a symmetric x, the triangular y with y + y' = x."""
    return (tril(x) + tril(x, k=-1)) * 0.5


def _cholesky_pull(g, out):
    upper = t(out)
    half = solve_triangular(upper, _phi(upper @ g))
    return symmetric_part(solve_triangular(upper, t(half)))


def _cholesky_push(da, out):
    half = solve_triangular(out, symmetric_part(da), lower=True)
    return out @ _phi(solve_triangular(out, t(half), lower=True))


_cholesky.defvjp(a=_cholesky_pull)
_cholesky.defjvp(a=_cholesky_push)

# --- QR ---


@primitive(symbol="qr", local="dR = (M - W) R, dQ = (.) R^-1 - Q (M - W)")
def _qr(a: TensorLike) -> Tensor:
    """Q (..., m, n) and R (..., n, n), packed, of a (..., m, n) that is not wide."""
    q, r = attempt("qr", lambda: tuple(namespace(a).linalg.qr(a)), a, NO_CONVERGENCE)
    xp, signs = namespace(a), (r * identity(r, r.shape[-1])).sum(axis=-1)[..., None]
    return pack(a.shape[:-2], xp.where(t(signs) < 0, -q, q), xp.where(signs < 0, -r, r))


def _qr_factors(packed, a_shape):
    m, n = a_shape[-2:]
    q, r = unpack(packed, (m, n), (n, n))
    return q, r


def _qr_push(da, out, a_shape):
    q, r = _full_rank("qr", *_qr_factors(out, a_shape))
    c = t(solve_triangular(t(r), t(da), lower=True))  # da R^-1
    inner = t(q) @ c  # Q'dQ + dR R^-1: antisymmetric plus upper triangular
    below = tril(inner, k=-1)
    upper = inner - below + t(below)
    return pack(a_shape[:-2], c - q @ upper, upper @ r)


def _qr_pull(g, out, a_shape):
    q, r = _full_rank("qr", *_qr_factors(out, a_shape))
    gq, gr = _qr_factors(g, a_shape)
    inner = r @ t(gr) - t(gq) @ q
    mirrored = tril(inner) + t(tril(inner, k=-1))
    return t(solve_triangular(r, t(gq + q @ mirrored)))


_qr.defvjp(a=_qr_pull)
_qr.defjvp(a=_qr_push)


def _full_rank(op, q, r):
    if rank_is_short(r):
        raise GradientError(
            f"{op}: at a matrix without full column rank (in its first columns, if it is wide) Q is not unique and has "
            "no derivative; the diagonal of R holds a zero. Leave out columns that depend on others."
        )
    return q, r


def rank_is_short(r) -> bool:
    """Whether the R of any QR decomposition has a diagonal entry that is zero to rounding."""
    r = array_of(r)
    diagonal = namespace(r).abs((r * identity(r, r.shape[-1])).sum(axis=-1))
    return some(diagonal <= rounding(diagonal))


@composite
def qr(a: TensorLike) -> tuple[Tensor, Tensor]:
    """(Q, R) with Q @ R = a: Q (..., m, k) of orthonormal columns, R (..., k, n) upper triangular, k = min(m, n).

    The diagonal of R is positive, other than in LAPACK, which makes this a smooth function of a. Derivatives: Walter
    and Lehmann 2010, "Algorithmic differentiation of linear algebra functions with application in optimum experimental
    design"; those of a wide a follow from its first m columns. Raises GradientError for derivatives where these are
    linearly dependent.
    """
    check_matrix("qr", a)
    m, n = a.shape[-2:]
    if m >= n:
        q, r = _qr_factors(_qr(a), a.shape)
        return q, r
    first = a[..., :m]
    q, r = _qr_factors(_qr(first), first.shape)
    return q, concatenate([r, matmul(t(q), a[..., m:])], axis=-1)


# --- eigenvalues and eigenvectors of symmetric matrices ---


def _leading(v):
    """Of each column, the first entry of at least half the largest one's size: its sign is the column's."""
    xp = namespace(v)
    large = xp.abs(v) >= 0.5 * xp.abs(v).max(axis=-2, keepdims=True) if v.size else xp.abs(v) > 0
    return (v * (large & (xp.cumsum(large * 1, axis=-2) == 1))).sum(axis=-2)[..., None, :]


@primitive(symbol="eigh", local="dw_i = v_i'(.)v_i, dv_i = sum v_j v_j'(.)v_i / (w_i - w_j)")
def _eigh(a: TensorLike) -> Tensor:
    """The eigenvalues (..., n) and eigenvectors (..., n, n), packed."""
    xp = namespace(a)
    w, v = attempt("eigh", lambda: tuple(xp.linalg.eigh(symmetric_part(a))), a, NO_CONVERGENCE)
    return pack(a.shape[:-2], w, xp.where(_leading(v) < 0, -v, v))


def _eigh_factors(packed, a_shape):
    n = a_shape[-1]
    w, v = unpack(packed, (n,), (n, n))
    return w, v


def _close_pairs(values):
    """Which pairs of these eigenvalues, or singular values, are equal to rounding; each with itself too."""
    values = array_of(values)
    return namespace(values).abs(values[..., None, :] - values[..., :, None]) <= rounding(values)[..., None]


def _refuse(op, not_unique, asked, reason, values_alone):
    """GradientError where a derivative is `asked` (..., k) of vectors of which others are as good."""
    if some(not_unique & asked):
        raise GradientError(
            f"{op}: the vectors of {reason} are not unique, so they have no derivative. The vectors of every other "
            f"value have one, and so have the values alone: see {values_alone}"
        )


def _refuse_repeated(close, asked):
    _refuse("eigh", close.sum(axis=-1) > 1, asked, "a repeated eigenvalue (equal to rounding)", "eigvalsh.")


def _eigh_push(da, out, a_shape):
    w, v = _eigh_factors(out, a_shape)
    close = _close_pairs(w)
    _refuse_repeated(close, _nonzero(da, axis=(-2, -1))[..., None])
    da = symmetric_part(da)
    inner = t(v) @ da @ v
    dw = (v * (da @ v)).sum(axis=-2)
    return pack(a_shape[:-2], dw, v @ (inner * inverse_unless(close, w[..., None, :] - w[..., :, None])))


def _eigh_pull(g, out, a_shape):
    (w, v), (gw, gv) = _eigh_factors(out, a_shape), _eigh_factors(g, a_shape)
    close = _close_pairs(w)
    _refuse_repeated(close, _nonzero(gv, axis=-2))
    rotations = (t(v) @ gv) * inverse_unless(close, w[..., None, :] - w[..., :, None])
    return symmetric_part((v * gw[..., None, :] + v @ rotations) @ t(v))


def _nonzero(x, axis):
    return (array_of(x) != 0).any(axis=axis)


_eigh.defvjp(a=_eigh_pull)
_eigh.defjvp(a=_eigh_push)


@composite
def eigh(a: TensorLike) -> tuple[Tensor, Tensor]:
    """(w, v): eigenvalues in rising order (..., n) and eigenvectors, the columns of v (..., n, n), of symmetric a.

    A function of the symmetric part (a + a') / 2; gradients are symmetric, as PyTorch's. The sign of each vector is
    chosen as this module says. dw_i = v_i' da v_i and dv_i = sum over j of v_j (v_j' da v_i) / (w_i - w_j) (Giles 2008,
    3.1; Magnus 1985). Raises GradientError for a derivative of vectors of a repeated eigenvalue; in forward mode, where
    values and vectors move together, see eigvalsh for those of the values.
    """
    check_matrix("eigh", a, square=True)
    w, v = _eigh_factors(_eigh(a), a.shape)
    return w, v


@primitive(symbol="eigvalsh", local="v_i'(.)v_i")
def eigvalsh(a: TensorLike) -> Tensor:
    """The eigenvalues of symmetric a, of its symmetric part, in rising order: (..., n). dw_i = v_i' da v_i.

    Where eigenvalues are equal the derivative is that for one choice of vectors: right for functions that treat
    equals alike. The derivative of the derivative needs that of the vectors: see `eigh`.
    """
    check_matrix("eigvalsh", a, square=True)
    return attempt("eigvalsh", lambda: namespace(a).linalg.eigvalsh(symmetric_part(a)), a, NO_CONVERGENCE)


def _eigvalsh_pull(g, a):
    _, v = eigh(a)
    return symmetric_part((v * g[..., None, :]) @ t(v))


def _eigvalsh_push(da, a):
    _, v = eigh(a)
    return (v * (symmetric_part(da) @ v)).sum(axis=-2)


eigvalsh.defvjp(a=_eigvalsh_pull)
eigvalsh.defjvp(a=_eigvalsh_push)

# --- singular values ---


@primitive(symbol="svd", local="ds_i = u_i'(.)v_i, du and dv as in eigh")
def _svd(a: TensorLike) -> Tensor:
    """U (..., m, k), S (..., k) and V' (..., k, n), packed; k = min(m, n)."""
    xp = namespace(a)
    u, s, vh = attempt("svd", lambda: tuple(xp.linalg.svd(a, full_matrices=False)), a, NO_CONVERGENCE)
    turned = _leading(u) < 0
    return pack(a.shape[:-2], xp.where(turned, -u, u), s, xp.where(t(turned), -vh, vh))


def _svd_factors(packed, a_shape):
    m, n = a_shape[-2:]
    k = min(m, n)
    u, s, vh = unpack(packed, (m, k), (k,), (k, n))
    return u, s, vh


def _svd_divisors(s, asked):
    """1 / (s_j^2 - s_i^2) and 1 / s_j, with 0 where a vector is not unique, whose derivative must not be asked."""
    close, zero = _close_pairs(s), array_of(s) <= rounding(s)
    _refuse("svd", close.sum(axis=-1) > 1, asked, "a repeated singular value (equal to rounding)", SVDVALS)
    _refuse("svd", zero, asked, "a singular value that is zero (to rounding)", SVDVALS)
    rows, columns = s[..., :, None], s[..., None, :]
    return inverse_unless(close, (columns - rows) * (columns + rows)), inverse_unless(zero, s)


def _svd_push(da, out, a_shape):
    u, s, vh = _svd_factors(out, a_shape)
    squares, inverse = _svd_divisors(s, _nonzero(da, axis=(-2, -1))[..., None])
    m, n = a_shape[-2:]
    rows, columns = s[..., :, None], s[..., None, :]
    inner = t(u) @ da @ t(vh)
    ds = (u * (da @ t(vh))).sum(axis=-2)
    du = u @ (squares * (inner * columns + rows * t(inner)))
    dvh = t(squares * (rows * inner + t(inner) * columns)) @ vh
    if m > n:  # out of the space of the columns
        du = du + (da @ t(vh) - u @ inner) * inverse[..., None, :]
    if n > m:
        dvh = dvh + inverse[..., :, None] * (t(u) @ da - inner @ vh)
    return pack(a_shape[:-2], du, ds, dvh)


def _svd_pull(g, out, a_shape):
    (u, s, vh), (gu, gs, gvh) = _svd_factors(out, a_shape), _svd_factors(g, a_shape)
    squares, inverse = _svd_divisors(s, _nonzero(gu, axis=-2) | _nonzero(gvh, axis=-1))
    m, n = a_shape[-2:]
    x, y = t(u) @ gu, vh @ t(gvh)
    inner = squares * (x - t(x)) * s[..., None, :] + s[..., :, None] * squares * (y - t(y))
    ga = (u * gs[..., None, :] + u @ inner) @ vh
    if m > n:
        ga = ga + (gu - u @ x) * inverse[..., None, :] @ vh
    if n > m:
        ga = ga + u @ (inverse[..., :, None] * (gvh - t(y) @ vh))
    return ga


_svd.defvjp(a=_svd_pull)
_svd.defjvp(a=_svd_push)


@composite
def svd(a: TensorLike, full_matrices: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh), reduced: a = U @ diag(S) @ Vh, U (..., m, k), S (..., k) falling, Vh (..., k, n), k = min(m, n).

    The signs of each pair of vectors are chosen as this module says. Derivatives: Townsend 2016, "Differentiating the
    singular value decomposition". Raises GradientError for a derivative of vectors whose singular value is repeated or
    zero; in forward mode, where all move together, see svdvals for those of the values.
    """
    check_matrix("svd", a)
    if full_matrices:
        raise ValueError(
            "svd: only full_matrices=False, for the vectors that full_matrices=True would add are not unique and have "
            "no derivative."
        )
    u, s, vh = _svd_factors(_svd(a), a.shape)
    return u, s, vh


@primitive(symbol="svdvals", local="u_i'(.)v_i")
def svdvals(a: TensorLike) -> Tensor:
    """The singular values of a (..., m, n) in falling order: (..., min(m, n)). ds_i = u_i' da v_i.

    The first is the spectral norm, their sum the nuclear norm. Equal values: as in `eigvalsh`. At a singular value
    of zero, where it has a kink as abs has, the derivative is that of one side.
    """
    check_matrix("svdvals", a)
    return attempt("svdvals", lambda: namespace(a).linalg.svd(a, compute_uv=False), a, NO_CONVERGENCE)


def _svdvals_pull(g, a):
    u, _, vh = svd(a)
    return (u * g[..., None, :]) @ vh


def _svdvals_push(da, a):
    u, _, vh = svd(a)
    return (u * (da @ t(vh))).sum(axis=-2)


svdvals.defvjp(a=_svdvals_pull)
svdvals.defjvp(a=_svdvals_push)
