"""PyTorch as an oracle: values, first and second gradients of every op that has a counterpart there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import CASES, SUBJECTS
from strategies import directions

import minigrad as mg
from minigrad import autograd

torch = pytest.importorskip("torch")
F = torch.nn.functional
few = settings(max_examples=max(settings.default.max_examples // 4, 1))


def same(names):
    return {("OPS", name): getattr(torch, name) for name in names.split()}


def _axes(axis, ndim):
    return tuple(range(ndim)) if axis is None else axis


def _batch_norm(x, weight, bias, eps):
    weight = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight  # for its second derivative
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def _pool(pool):
    return lambda x, kernel, stride, padding, **more: pool(x, kernel, stride, padding, **more)


def _tensor(value):
    return torch.tensor(np.asarray(value))


PEERS = {
    **same("add subtract multiply divide negative square reciprocal remainder abs sign floor ceil trunc round clone"),
    **same("maximum minimum where exp exp2 expm1 log log2 log10 log1p logaddexp sqrt rsqrt sin cos tan arcsin arccos"),
    **same("arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh erf relu sigmoid reshape"),
    ("OPS", "broadcast_to"): lambda x, shape: torch.broadcast_to(x, shape),
    ("OPS", "power"): torch.pow,
    ("OPS", "clip"): lambda x, low, high: torch.clamp(x, low, high),
    ("OPS", "softplus"): lambda x, beta: F.softplus(x, beta),
    ("OPS", "transpose"): lambda x, axes: x.permute(tuple(range(x.ndim))[::-1] if axes is None else axes),
    ("OPS", "tril"): lambda x, k: torch.tril(x, k),
    ("OPS", "triu"): lambda x, k: torch.triu(x, k),
    ("OPS", "concatenate"): lambda *parts, axis: torch.cat(parts, axis),
    ("OPS", "matmul"): torch.matmul,
    ("OPS", "linear"): F.linear,
    ("OPS", "cumsum"): lambda x, axis: torch.cumsum(x, axis),
    ("OPS", "cumprod"): lambda x, axis: torch.cumprod(x, axis),
    ("OPS", "mean"): lambda x, axis, keepdims: x.mean(_axes(axis, x.ndim), keepdims) if axis != () else x,
    ("OPS", "logsumexp"): lambda x, axis, keepdims: (
        torch.logsumexp(x, _axes(axis, x.ndim), keepdims) if x.ndim and axis != () else x
    ),
    ("OPS", "max"): lambda x, axis, keepdims: torch.amax(x, _axes(axis, x.ndim), keepdims) if axis != () else x,
    ("OPS", "min"): lambda x, axis, keepdims: torch.amin(x, _axes(axis, x.ndim), keepdims) if axis != () else x,
    ("OPS", "softmax"): lambda x, axis: torch.softmax(x, axis),
    ("OPS", "log_softmax"): lambda x, axis: torch.log_softmax(x, axis),
    ("OPS", "softmax_cross_entropy"): lambda x, target: F.cross_entropy(x, _tensor(target), reduction="none"),
    ("OPS", "conv2d"): F.conv2d,
    ("OPS", "max_pool2d"): _pool(F.max_pool2d),
    ("OPS", "avg_pool2d"): lambda x, kernel, stride, padding, count_include_pad: F.avg_pool2d(
        x, kernel, stride, padding, count_include_pad=count_include_pad
    ),
    ("OPS", "batch_norm"): _batch_norm,
    ("COMPOSITES", "leaky_relu"): F.leaky_relu,
    ("COMPOSITES", "elu"): F.elu,
    ("COMPOSITES", "gelu"): lambda x, approximate: F.gelu(x, approximate=approximate),
    ("COMPOSITES", "silu"): F.silu,
    ("COMPOSITES", "einsum"): torch.einsum,
    ("COMPOSITES", "stack"): lambda parts, axis: torch.stack(parts, axis),
    ("COMPOSITES", "gather"): lambda x, dim, index: torch.gather(x, dim, _tensor(index)),
    ("COMPOSITES", "scatter_add"): lambda x, dim, index, src: torch.scatter_add(
        x, dim, _tensor(index), src[tuple(slice(0, n) for n in index.shape)]
    ),
    ("COMPOSITES", "embedding"): lambda indices, weight: F.embedding(_tensor(indices), weight),
    ("COMPOSITES", "var"): lambda x, axis, correction, keepdims: torch.var(
        x, axis, correction=correction, keepdim=keepdims
    ),
    ("COMPOSITES", "std"): lambda x, axis, correction, keepdims: torch.std(
        x, axis, correction=correction, keepdim=keepdims
    ),
    ("COMPOSITES", "conv1d"): F.conv1d,
    ("COMPOSITES", "conv_transpose2d"): F.conv_transpose2d,
    ("COMPOSITES", "adaptive_avg_pool2d"): F.adaptive_avg_pool2d,
    ("COMPOSITES", "topk"): lambda x, k, axis, largest: torch.topk(x, k, axis, largest)[0],
    ("COMPOSITES", "sort"): lambda x, axis: torch.sort(x.ravel() if axis is None else x, -1 if axis is None else axis)[
        0
    ],
    ("COMPOSITES", "diagonal"): lambda x, offset, axis1, axis2: torch.diagonal(x, offset, axis1, axis2),
}


def for_torch(call, xs):
    """The call with torch tensors for the variables, and for the bools of `where`."""
    call = call.with_variables(xs)
    args = [_tensor(a) if isinstance(a, np.ndarray) and a.dtype == bool else a for a in call.args]
    return args, call.options


@pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in PEERS])
@few
@given(st.data())
def test_values_and_two_derivatives_agree_with_pytorch(key, data):
    call = data.draw(CASES[key].calls)
    ours = [mg.tensor(x, requires_grad=True) for x in call.variables()]
    theirs = [torch.tensor(np.array(x), requires_grad=True) for x in call.variables()]
    y = call.with_variables(ours)(SUBJECTS[key])
    y = y[0] if isinstance(y, tuple) else y
    args, options = for_torch(call, theirs)
    z = PEERS[key](*args, **options)
    agree("value", y, z)

    v, us = data.draw(directions(y.shape)), [data.draw(directions(x.shape)) for x in ours]
    gs = autograd.grad(y, ours, v, create_graph=True, allow_unused=True)
    hs = torch.autograd.grad(z, theirs, torch.tensor(v), create_graph=True, allow_unused=True)
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
