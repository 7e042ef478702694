"""Functions composed of solutions and factors: determinants, least squares, powers and the exponential of a matrix.

After this file you know that most of these need no rule of their own, and that the determinant, a polynomial, has a
derivative at every matrix, though the formula with the inverse in it fails at singular ones.
"""

from __future__ import annotations

import numpy as np

from minigrad.autograd.errors import GradientError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import TensorLike
from minigrad.backend import bare, namespace
from minigrad.ops.arithmetic import where, zeros_like
from minigrad.ops.linalg.factors import NO_CONVERGENCE, qr, rank_is_short, svd
from minigrad.ops.linalg.matrices import (
    LinAlgError,
    attempt,
    check_matrix,
    finite,
    identity,
    some,
    t,
)
from minigrad.ops.linalg.solving import inv, solve, solve_triangular, with_columns
from minigrad.ops.products import matmul
from minigrad.ops.reductions import prod
from minigrad.ops.shapes import concatenate

# --- determinants ---


@primitive(symbol="det", local="cofactors")
def det(a: TensorLike) -> Tensor:
    """The determinant of square matrices (..., n, n): shape (...). Its gradient is the matrix of cofactors.

    Where a is regular that is det(a) a^-T (Jacobi's formula). The first and the second derivative are right at singular
    matrices too. Higher ones there, and where the smallest singular value is below a thousandth of the largest, go
    through derivatives of the singular vectors, and are a GradientError where those have none (see `svd`). For large
    matrices see slogdet: products of many numbers overflow.
    """
    check_matrix("det", a, square=True)
    return namespace(a).linalg.det(a)


@primitive(symbol="cofactors", local="second minors")
def _cofactors(a: TensorLike) -> Tensor:
    """The matrix of cofactors. Of U S V', as every matrix is, it is the product of those of U, S and V'.

    For the orthogonal U it is det(U) U; for the diagonal S each entry becomes the product of all others.
    """
    u, s, vh = svd(a)
    others = _products_but(s, identity(a, a.shape[-1]) > 0)
    return _orientation(u, vh)[..., None, None] * ((u * others[..., None, :]) @ vh)


det.defvjp(a=lambda g, a: g[..., None, None] * _cofactors(a))
det.defjvp(a=lambda da, a: (da * _cofactors(a)).sum(axis=(-2, -1)))


def _products_but(s, left_out):
    """Products of s along its last axis, one for each row of `left_out`, which marks the factors to leave out."""
    axes = (None,) * (left_out.ndim - 1)
    return prod(where(left_out, 1.0, s[(..., *axes, slice(None))]), axis=-1)


def _orientation(u, vh):
    """det(U) det(V'), which is 1 or -1, and so a constant."""
    u, vh = array_of(u), array_of(vh)
    return namespace(u).sign(namespace(u).linalg.det(u) * namespace(u).linalg.det(vh))


def _cofactors_along(da, a, out):
    """How the cofactors C change along da. As a second derivative (of det) it is its own adjoint: the vjp is the jvp.

    With X = a^-1: tr(X da) C - C da' X'. Near singular matrices that is a difference of huge numbers; there the same is
    worked out in the basis of the singular vectors, where a is diagonal, from products of all but two singular values.
    """
    if _is_far_from_singular(a):
        inverse = inv(a)
        return (t(inverse) * da).sum(axis=(-2, -1))[..., None, None] * out - out @ t(da) @ t(inverse)
    u, s, vh = svd(a)
    n, same = a.shape[-1], identity(a, a.shape[-1]) > 0
    others = _products_but(s, same[:, None, :] | same[None, :, :]) * (1 - identity(a, n))
    turned = t(u) @ da @ t(vh)
    diagonal = (turned * identity(a, n)).sum(axis=-1)[..., None, :]
    inner = (others * diagonal).sum(axis=-1)[..., None] * identity(a, n) - others * t(turned)
    return _orientation(u, vh)[..., None, None] * (u @ inner @ vh)


def _is_far_from_singular(a) -> bool:
    """Whether all singular values lie within a factor of 1000, so that the inverse costs at most three digits."""
    a = array_of(a)
    s = namespace(a).linalg.svd(a, compute_uv=False)
    return not some(s[..., -1:] <= 1e-3 * s[..., :1])


_cofactors.defvjp(a=lambda g, a, out: _cofactors_along(g, a, out))
_cofactors.defjvp(a=_cofactors_along)


@primitive(symbol="slogdet", local="a^-T")
def _slogdet(a: TensorLike) -> Tensor:
    """sign and log|det|, side by side along a new last axis."""
    parts = namespace(a).linalg.slogdet(a)
    return namespace(a).concatenate([part[..., None] for part in parts], axis=-1)


def _log_slope(a):
    try:
        return t(inv(a))
    except LinAlgError as error:
        raise GradientError(f"slogdet: log|det| has no derivative here: {error}") from error


_slogdet.defvjp(a=lambda g, a: g[..., 1, None, None] * _log_slope(a))


def _slogdet_push(da, a):
    log = (da * _log_slope(a)).sum(axis=(-2, -1))[..., None]
    return concatenate([zeros_like(log), log], axis=-1)


_slogdet.defjvp(a=_slogdet_push)


@composite
def slogdet(a: TensorLike) -> tuple[Tensor, Tensor]:
    """(sign, logabsdet) of square matrices (..., n, n), each (...): the determinant is sign * exp(logabsdet).

    The gradient of logabsdet is a^-T (from Giles 2008, 2.2.4), that of sign is zero. For a singular a they are 0 and
    -inf, as in NumPy, and a derivative raises GradientError.
    """
    check_matrix("slogdet", a, square=True)
    both = _slogdet(a)
    return both[..., 0], both[..., 1]


# --- least squares ---


@composite
def lstsq(a: TensorLike, b: TensorLike) -> Tensor:
    """The x that makes a @ x - b smallest, and of those the smallest: (..., n), or (..., n, k), for a (..., m, n).

    b is (m,) or (..., m, k), as in `solve`. Returns x alone, other than NumPy and PyTorch: the residual is b - a @ x,
    the rank is min(m, n), and the singular values are svdvals(a). By QR: of a for m >= n (x = R^-1 Q'b), of a' for
    m < n (x = Q R^-T b). Raises LinAlgError where a does not have full rank, since there x is not a continuous function
    of a; pinv(a) @ b still gives a value.
    """
    check_matrix("lstsq", a)
    return with_columns("lstsq", a, b, _lstsq)


def _lstsq(a, b):
    m, n = a.shape[-2:]
    q, r = qr(a if m >= n else t(a))
    if rank_is_short(r):
        raise LinAlgError(
            f"lstsq: a matrix of shape {a.shape} has not full rank (to rounding), so the solution jumps. Leave out "
            "columns that depend on others, add a ridge, or take pinv(a) @ b for the smallest solution."
        )
    if m >= n:
        return solve_triangular(r, matmul(t(q), b))
    return matmul(q, solve_triangular(t(r), b, lower=True))


@primitive(symbol="pinv", local="-y (.) y + ...")
def pinv(a: TensorLike, *, rcond: float | None = None) -> Tensor:
    """The pseudoinverse (..., n, m) of a (..., m, n) (Moore-Penrose), by its SVD.

    Singular values up to rcond times the largest count as zero; rcond is max(m, n) eps by default, as in PyTorch.
    Derivatives: Golub and Pereyra 1973, "The differentiation of pseudo-inverses", eq. 4.12. Raises GradientError for a
    derivative where a has not full rank, since pinv jumps there.
    """
    check_matrix("pinv", a)
    xp = namespace(a)
    u, s, vh = attempt("pinv", lambda: tuple(xp.linalg.svd(a, full_matrices=False)), a, NO_CONVERGENCE)
    if not s.size:
        return t(a).astype(s.dtype)
    rcond = max(a.shape[-2:]) * float(np.finfo(s.dtype).eps) if rcond is None else rcond
    kept = s > rcond * s[..., :1]
    inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0)
    return t(vh) @ (inverse[..., None] * t(u))


def _check_rank(a, out):
    """The trace of a^+ a is the rank, to rounding."""
    ranks = (t(array_of(out)) * array_of(a)).sum(axis=(-2, -1))
    if some(ranks < min(a.shape[-2:]) - 0.5):
        raise GradientError(
            "pinv: at a matrix without full rank the pseudoinverse jumps, so it has no derivative. Leave out rows or "
            "columns that depend on others, or use a ridge: solve(a.T @ a + c * eye(n), a.T)."
        )


def _pinv_pull(g, a, out):
    _check_rank(a, out)
    (m, n), gt, outt = a.shape[-2:], t(g), t(out)
    ga = -(outt @ g @ outt)
    if m > n:
        ga = ga + (gt - a @ (out @ gt)) @ out @ outt
    if n > m:
        ga = ga + outt @ out @ (gt - (gt @ out) @ a)
    return ga


def _pinv_push(da, a, out):
    _check_rank(a, out)
    (m, n), dat, outt = a.shape[-2:], t(da), t(out)
    dout = -(out @ da @ out)
    if m > n:
        dout = dout + out @ outt @ (dat - (dat @ a) @ out)
    if n > m:
        dout = dout + (dat - out @ (a @ dat)) @ outt @ out
    return dout


pinv.defvjp(a=_pinv_pull)
pinv.defjvp(a=_pinv_push)

# --- powers and the exponential ---


@composite
def matrix_power(a: TensorLike, n: int) -> Tensor:
    """a @ a @ ... @ a, n times, by repeated squaring; the identity for n = 0, powers of the inverse for negative n."""
    check_matrix("matrix_power", a, square=True)
    if not isinstance(n, (int, np.integer)):
        raise TypeError(f"matrix_power: the exponent must be an integer, got {type(n).__name__}.")
    if n == 0:  # connected to a, of which it is a constant function
        return where(identity(a, a.shape[-1]) < 0, a, identity(a, a.shape[-1]))
    square, result, rest = (a if n > 0 else inv(a)), None, abs(int(n))
    while True:
        if rest % 2:
            result = square if result is None else matmul(result, square)
        rest //= 2
        if not rest:
            return result  # type: ignore[return-value]
        square = matmul(square, square)


# The coefficients of q in `_pade`, and the 1-norm up to which it serves.
PADE = [64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600]
PADE += [670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1]
FAR = 4.74


@composite
def expm(a: TensorLike) -> Tensor:
    """e^a = 1 + a + a @ a / 2 + ..., the exponential of square matrices (..., n, n).

    Scaling and squaring (Higham 2005, "The scaling and squaring method for the matrix exponential revisited"): halve a
    until its 1-norm is at most 4.74, take the quotient of polynomials of degree 13 that is e^a to rounding there, and
    square it back. Derivatives follow from these steps: 4.74 is the bound up to which the derivative of the quotient
    is exact to rounding too (Al-Mohy and Higham 2009, table 6.1). Raises LinAlgError where e^a overflows.
    """
    check_matrix("expm", a, square=True)
    if not a.size:
        return a * 1.0
    halvings = _halvings(array_of(a))
    result = _pade(a * (0.5**halvings)[..., None, None])
    for step in range(int(bare(halvings).max())):
        result = where((step < halvings)[..., None, None], matmul(result, result), result)
    if not finite(result):
        raise LinAlgError(f"expm: e^a of shape {a.shape} holds numbers larger than {result.dtype} has; make a smaller.")
    return result


def _halvings(a):
    """How often each matrix is to be halved, as whole floats."""
    xp = namespace(a)
    norms = xp.abs(a * 1.0).sum(axis=-2).max(axis=-1)
    if not finite(norms):
        raise LinAlgError(f"expm: a matrix of {a.shape} holds NaN or infinity; see where it comes from.")
    return xp.ceil(xp.log2(xp.maximum(norms / FAR, 1)))


def _pade(x):
    """q(-x)^-1 q(x) with q(x) = sum of PADE[i] x^i: the even powers once, the odd ones with either sign."""
    c = [coefficient / PADE[0] for coefficient in PADE]
    one = identity(x, x.shape[-1])
    x2 = matmul(x, x)
    x4 = matmul(x2, x2)
    x6 = matmul(x4, x2)
    odd = matmul(x6, c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one
    even = matmul(x6, c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + one
    odd = matmul(x, odd)
    return solve(even - odd, even + odd)
