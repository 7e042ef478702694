"""Linear algebra: solving, inverting, decomposing matrices, with derivatives of any order. Public as `minigrad.linalg`.

After this file you know the names, which are NumPy's, and the rules that hold for all of them:

- Matrices are in the last two axes; all axes before are a batch. Batches broadcast where NumPy's do.
- float32 stays float32, integers become float64, float16 is refused (no library decomposes it).
- A result that does not exist (the inverse of a singular matrix, the Cholesky factor of one that is not positive
  definite) raises NumPy's `LinAlgError` on every device. So does a NaN or infinity in a matrix to be solved with or
  decomposed. In a right-hand side, in det, slogdet and positive powers they pass through, as in any other op.
- Where a result is not a smooth function of the matrix, as an eigenvector of a repeated eigenvalue, the op gives the
  value, and its derivative raises `GradientError`.
"""

from minigrad.ops.linalg.factors import cholesky, eigh, eigvalsh, qr, svd, svdvals
from minigrad.ops.linalg.matrices import LinAlgError
from minigrad.ops.linalg.matrix_functions import det, expm, lstsq, matrix_power, pinv, slogdet
from minigrad.ops.linalg.solving import inv, solve, solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "expm",
    "inv",
    "lstsq",
    "matrix_power",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
]


def __dir__() -> list[str]:
    return sorted(__all__)
