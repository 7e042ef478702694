"""JAX as an oracle of the transforms: the same functions, given to the same transforms under the same names.

Most functions are written once, for either library: `m` is minigrad or jax.numpy.
"""

from functools import partial

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.transforms.trees import flatten, flatten_like, map_leaves

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax

# Compiling takes most of the time here; running takes none.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def some(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return RNG.uniform(0.2, 0.8, shape)


def both(f):
    """(ours, JAX's) of a function of a module and arguments."""
    return partial(f, mg), partial(f, jnp)


def conv(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    def theirs(x, w):
        pads = [(p, p) for p in padding]
        return lax.conv_general_dilated(x, w, stride, pads, rhs_dilation=dilation, feature_group_count=groups)

    return lambda x, w: mg.conv2d(x, w, None, stride, padding, dilation, groups), theirs


def windows(x, init, op, size, stride):
    return lax.reduce_window(x, init, op, (1, 1, *size), (1, 1, *stride), "VALID")


def network(m, p, x):
    """A dict of layers, a batch in, a tuple out."""
    h = m.tanh(x @ p["w"][0] + p["b"])
    return {"logits": h @ p["w"][1], "norm": (h * h).sum()}


LABELS = np.array([2, 0, 1])
PLACES = (np.array([0, 2, 2]), np.array([1, 0, 1]))
SYMMETRIC = (lambda a: a @ a.T + 2 * np.eye(3))(some(3, 3))

# By name: (ours, JAX's), and the arguments, arrays or trees of them.
FUNCTIONS = {
    "sin, cos, tan": (both(lambda m, x: m.sin(x) * m.cos(2 * x) + m.tan(x)), [positive(4)]),
    "exp, log and kin": (both(lambda m, x: m.exp2(x) * m.log1p(x) + m.expm1(x) / m.log2(2 + x)), [positive(4)]),
    "inverse trigonometric": (both(lambda m, x: m.arcsin(x) * m.arccos(x) - m.arctan(x) * m.arctanh(x)), [positive(3)]),
    "powers": (both(lambda m, x, y: x**y + x**3 - 2.0**y + m.sqrt(x) / m.square(y)), [positive(3), positive(3)]),
    "of two": (both(lambda m, x, y: m.logaddexp(x, y) * m.arctan2(x, 2 + y)), [some(2, 1), some(3)]),
    "with kinks": (both(lambda m, x, y: m.maximum(x, y) * m.abs(x) + m.where(x > 0, y, x * y)), [some(4), some(4)]),
    "remainder, sign, floor": (
        both(lambda m, x, y: m.remainder(x, y) * m.sign(x) + m.floor(x)),
        [some(4), positive(4)],
    ),
    "products of matrices": (both(lambda m, a, b: a @ b @ a.T - (b @ b.T).sum()), [some(2, 3), some(3, 3)]),
    "einsum": (both(lambda m, a, b, c: m.einsum("ij,jkl,k->li", a, b, c)), [some(2, 3), some(3, 2, 2), some(2)]),
    "prod, cumsum, cumprod": (
        both(lambda m, x: m.cumsum(x, axis=0) * x.prod(axis=0) + m.cumprod(x, axis=1)),
        [some(3, 2)],
    ),
    "max and min": (both(lambda m, x: x.max(axis=0) * x.min(axis=1, keepdims=True)), [some(3, 2)]),
    "logsumexp": ((lambda x: mg.logsumexp(x, axis=0), lambda x: jax.nn.logsumexp(x, axis=0)), [some(3, 2)]),
    "cross-entropy": (
        (
            lambda x: nn.functional.cross_entropy(x, LABELS),
            lambda x: -jax.nn.log_softmax(x)[jnp.arange(3), LABELS].mean(),
        ),
        [some(3, 4)],
    ),
    "activations": (
        (
            lambda x: mg.sigmoid(x) * mg.softplus(x) + mg.gelu(x) * mg.erf(x) + mg.silu(x) * mg.elu(x),
            lambda x: (
                jax.nn.sigmoid(x) * jax.nn.softplus(x)
                + jax.nn.gelu(x, approximate=False) * jax.scipy.special.erf(x)
                + jax.nn.silu(x) * jax.nn.elu(x)
            ),
        ),
        [some(4)],
    ),
    "convolution with all options": (
        conv((2, 1), (1, 2), (1, 2), 2),
        [some(1, 2, 4, 4), some(2, 1, 2, 2)],
    ),
    "max pooling": (
        (
            lambda x: mg.max_pool2d(mg.sin(x), 2),
            lambda x: windows(jnp.sin(x), -jnp.inf, lax.max, (2, 2), (2, 2)),
        ),
        [some(1, 1, 4, 4)],
    ),
    "average pooling": (
        (
            lambda x: mg.avg_pool2d(mg.sin(x), (2, 3), (1, 2)),
            lambda x: windows(jnp.sin(x), 0.0, lax.add, (2, 3), (1, 2)) / 6,
        ),
        [some(1, 1, 3, 5)],
    ),
    "batch norm": (
        (
            lambda x, w: mg.batch_norm(x, w, eps=0.1),
            lambda x, w: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 0.1) * w,
        ),
        [some(4, 2), some(2)],
    ),
    "reading": (both(lambda m, x: x[1:, ::-1] * x[PLACES][:2, None] + x[[0, 0], None, 2].sum()), [some(3, 3)]),
    "adding at an index": (
        (lambda x, v: mg.index_add(x, PLACES, v) ** 2, lambda x, v: jnp.asarray(x).at[PLACES].add(v) ** 2),
        [some(3, 3), some(3)],
    ),
    "writing at an index": (
        (
            lambda x, v: mg.index_update(x * x, (slice(None, None, 2), 1), v * v),
            lambda x, v: jnp.asarray(x * x).at[::2, 1].set(v * v),
        ),
        [some(3, 2), some(2)],
    ),
    "sorting": (both(lambda m, x: m.sort(x * x, axis=1) * m.arange(3.0)), [some(2, 3)]),
    "shapes": (
        both(lambda m, x: m.concatenate([m.roll(x, 1, 0).T, m.flip(x, 1).reshape(2, 3)], 0) * m.tile(x, (2, 1)).sum()),
        [some(3, 2)],
    ),
    "a network of trees": (both(network), [{"w": [some(3, 4), some(4, 2)], "b": some(4)}, some(2, 3)]),
    "trees with None": (
        both(lambda m, p: (p[0] * p[1]["a"], {"none": None, "s": m.sin(p[1]["a"])})),
        [(some(2), {"a": some(2), "none": None})],
    ),
    "inverse, solve": (
        both(lambda m, a, b: m.linalg.inv(a) @ b + m.linalg.solve(a, b)),
        [some(3, 3) + 3 * np.eye(3), some(3, 2)],
    ),
    "determinants": (
        both(lambda m, a: m.linalg.det(a) * m.linalg.slogdet(a)[1]),
        [some(3, 3) + 2 * np.eye(3)],
    ),
    "Cholesky": (both(lambda m, a: m.linalg.cholesky((a + a.T) / 2)), [SYMMETRIC]),
    "eigenvalues": (both(lambda m, a: m.linalg.eigvalsh((a + a.T) / 2)), [SYMMETRIC]),
    "eigenvectors": (
        both(lambda m, a: (lambda w, q: q * m.exp(w) @ q.T)(*m.linalg.eigh((a + a.T) / 2))),
        [SYMMETRIC / 4],
    ),
    "singular values": (both(lambda m, a: m.linalg.svd(a, full_matrices=False)[1]), [some(3, 2)]),
    "powers of a matrix": (both(lambda m, a: m.linalg.matrix_power(a, 3)), [some(2, 2)]),
}


def ours(tree):
    return map_leaves(lambda x: Tensor(np.asarray(x)), tree)


def compare(found, expected, what, rtol=1e-8):
    expected = map_leaves(np.asarray, expected)
    for x, y in zip(flatten(found)[0], flatten_like(found, expected, what), strict=True):
        assert x.shape == y.shape, f"{what}: shape {x.shape}, JAX {y.shape}"
        np.testing.assert_allclose(x.numpy(), y, rtol, rtol * max(1, np.abs(y).max(initial=0)), err_msg=what)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms_agree_with_jax(name):
    """One compiled program of JAX computes what is compared, each number once: compiling is what takes the time."""
    (f, g), args = FUNCTIONS[name]
    random = np.random.default_rng(1)

    def randomly(tree):
        return map_leaves(lambda x: random.standard_normal(np.shape(x)), tree)

    numbers, along = tuple(range(len(args))), randomly(args)
    examples = [map_leaves(lambda x: np.stack([x, 0.9 * x, 1.05 * x]), arg) for arg in args]
    cotangent = randomly(ours_to_numpy(f(*ours(args))))

    def weighted(h, cotangent):
        """A number made of all results."""
        return lambda *args: sum((y * v).sum() for y, v in zip(leaves_of(h(*args)), leaves_of(cotangent), strict=True))

    def of_examples(lib, h, value, *examples):
        return (lib.vmap(value)(*examples) ** 2).sum(), lib.vmap(h)(*examples)

    def in_jax(args, along, examples, cotangent):
        value = weighted(g, cotangent)
        if list(FUNCTIONS).index(name) % 2:
            linear = {"jvp": jax.jvp(g, tuple(args), tuple(along)), "Jacobian": jax.jacrev(g, numbers)(*args)}
        else:
            linear = {"vjp": jax.vjp(g, *args)[1](cotangent), "Jacobian": jax.jacfwd(g, numbers)(*args)}
        return linear | {
            "Hessian": jax.hessian(value, numbers)(*args),
            "grad of vmap": jax.grad(partial(of_examples, jax, g, value), numbers, has_aux=True)(*examples),
        }

    expected = jax.jit(in_jax, compiler_options=QUICKLY)(args, along, examples, cotangent)
    args, along, examples, cotangent = map(ours, (args, along, examples, cotangent))
    value = weighted(f, cotangent)
    for what, found in (
        ("jvp", mg.jvp(f, args, along)),
        ("jvp", (f(*args), mg.linearize(f, *args)[1](*along))),
        ("vjp", mg.vjp(f, *args)[1](cotangent)),
        ("vjp", mg.grad(value, numbers)(*args)),
        ("Jacobian", mg.jacobian(f, numbers, mode="forward")(*args)),
        ("Jacobian", mg.jacobian(f, numbers, mode="reverse", chunk_size=3)(*args)),
        ("Hessian", mg.hessian(value, numbers)(*args)),
        ("Hessian", mg.jacobian(mg.grad(value, numbers), numbers, mode="reverse")(*args)),
        ("grad of vmap", mg.grad(partial(of_examples, mg, f, value), numbers, has_aux=True)(*examples)),
    ):
        if what in expected:
            compare(found, expected[what], f"{name}: {what}")


def ours_to_numpy(tree):
    return map_leaves(lambda x: x.numpy(), tree)


def leaves_of(tree):
    """In the order of sorted keys, as JAX has it."""
    return jax.tree_util.tree_leaves(tree)


def test_argnums_aux_and_axes_mean_what_they_mean_to_jax():
    x, y, n = some(3), some(3), 2

    def f(m, x, y, n, scale=1.0):
        return (m.sin(x) * y**n).sum() * scale, {"more": x * y}

    def all_of(lib, m, x, y):
        h = partial(f, m)
        only = lambda *args, **kwargs: h(*args, **kwargs)[0]  # noqa: E731
        return {
            "grad": lib.grad(h, argnums=(1, 0), has_aux=True)(x, y, n),
            "grad by name": lib.grad(only, argnums=-2)(x, y, n),
            "value_and_grad": lib.value_and_grad(h, 1, has_aux=True)(x, y, n, scale=2.0),
            "hessian": lib.hessian(h, (0, 1), has_aux=True)(x, y, n),
            "vmap": lib.vmap(m.add, in_axes=(None, 0), out_axes=1)(x, y),
            "vmap of trees": lib.vmap(lambda p, q: p["a"] * q, in_axes=({"a": 0, "b": None}, None), out_axes=-1)(
                {"a": x, "b": y}, y
            ),
            "out_axes None": lib.vmap(lambda a: (a, m.sum(y)), out_axes=(0, None))(x),
            "nested vmap": lib.vmap(lib.vmap(m.multiply, in_axes=(None, 0)), in_axes=(0, None))(x, y),
        }

    found = all_of(mg, mg, *ours((x, y)))
    expected = jax.jit(partial(all_of, jax, jnp), compiler_options=QUICKLY)(x, y)
    for what in found:
        compare(found[what], expected[what], what)
