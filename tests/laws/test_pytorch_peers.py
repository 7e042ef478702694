"""PyTorch as an oracle: values, first and second gradients of every op that has a counterpart there.

Ops without a gradient are compared in their values; the few that have no counterpart say so in a table.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from tests.support.op_cases import CASES, SUBJECTS, floats
from tests.support.strategies import seeds

torch = pytest.importorskip("torch")
F = torch.nn.functional
few = settings(max_examples=max(settings.default.max_examples // 6, 1))


def same(names):
    return {("OPS", name): getattr(torch, name) for name in names.split()}


def _axes(axis, ndim):
    return tuple(range(ndim)) if axis is None else axis


def over_axes(reduce):
    """A function of the last axis, as one of any axes: they are joined at the end."""

    def run(x, axis=None, keepdims=False):
        axes = tuple(a % x.ndim for a in _axes((axis,) if isinstance(axis, int) else axis, x.ndim))
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        joined = math.prod(x.shape[a] for a in axes)
        y = reduce(x.permute(kept + axes).reshape([*(x.shape[a] for a in kept), joined]))
        return y.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else y

    return run


def _batch_norm(x, weight=None, bias=None, eps=1e-5):
    weight = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight  # for its second derivative
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def _batch_norm_inference(x, mean, variance, weight=None, bias=None, eps=1e-5):
    """F.batch_norm has no derivative by the statistics; this is its formula."""
    mean, variance, weight, bias = (
        t if t is None else t.reshape(-1, *[1] * (x.ndim - 2)) for t in (mean, variance, weight, bias)
    )
    y = (x - mean) / torch.sqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _pool(pool):
    return lambda x, kernel_size, stride=None, padding=0, **more: pool(x, kernel_size, stride, padding, **more)


def _pool_with_kernel(pool):
    return lambda x, kernel, stride, padding, **more: pool(x, kernel, stride, padding, **more)


def _avg_pool2d_input_grad(g, x_shape, kernel, stride, padding, count_include_pad):
    x = torch.zeros(x_shape, dtype=g.dtype, requires_grad=True)
    y = F.avg_pool2d(x, kernel, stride, padding, count_include_pad=count_include_pad)
    return torch.autograd.grad(y, x, g, create_graph=True)[0]


def _tensor(value):
    return torch.tensor(np.asarray(value))


# An index means to PyTorch what it means to NumPy but for negative steps; so NumPy says which elements are meant.


def _named(shape, index):
    index = tuple(_plain(part) for part in (index if isinstance(index, tuple) else (index,)))
    return torch.tensor(np.array(np.arange(math.prod(shape)).reshape(shape)[index], order="C"))


def _plain(part):
    part = part.numpy() if torch.is_tensor(part) else part  # a mask
    return np.asarray(part, dtype=None if len(part) else int) if isinstance(part, list) else part


def _getitem(x, index):
    return x.reshape(-1)[_named(x.shape, index)]


def _put(g, index, shape):
    return torch.zeros(shape, dtype=g.dtype).reshape(-1).put(_named(shape, index), g, accumulate=True).reshape(shape)


def _index_update(x, index, value):
    named = _named(x.shape, index)
    return x.put(named, _filling(value, named, x))


def _index_add(x, index, value):
    named = _named(x.shape, index)
    return x.put(named, _filling(value, named, x), accumulate=True)


def _filling(value, named, x):
    """The value in the shape of what is named; NumPy allows it more axes, of size 1, in front."""
    value = torch.as_tensor(value, dtype=x.dtype)
    return value.reshape(value.shape[max(0, value.ndim - named.ndim) :]).broadcast_to(named.shape)


def _pad(x, widths, value=0, mode="constant"):
    if mode != "constant":  # NumPy's modes go by other names, and for other shapes
        places = np.arange(math.prod(x.shape)).reshape(x.shape)
        return x.reshape(-1)[torch.tensor(np.pad(places, widths, mode=mode))]
    pairs = np.broadcast_to(widths, (x.ndim, 2)) if x.ndim else np.zeros((0, 2), int)
    return F.pad(x, [int(n) for pair in pairs[::-1] for n in pair], value=value) if x.ndim else x


def _dot(a, b):
    if not (a.ndim and b.ndim):
        return a * b
    return torch.tensordot(a, b, ([a.ndim - 1], [max(b.ndim - 2, 0)]))


def _clip(x, low=None, high=None):
    """torch.clamp does not broadcast x."""
    x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype))
    return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype))


def _solve(a, b):
    """torch.linalg.solve takes b for vectors where it could be either; with as many axes as a it is matrices."""
    if b.ndim == 1:
        return _solve(a, b[:, None])[..., 0]
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return torch.linalg.solve(a.expand(*batch, *a.shape[-2:]), b.expand(*batch, *b.shape[-2:]))


def _squeeze(x, axis=None):
    return x.squeeze() if axis is None else x.squeeze(axis)


def _expand_dims(x, axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(a)
    return x


def _reduction(function):
    """amax, amin: PyTorch takes a tuple of axes, of which an empty one means all."""
    return lambda x, axis=None, keepdims=False: function(x, _axes(axis, x.ndim), keepdims) if axis != () else x


PEERS = {
    **same("add subtract multiply divide negative square reciprocal remainder abs sign floor ceil trunc round clone"),
    **same("maximum minimum where exp exp2 expm1 log log2 log10 log1p logaddexp sqrt rsqrt sin cos tan arcsin arccos"),
    **same("arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh erf relu sigmoid reshape"),
    ("OPS", "broadcast_to"): lambda x, shape: torch.broadcast_to(x, shape),
    ("OPS", "cast"): lambda x, dtype: x.to(getattr(torch, str(dtype))),
    ("OPS", "power"): torch.pow,
    ("OPS", "clip"): lambda x, low, high: torch.clamp(x, low, high),
    ("OPS", "softplus"): lambda x, beta: F.softplus(x, beta),
    ("OPS", "transpose"): lambda x, axes: x.permute(tuple(range(x.ndim))[::-1] if axes is None else axes),
    ("OPS", "flip"): lambda x, axis: torch.flip(x, _axes(axis, x.ndim) if not isinstance(axis, int) else (axis,)),
    ("OPS", "roll"): lambda x, shift, axis=None: torch.roll(x, int(np.sum(shift)) if axis is None else shift, axis),
    ("OPS", "pad_constant"): lambda x, widths, value: _pad(x, widths, value),
    ("OPS", "tril"): lambda x, k: torch.tril(x, k),
    ("OPS", "triu"): lambda x, k: torch.triu(x, k),
    ("OPS", "concatenate"): lambda *parts, axis: torch.cat(parts, axis),
    ("OPS", "getitem"): lambda x, index: _getitem(x, index),
    ("OPS", "put"): lambda g, index, shape: _put(g, index, shape),
    ("OPS", "index_update"): lambda x, value, index: _index_update(x, index, value),
    ("OPS", "matmul"): torch.matmul,
    ("OPS", "linear"): F.linear,
    ("OPS", "einsum"): lambda *operands, terms, result: torch.einsum(f"{','.join(terms)}->{result}", *operands),
    ("OPS", "sum"): over_axes(lambda x: x.sum(-1)),
    ("OPS", "prod"): over_axes(lambda x: x.prod(-1)),
    ("OPS", "norm2"): over_axes(lambda x: torch.linalg.vector_norm(x, dim=-1)),
    ("OPS", "cumsum"): lambda x, axis: torch.cumsum(x, axis),
    ("OPS", "cumprod"): lambda x, axis: torch.cumprod(x, axis),
    ("OPS", "mean"): lambda x, axis, keepdims: x.mean(_axes(axis, x.ndim), keepdims) if axis != () else x,
    ("OPS", "logsumexp"): lambda x, axis, keepdims: (
        torch.logsumexp(x, _axes(axis, x.ndim), keepdims) if x.ndim and axis != () else x
    ),
    ("OPS", "max"): _reduction(torch.amax),
    ("OPS", "min"): _reduction(torch.amin),
    ("OPS", "softmax"): lambda x, axis: torch.softmax(x, axis),
    ("OPS", "log_softmax"): lambda x, axis: torch.log_softmax(x, axis),
    ("OPS", "softmax_cross_entropy"): lambda x, target: F.cross_entropy(x, _tensor(target), reduction="none"),
    ("OPS", "conv2d"): F.conv2d,
    ("OPS", "conv2d_input_grad"): lambda g, weight, x_shape, stride, padding, dilation, groups: (
        torch.nn.grad.conv2d_input(x_shape, weight, g, stride, padding, dilation, groups)
    ),
    ("OPS", "conv2d_weight_grad"): lambda x, g, weight_shape, stride, padding, dilation, groups: (
        torch.nn.grad.conv2d_weight(x, weight_shape, g, stride, padding, dilation, groups)
    ),
    ("OPS", "max_pool2d"): _pool_with_kernel(F.max_pool2d),
    ("OPS", "avg_pool2d"): _pool_with_kernel(F.avg_pool2d),
    ("OPS", "avg_pool2d_input_grad"): _avg_pool2d_input_grad,
    ("OPS", "batch_norm"): _batch_norm,
    ("OPS", "batch_norm_relu"): lambda *args, **options: torch.relu(_batch_norm(*args, **options)),
    ("OPS", "bias_relu"): lambda x, bias: torch.relu(x + bias.reshape(-1, *[1] * (x.ndim - 2))),
    ("OPS", "batch_norm_inference"): _batch_norm_inference,
    ("OPS", "batch_norm_inference_relu"): lambda *args, **options: torch.relu(_batch_norm_inference(*args, **options)),
    ("OPS", "inv"): torch.linalg.inv,
    ("OPS", "solve"): _solve,
    ("OPS", "cholesky"): lambda a: torch.linalg.cholesky((a + a.mT) / 2),  # PyTorch reads one triangle of it
    ("OPS", "eigvalsh"): lambda a: torch.linalg.eigvalsh((a + a.mT) / 2),
    ("OPS", "svdvals"): torch.linalg.svdvals,
    ("OPS", "det"): torch.linalg.det,
    ("OPS", "pinv"): lambda a, rcond=None: torch.linalg.pinv(a),
    ("COMPOSITES", "cholesky"): lambda a, upper=False: torch.linalg.cholesky((a + a.mT) / 2, upper=upper),
    ("COMPOSITES", "leaky_relu"): F.leaky_relu,
    ("COMPOSITES", "elu"): F.elu,
    ("COMPOSITES", "gelu"): lambda x, approximate: F.gelu(x, approximate=approximate),
    ("OPS", "silu"): F.silu,
    ("OPS", "hypot"): torch.hypot,
    ("COMPOSITES", "astype"): lambda x, dtype: x.to(getattr(torch, np.dtype(dtype).name)),
    ("COMPOSITES", "clip"): _clip,
    ("COMPOSITES", "einsum"): torch.einsum,
    ("COMPOSITES", "stack"): lambda parts, axis: torch.stack(parts, axis),
    ("COMPOSITES", "concatenate"): lambda parts, axis=0: (
        torch.cat(parts, axis) if axis is not None else torch.cat([part.ravel() for part in parts])
    ),
    ("COMPOSITES", "split"): lambda x, parts, axis=0: torch.tensor_split(
        x, parts if isinstance(parts, int) else tuple(parts), axis
    ),
    ("COMPOSITES", "permute"): lambda x, dims: x.permute(dims),
    ("COMPOSITES", "moveaxis"): torch.movedim,
    ("COMPOSITES", "swapaxes"): torch.swapaxes,
    ("COMPOSITES", "squeeze"): _squeeze,
    ("COMPOSITES", "expand_dims"): _expand_dims,
    ("COMPOSITES", "flatten"): torch.flatten,
    ("COMPOSITES", "ravel"): torch.ravel,
    ("COMPOSITES", "tile"): lambda x, reps: torch.tile(x, reps if isinstance(reps, tuple) else (reps,)),
    ("COMPOSITES", "repeat"): lambda x, repeats, axis=None: torch.repeat_interleave(
        x, repeats if isinstance(repeats, int) else torch.tensor(np.asarray(repeats, np.int64)), axis
    ),
    ("COMPOSITES", "pad"): lambda x, pad_width, mode, constant_values=0: _pad(x, pad_width, constant_values, mode),
    ("COMPOSITES", "trace"): lambda x, **options: torch.diagonal(
        x, options["offset"], options["axis1"], options["axis2"]
    ).sum(-1),
    ("COMPOSITES", "getitem"): _getitem,
    ("COMPOSITES", "index_update"): _index_update,
    ("COMPOSITES", "index_add"): _index_add,
    ("COMPOSITES", "take"): lambda x, indices, axis=None: (
        torch.take(x, _tensor(indices))
        if axis is None
        else torch.index_select(x, axis, _tensor(np.ravel(indices) % x.shape[axis])).reshape(
            x.shape[: axis % x.ndim] + np.shape(indices) + x.shape[axis % x.ndim + 1 :]
        )
    ),
    ("COMPOSITES", "take_along_axis"): lambda x, indices, axis: torch.take_along_dim(
        x, _tensor(indices) % max(1, x.shape[axis]), axis
    ),
    ("COMPOSITES", "gather"): lambda x, dim, index: torch.gather(x, dim, _tensor(index)),
    ("COMPOSITES", "scatter_add"): lambda x, dim, index, src: torch.scatter_add(
        x, dim, _tensor(index), src[tuple(slice(0, n) for n in index.shape)]
    ),
    ("COMPOSITES", "embedding"): lambda indices, weight: F.embedding(_tensor(indices), weight),
    ("COMPOSITES", "amax"): _reduction(torch.amax),
    ("COMPOSITES", "amin"): _reduction(torch.amin),
    ("COMPOSITES", "norm"): lambda x, ord=2, axis=None, keepdims=False: over_axes(
        lambda x: torch.linalg.vector_norm(x, ord, dim=-1)
    )(x, axis, keepdims),
    ("COMPOSITES", "var"): lambda x, axis, correction, keepdims: torch.var(
        x, axis, correction=correction, keepdim=keepdims
    ),
    ("COMPOSITES", "std"): lambda x, axis, correction, keepdims: torch.std(
        x, axis, correction=correction, keepdim=keepdims
    ),
    ("COMPOSITES", "dot"): _dot,
    ("COMPOSITES", "outer"): lambda a, b: torch.outer(a.ravel(), b.ravel()),
    ("COMPOSITES", "tensordot"): lambda a, b, axes=2: torch.tensordot(
        a, b, axes if isinstance(axes, int) else [[k] if isinstance(k, int) else list(k) for k in axes]
    ),
    ("COMPOSITES", "conv1d"): F.conv1d,
    ("COMPOSITES", "conv2d"): F.conv2d,
    ("COMPOSITES", "conv_transpose2d"): F.conv_transpose2d,
    ("COMPOSITES", "max_pool2d"): _pool(F.max_pool2d),
    ("COMPOSITES", "avg_pool2d"): _pool(F.avg_pool2d),
    ("COMPOSITES", "adaptive_avg_pool2d"): F.adaptive_avg_pool2d,
    ("COMPOSITES", "batch_norm"): _batch_norm,
    ("COMPOSITES", "batch_norm_relu"): lambda *args, **options: torch.relu(_batch_norm(*args, **options)),
    ("COMPOSITES", "batch_norm_inference"): _batch_norm_inference,
    ("COMPOSITES", "batch_norm_inference_relu"): lambda *args, **options: torch.relu(
        _batch_norm_inference(*args, **options)
    ),
    ("COMPOSITES", "topk"): lambda x, k, axis, largest: torch.topk(x, k, axis, largest)[0],
    ("COMPOSITES", "sort"): lambda x, axis: torch.sort(x.ravel() if axis is None else x, -1 if axis is None else axis)[
        0
    ],
    ("COMPOSITES", "diagonal"): lambda x, offset, axis1, axis2: torch.diagonal(x, offset, axis1, axis2),
    ("COMPOSITES", "solve"): _solve,
    ("COMPOSITES", "slogdet"): torch.linalg.slogdet,
    ("COMPOSITES", "matrix_power"): torch.linalg.matrix_power,
    ("COMPOSITES", "expm"): torch.linalg.matrix_exp,
}

# What has nothing to be compared with as it stands, and where it is compared instead.
PARTS_OF_RULES = (
    "arccosh_slope arcsin_slope arcsinh_slope arctan_slope arctanh_slope gauss gelu gelu_curvature gelu_slope "
    "gelu_tanh gelu_tanh_slope keep_where log_loss log_loss_slope logistic_loss logistic_residual over_distance "
    "over_square recurrence share_of_first sigmoid_slope silu_curvature silu_slope slope_of_share tanh_slope"
)
NO_PEER = {
    **{
        ("OPS", name): "inside a function of nn or a slope; mpmath judges it in ops/" for name in PARTS_OF_RULES.split()
    },
    ("OPS", "to_device"): "the identity on one device; laws/test_gpu.py has two",
    (
        "OPS",
        "dropped",
    ): "its random numbers are of a generator that PyTorch does not have; cuda/test_dropout.py judges it",
    ("OPS", "max_pool2d_scatter"): "a part of max_pool2d, whose derivatives go through it",
    ("OPS", "max_pool2d_gather"): "a part of max_pool2d, whose second derivative goes through it",
    ("OPS", "cofactors"): "the derivative of det, whose second derivative goes through it",
    ("OPS", "slogdet"): "packs the results of the composite into one array",
    ("OPS", "linear_solve"): "the rule behind cg, lsmr and their kin; transforms/test_linear_solve.py checks it",
    ("OPS", "qr"): "packs the results of the composite into one array",
    ("OPS", "eigh"): "packs the results of the composite into one array",
    ("OPS", "svd"): "packs the results of the composite into one array",
    ("OPS", "solve_triangular"): "PyTorch reads unit diagonals elsewhere; ops/linalg/ compares it",
    ("COMPOSITES", "solve_triangular"): "PyTorch reads unit diagonals elsewhere; ops/linalg/ compares it",
    (
        "COMPOSITES",
        "qr",
    ): "the signs are each library's own; ops/linalg/ compares what does not depend on them",
    (
        "COMPOSITES",
        "eigh",
    ): "the signs are each library's own; ops/linalg/test_values.py compares what does not depend on them",
    (
        "COMPOSITES",
        "svd",
    ): "the signs are each library's own; ops/linalg/test_values.py compares what does not depend on them",
    ("COMPOSITES", "lstsq"): "PyTorch returns four results; ops/linalg/test_values.py compares the first",
}

# Ops without a gradient: their values are compared.
SILENT_PEERS = {
    **same("floor_divide zeros_like less less_equal greater greater_equal not_equal logical_not isnan isfinite"),
    **same("bitwise_and bitwise_or bitwise_xor bitwise_not"),
    ("OPS", "equal"): torch.eq,
    ("OPS", "any"): over_axes(lambda x: x.any(-1)),
    ("OPS", "all"): over_axes(lambda x: x.all(-1)),
    ("OPS", "cast_to_integer"): lambda x, dtype: x.to(getattr(torch, str(dtype))),
    ("OPS", "argmax"): lambda x, axis, keepdims: torch.argmax(x, axis, keepdims),
    ("OPS", "argmin"): lambda x, axis, keepdims: torch.argmin(x, axis, keepdims),
    ("OPS", "argsort"): lambda x, axis: torch.argsort(
        x.ravel() if axis is None else x, dim=-1 if axis is None else axis, stable=True
    ),
    ("OPS", "one_hot"): lambda indices, num_classes, dtype: F.one_hot(_tensor(indices), num_classes).to(
        getattr(torch, np.dtype(dtype).name)
    ),
}


def named(keys):
    return pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in keys if key in SUBJECTS])


def test_every_op_is_compared_with_pytorch_or_says_why_not():
    tables = [PEERS.keys(), SILENT_PEERS.keys(), NO_PEER.keys()]
    twice = [key for i, table in enumerate(tables) for other in tables[i + 1 :] for key in table & other]
    assert not twice, f"{twice} stand in two of the tables"
    homeless = CASES.keys() - set().union(*tables)
    assert not homeless, f"give {sorted(homeless)} a function of PyTorch in PEERS, or a reason in NO_PEER"
    stray = set().union(*tables) - CASES.keys()
    assert not stray, f"{sorted(stray)} are no ops"
    wrong = [key for key in SILENT_PEERS if CASES[key].differentiable] + [
        k for k in PEERS if not CASES[k].differentiable
    ]
    assert not wrong, f"{wrong}: PEERS has the ops with derivatives, SILENT_PEERS those without"


def for_torch(call, xs):
    """The call with torch tensors for the variables, and for arrays of bools and, as plain arguments, of integers."""
    call = call.with_variables(xs)
    args = [_tensor(a) if isinstance(a, np.ndarray) and a.dtype == bool else a for a in call.args]
    return args, call.options


@named(SILENT_PEERS)
@few
@given(st.data())
def test_values_of_ops_without_a_gradient_agree_with_pytorch(key, data):
    call = data.draw(CASES[key].calls)
    if any(isinstance(x, np.ndarray) and x.size == 0 for x in call.args) and key[1] in ("argmax", "argmin"):
        return
    found = call.with_tensors(call.variables(), mg.Tensor)(SUBJECTS[key]).numpy()
    args = [_tensor(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in call.args]
    expected = SILENT_PEERS[key](*args, **call.options).numpy()
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@named(PEERS)
@few
@given(st.data())
def test_values_and_two_derivatives_agree_with_pytorch(key, data):
    call = data.draw(CASES[key].calls)
    ours = [mg.tensor(x, requires_grad=True) for x in call.variables()]
    theirs = [torch.tensor(np.array(x), requires_grad=True) for x in call.variables()]
    ys = floats(call.with_variables(ours)(SUBJECTS[key]))
    args, options = for_torch(call, theirs)
    zs = PEERS[key](*args, **options)
    zs = [z for z in (zs if isinstance(zs, (tuple, list)) else [zs]) if z.is_floating_point()]
    assert len(ys) == len(zs)
    for y, z in zip(ys, zs, strict=True):
        agree("value", y, z)

    random = data.draw(seeds())
    flowing = [
        (y, z, random.standard_normal(y.shape).astype(y.dtype)) for y, z in zip(ys, zs, strict=True) if y.requires_grad
    ]
    us = [random.standard_normal(x.shape) for x in ours]
    if not flowing:
        assert not any(z.requires_grad for z in zs)
        return
    ys, zs, vs = zip(*flowing, strict=True)
    gs = autograd.grad(ys, ours, vs, create_graph=True, allow_unused=True)
    hs = torch.autograd.grad(zs, theirs, [torch.tensor(v) for v in vs], create_graph=True, allow_unused=True)
    for g, h in zip(gs, hs, strict=True):
        agree("gradient", g, h)

    ours_sum = [(g, u) for g, u in zip(gs, us, strict=True) if g is not None and g.requires_grad]
    their_sum = sum((h * torch.tensor(u)).sum() for h, u in zip(hs, us, strict=True) if h is not None)
    seconds = [None] * len(ours)
    if ours_sum:
        seconds = autograd.grad([g for g, _ in ours_sum], ours, [u for _, u in ours_sum], allow_unused=True)
    their_seconds = [None] * len(ours)
    if torch.is_tensor(their_sum) and their_sum.requires_grad:
        their_seconds = torch.autograd.grad(their_sum, theirs, allow_unused=True)
    for g, h in zip(seconds, their_seconds, strict=True):
        agree("second gradient", g, h)


def agree(what, ours, theirs):
    """None, for what does not depend on an input, counts as zero."""
    a = 0.0 if ours is None else ours.detach().numpy()
    b = 0.0 if theirs is None else theirs.detach().numpy(force=True)
    if ours is not None and theirs is not None:
        assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch {b.shape}"
    scale = 1 + np.abs(b).max(initial=0)
    np.testing.assert_allclose(np.asarray(a) + 0 * b, b + 0 * np.asarray(a), rtol=1e-8, atol=1e-9 * scale, err_msg=what)
