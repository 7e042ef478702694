"""Functions with a property that their derivatives inherit: two ways to write one, homogeneous ones, symmetric ones.

Most ops take part in some theorem: sin^2 + cos^2 = 1, a determinant does not change under shears, a norm grows as its
vector does. `laws/test_laws.py` differentiates both sides.
"""

import math

import numpy as np

import minigrad as mg
from minigrad import linalg

ANY, POSITIVE, INSIDE, ABOVE_ONE = (-2.0, 2.0), (0.3, 2.5), (-0.9, 0.9), (1.3, 4.0)
LINE, TABLE, SQUARE = (4,), (3, 4), (3, 3)
EYE = 2 * np.eye(3)


def conv(x, kernel, **options):
    return mg.conv1d(x[None, None], kernel[None, None], **options)[0, 0]


def times_its_transpose(a):
    return a @ a.T


# --- two ways to write one function: (this, that, domain, shapes of the arguments) ---

IDENTITIES = {
    "sin^2 + cos^2 = 1": (lambda x: mg.sin(x) ** 2 + mg.cos(x) ** 2, lambda x: x * 0 + 1, ANY, [LINE]),
    "sin(x + y) by the addition theorem": (
        lambda x, y: mg.sin(x + y),
        lambda x, y: mg.sin(x) * mg.cos(y) + mg.cos(x) * mg.sin(y),
        ANY,
        [(3, 1), LINE],
    ),
    "tan = sin / cos": (mg.tan, lambda x: mg.sin(x) / mg.cos(x), (-1.2, 1.2), [LINE]),
    "tanh x = 2 sigmoid(2x) - 1": (mg.tanh, lambda x: 2 * mg.sigmoid(2 * x) - 1, ANY, [LINE]),
    "tanh = sinh / cosh": (mg.tanh, lambda x: mg.sinh(x) / mg.cosh(x), ANY, [LINE]),
    "cosh^2 - sinh^2 = 1": (lambda x: mg.square(mg.cosh(x)) - mg.square(mg.sinh(x)), lambda x: x * 0 + 1, ANY, [LINE]),
    "sinh from exp": (mg.sinh, lambda x: (mg.exp(x) - mg.exp(-x)) / 2, ANY, [LINE]),
    "exp(x + y) = exp x exp y": (lambda x, y: mg.exp(x + y), lambda x, y: mg.exp(x) * mg.exp(y), ANY, [(3, 1), LINE]),
    "2^x from exp": (mg.exp2, lambda x: mg.exp(x * math.log(2)), ANY, [LINE]),
    "expm1 = exp - 1": (mg.expm1, lambda x: mg.exp(x) - 1, ANY, [LINE]),
    "log1p x = log(1 + x)": (mg.log1p, lambda x: mg.log(1 + x), INSIDE, [LINE]),
    "log2 from log": (mg.log2, lambda x: mg.log(x) / math.log(2), POSITIVE, [LINE]),
    "log10 from log": (mg.log10, lambda x: mg.log(x) / math.log(10), POSITIVE, [LINE]),
    "log(x y) = log x + log y": (
        lambda x, y: mg.log(x * y),
        lambda x, y: mg.log(x) + mg.log(y),
        POSITIVE,
        [(3, 1), LINE],
    ),
    "x^y = exp(y log x)": (lambda x, y: x**y, lambda x, y: mg.exp(y * mg.log(x)), POSITIVE, [(3, 1), LINE]),
    "sqrt x = x^(1/2)": (mg.sqrt, lambda x: x**0.5, POSITIVE, [LINE]),
    "rsqrt = 1 / sqrt": (mg.rsqrt, lambda x: 1 / mg.sqrt(x), POSITIVE, [LINE]),
    "1/x = x^-1": (mg.reciprocal, lambda x: x**-1.0, POSITIVE, [LINE]),
    "x / y = x y^-1": (lambda x, y: x / y, lambda x, y: x * mg.reciprocal(y), POSITIVE, [(3, 1), LINE]),
    "sigmoid x + sigmoid -x = 1": (lambda x: mg.sigmoid(x) + mg.sigmoid(-x), lambda x: x * 0 + 1, ANY, [LINE]),
    "softplus x - softplus -x = x": (lambda x: mg.softplus(x) - mg.softplus(-x), lambda x: x, ANY, [LINE]),
    "softplus = logaddexp(0, x)": (mg.softplus, lambda x: mg.logaddexp(x, 0.0), ANY, [LINE]),
    "silu x = x sigmoid x": (mg.silu, lambda x: x * mg.sigmoid(x), ANY, [LINE]),
    "gelu from erf": (mg.gelu, lambda x: x / 2 * (1 + mg.erf(x / math.sqrt(2))), ANY, [LINE]),
    "arcsin + arccos = pi/2": (lambda x: mg.arcsin(x) + mg.arccos(x), lambda x: x * 0 + math.pi / 2, INSIDE, [LINE]),
    "arctan from arcsin": (mg.arctan, lambda x: mg.arcsin(x / mg.sqrt(1 + x * x)), ANY, [LINE]),
    "arctan2 from arctan": (mg.arctan2, lambda x, y: mg.arctan(x / y), POSITIVE, [(3, 1), LINE]),
    "arcsinh from log": (mg.arcsinh, lambda x: mg.log(x + mg.sqrt(x * x + 1)), ANY, [LINE]),
    "arccosh from log": (mg.arccosh, lambda x: mg.log(x + mg.sqrt(x * x - 1)), ABOVE_ONE, [LINE]),
    "arctanh from log": (mg.arctanh, lambda x: mg.log((1 + x) / (1 - x)) / 2, INSIDE, [LINE]),
    "relu x - relu -x = x": (lambda x: mg.relu(x) - mg.relu(-x), lambda x: x, ANY, [LINE]),
    "relu x + relu -x = |x|": (lambda x: mg.relu(x) + mg.relu(-x), mg.abs, ANY, [LINE]),
    "|x| = x sign x": (mg.abs, lambda x: x * mg.sign(x), ANY, [LINE]),
    "maximum + minimum = sum": (
        lambda x, y: mg.maximum(x, y) + mg.minimum(x, y),
        lambda x, y: x + y,
        ANY,
        [(3, 1), LINE],
    ),
    "maximum - minimum = |difference|": (
        lambda x, y: mg.maximum(x, y) - mg.minimum(x, y),
        lambda x, y: mg.abs(x - y),
        ANY,
        [(3, 1), LINE],
    ),
    "logaddexp from log and exp": (mg.logaddexp, lambda x, y: mg.log(mg.exp(x) + mg.exp(y)), ANY, [(3, 1), LINE]),
    "clip from maximum and minimum": (
        lambda x: mg.clip(x, -0.5, 0.7),
        lambda x: mg.minimum(mg.maximum(x, -0.5), 0.7),
        ANY,
        [TABLE],
    ),
    "leaky relu from relu": (lambda x: mg.leaky_relu(x, 0.1), lambda x: mg.relu(x) - 0.1 * mg.relu(-x), ANY, [LINE]),
    "elu from where": (mg.elu, lambda x: mg.where(x > 0, x, mg.exp(x) - 1), ANY, [LINE]),
    # inverses
    "log exp": (lambda x: mg.log(mg.exp(x)), lambda x: x, ANY, [LINE]),
    "sin arcsin": (lambda x: mg.sin(mg.arcsin(x)), lambda x: x, INSIDE, [LINE]),
    "cos arccos": (lambda x: mg.cos(mg.arccos(x)), lambda x: x, INSIDE, [LINE]),
    "tan arctan": (lambda x: mg.tan(mg.arctan(x)), lambda x: x, ANY, [LINE]),
    "sinh arcsinh": (lambda x: mg.sinh(mg.arcsinh(x)), lambda x: x, ANY, [LINE]),
    "cosh arccosh": (lambda x: mg.cosh(mg.arccosh(x)), lambda x: x, ABOVE_ONE, [LINE]),
    "tanh arctanh": (lambda x: mg.tanh(mg.arctanh(x)), lambda x: x, INSIDE, [LINE]),
    "expm1 log1p": (lambda x: mg.expm1(mg.log1p(x)), lambda x: x, INSIDE, [LINE]),
    "square sqrt": (lambda x: mg.square(mg.sqrt(x)), lambda x: x, POSITIVE, [LINE]),
    # reductions
    "mean = sum / n": (lambda x: mg.mean(x, axis=1), lambda x: mg.sum(x, axis=1) / 4, ANY, [TABLE]),
    "var = mean square - squared mean": (
        lambda x: mg.var(x, axis=0),
        lambda x: mg.mean(x * x, axis=0) - mg.square(mg.mean(x, axis=0)),
        ANY,
        [TABLE],
    ),
    "std = sqrt var": (lambda x: mg.std(x, axis=1), lambda x: mg.sqrt(mg.var(x, axis=1)), ANY, [TABLE]),
    "norm = sqrt of the sum of squares": (
        lambda x: mg.norm(x, axis=1),
        lambda x: mg.sqrt(mg.sum(x * x, axis=1)),
        ANY,
        [TABLE],
    ),
    "3-norm from powers": (
        lambda x: mg.norm(x, ord=3, axis=1),
        lambda x: mg.sum(mg.abs(x) ** 3, axis=1) ** (1 / 3),
        ANY,
        [TABLE],
    ),
    "prod = exp of the sum of logs": (
        lambda x: mg.prod(x, axis=1),
        lambda x: mg.exp(mg.sum(mg.log(x), axis=1)),
        POSITIVE,
        [TABLE],
    ),
    "cumprod = exp of cumsum of logs": (
        lambda x: mg.cumprod(x, axis=1),
        lambda x: mg.exp(mg.cumsum(mg.log(x), axis=1)),
        POSITIVE,
        [TABLE],
    ),
    "differences of cumsum": (
        lambda x: mg.cumsum(x, axis=1)[:, 1:] - mg.cumsum(x, axis=1)[:, :-1],
        lambda x: x[:, 1:],
        ANY,
        [TABLE],
    ),
    "max x = -min -x": (lambda x: mg.max(x, axis=0), lambda x: -mg.min(-x, axis=0), ANY, [TABLE]),
    "max is the last of sort": (lambda x: mg.max(x, axis=1), lambda x: mg.sort(x, axis=1)[:, -1], ANY, [TABLE]),
    "topk is the end of sort": (
        lambda x: mg.topk(x, 2, axis=1)[0],
        lambda x: mg.flip(mg.sort(x, axis=1), axis=1)[:, :2],
        ANY,
        [TABLE],
    ),
    "logsumexp from log, sum and exp": (
        lambda x: mg.logsumexp(x, axis=1),
        lambda x: mg.log(mg.sum(mg.exp(x), axis=1)),
        ANY,
        [TABLE],
    ),
    "softmax = exp of log-softmax": (
        lambda x: mg.softmax(x, axis=0),
        lambda x: mg.exp(mg.log_softmax(x, axis=0)),
        ANY,
        [TABLE],
    ),
    "log-softmax = x - logsumexp": (
        lambda x: mg.log_softmax(x, axis=1),
        lambda x: x - mg.logsumexp(x, axis=1, keepdims=True),
        ANY,
        [TABLE],
    ),
    "softmax of two is a sigmoid": (
        lambda x: mg.softmax(x, axis=1)[:, 0],
        lambda x: mg.sigmoid(x[:, 0] - x[:, 1]),
        ANY,
        [(3, 2)],
    ),
    "cross-entropy from log-softmax": (
        lambda x: mg.softmax_cross_entropy(x, np.array([2, 0, 2])),
        lambda x: -mg.log_softmax(x, axis=1)[[0, 1, 2], [2, 0, 2]],
        ANY,
        [TABLE],
    ),
    "batch norm from mean and var": (
        lambda x, w, b: mg.batch_norm(x, w, b, eps=0.1),
        lambda x, w, b: (x - x.mean(axis=0)) / mg.sqrt(x.var(axis=0) + 0.1) * w + b,
        ANY,
        [TABLE, LINE, LINE],
    ),
    # products
    "(A B)' = B' A'": (lambda a, b: (a @ b).T, lambda a, b: b.T @ a.T, ANY, [(2, 3), TABLE]),
    "(A B) C = A (B C)": (lambda a, b, c: (a @ b) @ c, lambda a, b, c: a @ (b @ c), ANY, [(2, 3), TABLE, (4, 2)]),
    "matmul = einsum": (mg.matmul, lambda a, b: mg.einsum("...ij,...jk->...ik", a, b), ANY, [(2, 1, 2, 3), TABLE]),
    "matmul from products and a sum": (
        mg.matmul,
        lambda a, b: (a[:, :, None] * b).sum(axis=1),
        ANY,
        [(2, 3), TABLE],
    ),
    "dot = sum of products": (mg.dot, lambda a, b: (a * b).sum(), ANY, [LINE, LINE]),
    "outer by broadcasting": (mg.outer, lambda a, b: a[:, None] * b, ANY, [(3,), LINE]),
    "tensordot = einsum": (
        lambda a, b: mg.tensordot(a, b, ([0, 1], [1, 0])),
        lambda a, b: mg.einsum("ijk,jil->kl", a, b),
        ANY,
        [(2, 3, 2), (3, 2, 2)],
    ),
    "linear = x W' + b": (mg.linear, lambda x, w, b: x @ w.T + b, ANY, [(2, 3), (4, 3), LINE]),
    "trace = einsum ii": (mg.trace, lambda x: mg.einsum("ii", x), ANY, [SQUARE]),
    "tr(A B) = sum of A * B'": (lambda a, b: mg.trace(a @ b), lambda a, b: (a * b.T).sum(), ANY, [TABLE, (4, 3)]),
    # shapes and indices
    "joining what was split": (
        lambda x: mg.concatenate(mg.split(x, [1, 3], axis=1), axis=1),
        lambda x: x,
        ANY,
        [TABLE],
    ),
    "roll there and back": (lambda x: mg.roll(mg.roll(x, 2, axis=1), -2, axis=1), lambda x: x, ANY, [TABLE]),
    "flip there and back": (lambda x: mg.flip(mg.flip(x, axis=0), axis=0), lambda x: x, ANY, [TABLE]),
    "lower and upper triangle": (lambda x: mg.tril(x) + mg.triu(x, k=1), lambda x: x, ANY, [SQUARE]),
    "repeat = an index": (lambda x: mg.repeat(x, 2, axis=0), lambda x: x[[0, 0, 1, 1, 2, 2]], ANY, [TABLE]),
    "pad = writing into zeros": (
        lambda x: mg.pad(x, 1),
        lambda x: mg.index_update(mg.zeros((5, 6), dtype="f8"), (slice(1, 4), slice(1, 5)), x),
        ANY,
        [TABLE],
    ),
    "index_add = x + a write": (
        lambda x, v: mg.index_add(x, [0, 2], v),
        lambda x, v: x + mg.index_update(mg.zeros((3, 4), dtype="f8"), [0, 2], v),
        ANY,
        [TABLE, (2, 4)],
    ),
    "index_update by where": (
        lambda x, v: mg.index_update(x, 1, v),
        lambda x, v: mg.where(np.array([[False], [True], [False]]), v, x),
        ANY,
        [TABLE, LINE],
    ),
    "sort = take_along_axis of argsort": (
        lambda x: mg.sort(x, axis=0),
        lambda x: mg.take_along_axis(x, mg.argsort(x, axis=0), 0),
        ANY,
        [TABLE],
    ),
    "scatter_add of gather": (
        lambda x: mg.scatter_add(x * 0, 0, np.array([[0, 1, 2, 2]]), mg.gather(x, 0, np.array([[0, 1, 2, 2]]))),
        lambda x: x * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]),
        ANY,
        [TABLE],
    ),
    "embedding = one-hot times the table": (
        lambda w: mg.embedding(np.array([2, 0, 2]), w),
        lambda w: mg.one_hot(mg.tensor([2, 0, 2]), 3).astype("f8") @ w,
        ANY,
        [TABLE],
    ),
    # convolution and pooling
    "convolution is polynomial multiplication: (p q) r = p (q r)": (
        lambda p, q, r: conv(conv(p, mg.flip(q), padding=1), mg.flip(r), padding=1),
        lambda p, q, r: conv(conv(p, mg.flip(r), padding=1), mg.flip(q), padding=1),
        ANY,
        [LINE, (2,), (2,)],
    ),
    "a 1x1 convolution is a matrix product": (
        mg.conv2d,
        lambda x, w: mg.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]),
        ANY,
        [(2, 2, 2, 3), (3, 2, 1, 1)],
    ),
    "<conv x, y> = <x, transposed conv y>": (
        lambda x, w, y: (mg.conv2d(x, w, stride=2, padding=1) * y).sum(),
        lambda x, w, y: (x * mg.conv_transpose2d(y, w, stride=2, padding=1)).sum(),
        ANY,
        [(1, 2, 5, 5), (2, 2, 3, 3), (1, 2, 3, 3)],
    ),
    "average pooling is a convolution with 1/4": (
        lambda x: mg.avg_pool2d(x, 2),
        lambda x: mg.conv2d(x, np.full((1, 1, 2, 2), 0.25), stride=2),
        ANY,
        [(2, 1, 4, 4)],
    ),
    "max pooling is a max over windows": (
        lambda x: mg.max_pool2d(x, 2),
        lambda x: x.reshape(1, 1, 2, 2, 2, 2).max(axis=(3, 5)),
        ANY,
        [(1, 1, 4, 4)],
    ),
    # linear algebra; 2 I is added to lie away from singular matrices
    "det(A B) = det A det B": (
        lambda a, b: linalg.det(a @ b),
        lambda a, b: linalg.det(a) * linalg.det(b),
        ANY,
        [SQUARE, SQUARE],
    ),
    "A inv(A) = 1": (lambda a: (a + EYE) @ linalg.inv(a + EYE), lambda a: a * 0 + np.eye(3), (-0.5, 0.5), [SQUARE]),
    "solve(A, b) = inv(A) b": (
        lambda a, b: linalg.solve(a + EYE, b),
        lambda a, b: linalg.inv(a + EYE) @ b,
        (-0.5, 0.5),
        [SQUARE, (3, 2)],
    ),
    "Cholesky's factor squared": (
        lambda a: times_its_transpose(linalg.cholesky(times_its_transpose(a) + EYE)),
        lambda a: times_its_transpose(a) + EYE,
        ANY,
        [SQUARE],
    ),
    "Q R = A": (lambda a: mg.matmul(*linalg.qr(a + EYE)), lambda a: a + EYE, (-0.5, 0.5), [SQUARE]),
    "log det from Cholesky": (
        lambda a: linalg.slogdet(a @ a.T + EYE)[1],
        lambda a: 2 * mg.log(mg.diagonal(linalg.cholesky(a @ a.T + EYE))).sum(),
        ANY,
        [SQUARE],
    ),
    "the sum of eigenvalues is the trace": (
        lambda a: linalg.eigvalsh(a + a.T).sum(),
        lambda a: 2 * mg.trace(a),
        ANY,
        [SQUARE],
    ),
    "exp(A) exp(-A) = 1": (
        lambda a: linalg.expm(a) @ linalg.expm(-a),
        lambda a: a * 0 + np.eye(3),
        (-0.5, 0.5),
        [SQUARE],
    ),
}


# --- f(t x) = t^degree f(x): (function, degree, domain, shapes of the arguments, which all grow together) ---

HOMOGENEOUS = {
    "sum": (mg.sum, 1, ANY, [TABLE]),
    "max": (lambda x: mg.max(x, axis=0), 1, ANY, [TABLE]),
    "sort": (lambda x: mg.sort(x, axis=0), 1, ANY, [TABLE]),
    "relu": (mg.relu, 1, ANY, [TABLE]),
    "leaky relu": (mg.leaky_relu, 1, ANY, [TABLE]),
    "norm": (lambda x: mg.norm(x, axis=0), 1, ANY, [TABLE]),
    "1-norm": (lambda x: mg.norm(x, ord=1, axis=0), 1, ANY, [TABLE]),
    "3-norm": (lambda x: mg.norm(x, ord=3), 1, ANY, [TABLE]),
    "largest size": (lambda x: mg.norm(x, ord=np.inf), 1, ANY, [TABLE]),
    "std": (mg.std, 1, ANY, [TABLE]),
    "var": (lambda x: mg.var(x, axis=1), 2, ANY, [TABLE]),
    "maximum": (mg.maximum, 1, ANY, [TABLE, LINE]),
    "x y / (x + y)": (lambda x, y: x * y / (x + y), 1, POSITIVE, [TABLE, LINE]),
    "geometric mean": (lambda x: mg.prod(x, axis=1) ** (1 / 4), 1, POSITIVE, [TABLE]),
    "max pooling": (lambda x: mg.max_pool2d(x, 2), 1, ANY, [(1, 2, 4, 4)]),
    "average pooling": (lambda x: mg.avg_pool2d(x, 2), 1, ANY, [(1, 2, 4, 4)]),
    "square": (mg.square, 2, ANY, [TABLE]),
    "multiply": (mg.multiply, 2, ANY, [TABLE, LINE]),
    "matmul": (mg.matmul, 2, ANY, [(2, 3), TABLE]),
    "a convolution": (mg.conv2d, 2, ANY, [(1, 2, 4, 4), (2, 2, 3, 3)]),
    "quadratic form": (lambda x, a: mg.einsum("i,ij,j", x, a, x), 3, ANY, [(3,), SQUARE]),
    "three-fold einsum": (lambda x, y, z: mg.einsum("ij,jk,kl->il", x, y, z), 3, ANY, [TABLE, (4, 2), (2, 3)]),
    "prod": (lambda x: mg.prod(x, axis=1), 4, ANY, [TABLE]),
    "det": (linalg.det, 3, ANY, [SQUARE]),
    "inv": (lambda a: linalg.inv(a), -1, POSITIVE, [(2, 2)]),
    "matrix power": (lambda a: linalg.matrix_power(a, 3), 3, ANY, [SQUARE]),
    "eigenvalues": (lambda a: linalg.eigvalsh(a + a.T), 1, ANY, [SQUARE]),
    "singular values": (linalg.svdvals, 1, ANY, [TABLE]),
    "solve": (linalg.solve, 0, POSITIVE, [SQUARE, (3, 2)]),
    "power 2.5": (lambda x: x**2.5, 2.5, POSITIVE, [LINE]),
    "sqrt": (mg.sqrt, 0.5, POSITIVE, [LINE]),
    "rsqrt": (mg.rsqrt, -0.5, POSITIVE, [LINE]),
    "reciprocal": (mg.reciprocal, -1, POSITIVE, [LINE]),
    "divide": (mg.divide, 0, POSITIVE, [TABLE, LINE]),
    "arctan2": (mg.arctan2, 0, POSITIVE, [TABLE, LINE]),
    "direction": (lambda x: x / mg.norm(x), 0, ANY, [TABLE]),
    "batch norm without eps": (lambda x: mg.batch_norm(x, eps=0.0), 0, ANY, [TABLE]),
}

# --- where the arguments move along a flow, the function stays, or moves in a known way ---
# (function, how the arguments move, how the function does; None: not at all; shapes of the arguments)

TURN = np.array([[0, 1, -2], [-1, 0, 0.5], [2, -0.5, 0]])
SHEAR = np.array([[0, 1, -2], [0, 0, 0.5], [0, 0, 0]])
MIX = np.array([[1, 1, -2], [0.5, -1, 0.5], [0, 3, 2]])


def ones(*xs):
    return [np.ones_like(x) for x in xs]


FLOWS = {
    "softmax, shifted": (lambda x: mg.softmax(x, axis=1), ones, None, [TABLE]),
    "log-softmax, shifted": (lambda x: mg.log_softmax(x, axis=1), ones, None, [TABLE]),
    "cross-entropy, shifted": (lambda x: mg.softmax_cross_entropy(x, np.array([1, 0, 3])), ones, None, [TABLE]),
    "logsumexp, shifted": (lambda x: mg.logsumexp(x, axis=1), ones, np.ones_like, [TABLE]),
    "logaddexp, shifted": (mg.logaddexp, ones, np.ones_like, [TABLE, LINE]),
    "mean, shifted": (lambda x: mg.mean(x, axis=0), ones, np.ones_like, [TABLE]),
    "max, shifted": (lambda x: mg.max(x, axis=0), ones, np.ones_like, [TABLE]),
    "sort, shifted": (lambda x: mg.sort(x, axis=0), ones, np.ones_like, [TABLE]),
    "max pooling, shifted": (lambda x: mg.max_pool2d(x, 2), ones, np.ones_like, [(1, 2, 4, 4)]),
    "var, shifted": (lambda x: mg.var(x, axis=1), ones, None, [TABLE]),
    "std, shifted": (mg.std, ones, None, [TABLE]),
    "batch norm, shifted": (lambda x: mg.batch_norm(x, eps=0.1), ones, None, [TABLE]),
    "differences, shifted": (lambda x: x[1:] - x[:-1], ones, None, [TABLE]),
    "exp, shifted": (mg.exp, ones, lambda y: y, [TABLE]),
    "norms of columns, turned": (lambda x: mg.norm(x, axis=0), lambda x: [TURN @ x], None, [TABLE]),
    "x' x, turned": (lambda x: x.T @ x, lambda x: [TURN @ x], None, [TABLE]),
    "singular values, turned": (linalg.svdvals, lambda x: [TURN @ x], None, [TABLE]),
    "det, sheared": (linalg.det, lambda x: [SHEAR @ x], None, [SQUARE]),
    "det, multiplied": (linalg.det, lambda x: [MIX @ x], lambda y: y * np.trace(MIX), [SQUARE]),
    "log det, multiplied": (
        lambda x: linalg.slogdet(x)[1],
        lambda x: [MIX @ x],
        lambda y: np.asarray(np.trace(MIX)),
        [SQUARE],
    ),
    "trace, conjugated": (lambda x: mg.trace(x @ x @ x), lambda x: [MIX @ x - x @ MIX], None, [SQUARE]),
    "a product, with a change of basis between": (mg.matmul, lambda a, b: [a @ MIX, -MIX @ b], None, [(2, 3), TABLE]),
    "solve, rows mixed": (linalg.solve, lambda a, b: [MIX @ a, MIX @ b], None, [SQUARE, (3, 2)]),
    "sin^2 + cos^2, anywhere": (lambda x: mg.sin(x) ** 2 + mg.cos(x) ** 2, ones, None, [TABLE]),
    "log, in proportion": (lambda x: mg.log(mg.exp(x)), lambda x: [x], lambda y: y, [TABLE]),
}
