"""What each op of PyTorch's database is called in minigrad, and where its arguments go."""

from __future__ import annotations

import minigrad as mg
from minigrad import linalg
from minigrad.nn import functional

from .translation import Peer, torch

Tensor = mg.Tensor


def named(names: str, parameters: str, home=mg) -> dict[str, Peer]:
    """Functions that have the same name in both."""
    return {name: Peer(getattr(home, name), parameters) for name in names.split()}


def renamed(pairs: str, parameters: str, home=mg) -> dict[str, Peer]:
    """Functions with a name of NumPy's: `PyTorch's=NumPy's`."""
    split = (pair.split("=") for pair in pairs.split())
    return {theirs: Peer(getattr(home, here), parameters) for theirs, here in split}


def in_functional(names: str, parameters: str) -> dict[str, Peer]:
    return {f"nn.functional.{name}": Peer(getattr(functional, name), parameters) for name in names.split()}


# --- calls that are more than other names ---


def cut(x, sizes, axis=0):
    """torch.split speaks of the parts' sizes, numpy.split of the places between them."""
    n = x.shape[axis]
    if isinstance(sizes, int):
        return mg.split(x, list(range(sizes, n, sizes)), axis=axis)
    return mg.split(x, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)], axis=axis)


def tensor_split(x, parts, axis=0):
    """Parts that need not be equal."""
    parts = parts.tolist() if isinstance(parts, Tensor) else parts
    if not isinstance(parts, int):
        return mg.split(x, list(parts), axis=axis)
    small, large = divmod(x.shape[axis], parts)
    sizes = [small + (i < large) for i in range(parts)]
    return cut(x, sizes, axis)


def index_add(x, axis, index, source, alpha=1):
    return mg.index_add(x, (slice(None),) * (axis % max(x.ndim, 1)) + (index,), alpha * source)


def index_put(x, indices, values, accumulate=False):
    write = mg.index_add if accumulate else mg.index_update
    return write(x, tuple(indices), values)


def pad(x, widths, mode="constant", value=None):
    """torch pads from the last axis on, in one flat list; three of the modes have other names in NumPy."""
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2)
    pairs += [tuple(widths[i : i + 2]) for i in range(len(widths) - 2, -1, -2)]
    name = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    extra = {"constant_values": value or 0} if name == "constant" else {}
    return mg.pad(x, pairs, name, **extra)


def largest(x, axis=None, keepdims=False):
    if axis is None:
        return mg.max(x)
    return mg.max(x, axis=axis, keepdims=keepdims), mg.argmax(x, axis=axis, keepdims=keepdims)


def smallest(x, axis=None, keepdims=False):
    if axis is None:
        return mg.min(x)
    return mg.min(x, axis=axis, keepdims=keepdims), mg.argmin(x, axis=axis, keepdims=keepdims)


def sort(x, axis=-1, descending=False):
    if descending:
        return mg.topk(x, x.shape[axis] if x.ndim else 1, axis=axis)
    return mg.sort(x, axis=axis), mg.argsort(x, axis=axis)


def argsort(x, axis=-1, descending=False):
    return sort(x, axis, descending)[1]


def variance(function):
    """torch has an old spelling, `unbiased`, and divides by n - 1 by default; NumPy by n."""

    def run(x, axis=None, unbiased=None, keepdims=False, correction=1):
        if isinstance(axis, bool):
            axis, unbiased = None, axis
        correction = correction if unbiased is None else int(unbiased)
        axis = None if axis == () else axis
        return function(x, axis, correction=1 if correction is None else correction, keepdims=keepdims)

    return run


def divide(a, b, rounding_mode=None):
    rounded = {None: lambda q: q, "trunc": mg.trunc, "floor": mg.floor}[rounding_mode]
    return mg.floor_divide(a, b) if rounding_mode == "floor" else rounded(mg.divide(a, b))


def with_dtype(function):
    """An option `dtype` in PyTorch is a conversion beforehand."""
    return lambda x, axis, dtype=None: function(x if dtype is None else x.astype(dtype), axis=axis)


def reduction_with_dtype(function):
    def run(x, axis=None, keepdims=False, dtype=None):
        return function(x if dtype is None else x.astype(dtype), axis=axis, keepdims=keepdims)

    return run


def of_symmetric(function):
    """PyTorch reads one triangle, ours the symmetric part: so that both count, the function of a + a'."""
    return lambda a, **options: function(a + a.swapaxes(-1, -2), **options)


def in_any(tensors, equation):
    return mg.einsum(equation, *tensors)


def tensordot_axes(a, b, axes=2):
    return mg.tensordot(a, b, axes)


def one_hot(indices, num_classes=-1):
    return mg.one_hot(indices, None if num_classes == -1 else num_classes, dtype=mg.int64)


def take_along(x, indices, axis=None):
    return mg.take_along_axis(x, indices, axis) if axis is not None else mg.take(x, indices.ravel())


def solve(a, b):
    """PyTorch takes b (..., n) for vectors where it fits the matrices so; NumPy and minigrad take only (n,) so."""
    if b.ndim > 1 and b.shape == a.shape[:-1]:
        return linalg.solve(a, b[..., None])[..., 0]
    return linalg.solve(a, b)


def solve_triangular(a, b, upper, left=True, unitriangular=False):
    """b to the left of a is b' to the right of a'."""
    if left:
        return linalg.solve_triangular(a, b, lower=not upper, unit_diagonal=unitriangular)
    turned = (x.swapaxes(-1, -2) for x in (a, b))
    return linalg.solve_triangular(*turned, lower=upper, unit_diagonal=unitriangular).swapaxes(-1, -2)


def turned_up(qr):
    """The factors whose R has a positive diagonal, which alone are unique."""

    def run(a):
        q, r = qr(a)
        k = min(r.shape[-2:])
        signs = r[..., range(k), range(k)].sign()
        return q * signs[..., None, :], r * signs[..., :, None]

    return run


def dropped(dropout):
    """What can be said of a random answer: each element is zero, or the input's over 1 - p."""

    def run(x, p=0.5, training=True):
        y = dropout(x, p=p, training=training)
        return ((y == 0) | (abs(y * (1 - p) - x) <= 1e-6 * abs(x))) if training and 0 < p < 1 else y

    return run


def shape_of(make):
    """Of random numbers: their shape and dtype."""
    return lambda *values, **options: make(*values, **options) * 0


def randint(*limits_and_shape, **options):
    """torch.randint may be given the upper limit alone."""
    *limits, shape = limits_and_shape
    return mg.randint(*[0, *limits][-2:], shape, **options) * 0


def moved(x, *wanted, memory_format=None, dtype=None, device=None, **more):
    """torch.Tensor.to takes a device, a dtype, both, or a tensor that has both; then non_blocking and copy."""
    for value in (*wanted, device, dtype):
        if isinstance(value, Tensor):
            x = x.astype(value.dtype)
        elif value is not None and not isinstance(value, bool):
            x = x.to(value)
    return x


def cast(dtype):
    return Peer(lambda x: x.astype(dtype), "x memory_format=")


PEERS: dict[str, Peer] = {
    # --- elementwise ---
    **named("abs ceil cos cosh exp exp2 expm1 floor log log10 log1p log2 reciprocal rsqrt sigmoid sign", "x"),
    **named("sin sinh sqrt square tan tanh trunc erf isfinite isnan logical_not bitwise_not clone ravel", "x"),
    **renamed("acos=arccos acosh=arccosh asin=arcsin asinh=arcsinh atan=arctan atanh=arctanh neg=negative", "x"),
    "round": Peer(mg.round, "x =decimals"),
    "to": Peer(moved, "*"),
    "item": Peer(lambda x: x.item(), "x"),
    **named(
        "add maximum minimum logaddexp hypot bitwise_and bitwise_or bitwise_xor floor_divide remainder matmul", "a b"
    ),
    **renamed("atan2=arctan2 eq=equal ge=greater_equal gt=greater le=less_equal lt=less ne=not_equal", "a b"),
    **{
        name: cast(dtype)
        for name, dtype in {
            **{"double": mg.float64, "float": mg.float32, "half": mg.float16, "bool": bool, "byte": mg.uint8},
            **{"char": mg.int8, "short": mg.int16, "int": mg.int32, "long": mg.int64},
        }.items()
    },
    **renamed("mul=multiply sub=subtract pow=power true_divide=divide max:binary=maximum min:binary=minimum", "a b"),
    "div": Peer(divide, "a b =rounding_mode"),
    **{f"__{name}__": Peer(getattr(Tensor, f"__{name}__"), "a b") for name in "radd rmul rsub rmod rpow".split()},
    **{f"__{name}__": Peer(getattr(Tensor, f"__{name}__"), "a b") for name in "rand ror rxor rmatmul".split()},
    "__rdiv__": Peer(Tensor.__rtruediv__, "a b"),
    "clamp": Peer(mg.clip, "x min=low max=high"),
    "clamp_max": Peer(lambda x, high: mg.clip(x, high=high), "x max"),
    "clamp_min": Peer(lambda x, low: mg.clip(x, low=low), "x min"),
    "where": Peer(lambda x, condition, other: mg.where(condition, x, other), "x condition other"),
    # --- reductions ---
    **{
        name: Peer(reduction_with_dtype(getattr(mg, name)), "x dim=axis keepdim=keepdims =dtype")
        for name in "sum prod mean".split()
    },
    **named("all any amax amin argmax argmin logsumexp", "x dim=axis keepdim=keepdims"),
    "max": Peer(largest, "x dim=axis keepdim=keepdims"),
    "min": Peer(smallest, "x dim=axis keepdim=keepdims"),
    "std": Peer(variance(mg.std), "x dim=axis =unbiased keepdim=keepdims =correction"),
    "var": Peer(variance(mg.var), "x dim=axis =unbiased keepdim=keepdims =correction"),
    "cumsum": Peer(with_dtype(mg.cumsum), "x dim=axis =dtype"),
    "cumprod": Peer(with_dtype(mg.cumprod), "x dim=axis =dtype"),
    "softmax": Peer(with_dtype(mg.softmax), "x dim=axis =dtype"),
    "log_softmax": Peer(with_dtype(mg.log_softmax), "x dim=axis =dtype"),
    "norm": Peer(mg.norm, "x p=ord dim=axis keepdim=keepdims"),
    "linalg.vector_norm": Peer(mg.norm, "x =ord dim=axis keepdim=keepdims"),
    # --- shapes ---
    **named("broadcast_to", "x shape"),
    "expand": Peer(Tensor.expand, "x size"),
    **{name: Peer(getattr(Tensor, name), "x shape") for name in "reshape view permute".split()},
    "T": Peer(lambda x: x.T, "x"),
    "transpose": Peer(mg.swapaxes, "x dim0 dim1"),
    "movedim": Peer(mg.moveaxis, "x source destination"),
    "squeeze": Peer(mg.squeeze, "x dim=axis"),
    "unsqueeze": Peer(Tensor.unsqueeze, "x dim=axis"),
    "flatten": Peer(mg.flatten, "x =start_dim =end_dim"),
    "flip": Peer(mg.flip, "x dims=axis"),
    "roll": Peer(mg.roll, "x shifts=shift dims=axis"),
    "tile": Peer(mg.tile, "x dims=reps"),
    "repeat": Peer(mg.tile, "x repeats=reps"),
    "repeat_interleave": Peer(mg.repeat, "x =repeats dim=axis output_size="),
    "tril": Peer(mg.tril, "x diagonal=k"),
    "triu": Peer(mg.triu, "x diagonal=k"),
    "trace": Peer(mg.trace, "x"),
    "diagonal": Peer(mg.diagonal, "x =offset dim1=axis1 dim2=axis2"),
    "linalg.diagonal": Peer(
        lambda x, offset=0, axis1=-2, axis2=-1: mg.diagonal(x, offset, axis1, axis2),
        "x =offset dim1=axis1 dim2=axis2",
    ),
    "cat": Peer(mg.cat, "tensors dim=axis"),
    "stack": Peer(mg.stack, "tensors dim=axis"),
    "split": Peer(cut, "x split_size_or_sections dim=axis"),
    "split_with_sizes": Peer(cut, "x split_sizes dim=axis"),
    "tensor_split": Peer(tensor_split, "x parts dim=axis"),
    "nn.functional.pad": Peer(pad, "x pad =mode =value"),
    "constant_pad_nd": Peer(lambda x, widths, value=0: pad(x, widths, "constant", value), "x pad value"),
    # --- indexing ---
    "__getitem__": Peer(Tensor.__getitem__, "x index"),
    "take": Peer(mg.take, "x index"),
    "take_along_dim": Peer(take_along, "x indices dim=axis"),
    "gather": Peer(mg.gather, "x dim index"),
    "scatter_add": Peer(mg.scatter_add, "x dim index src"),
    "index_add": Peer(index_add, "x dim index source =alpha"),
    "index_put": Peer(index_put, "x indices values =accumulate"),
    "index_select": Peer(lambda x, dim, index: mg.take(x, index, axis=dim), "x dim index"),
    "sort": Peer(sort, "x dim=axis =descending stable="),
    "argsort": Peer(argsort, "x dim=axis =descending stable="),
    "topk": Peer(mg.topk, "x k dim=axis =largest sorted="),
    # --- products ---
    "dot": Peer(mg.dot, "a b"),
    "outer": Peer(mg.outer, "a b"),
    **{name: Peer(mg.matmul, "a b") for name in "mm mv bmm".split()},
    "einsum": Peer(in_any, "tensors equation"),
    "tensordot": Peer(tensordot_axes, "a b dims=axes"),
    # --- linear algebra ---
    **{f"linalg.{name}": Peer(getattr(linalg, name), "a") for name in "det inv slogdet svdvals".split()},
    "linalg.cholesky": Peer(linalg.cholesky, "a =upper"),
    "linalg.eigh": Peer(of_symmetric(linalg.eigh), "a UPLO=", theirs=of_symmetric(torch.linalg.eigh)),
    "linalg.eigvalsh": Peer(of_symmetric(linalg.eigvalsh), "a UPLO=", theirs=of_symmetric(torch.linalg.eigvalsh)),
    "linalg.lstsq": Peer(linalg.lstsq, "a b driver=", theirs=lambda a, b, driver: torch.linalg.lstsq(a, b).solution),
    "linalg.matrix_power": Peer(linalg.matrix_power, "a n"),
    "linalg.pinv": Peer(linalg.pinv, "a rtol=rcond"),
    "linalg.pinv:hermitian": Peer(of_symmetric(linalg.pinv), "a hermitian=", theirs=of_symmetric(torch.linalg.pinv)),
    "linalg.pinv:singular": Peer(lambda a, b: linalg.pinv(a @ b.swapaxes(-1, -2)), "a b"),
    "linalg.qr": Peer(turned_up(linalg.qr), "a", theirs=turned_up(torch.linalg.qr)),
    "linalg.solve": Peer(solve, "a b"),
    "linalg.solve_triangular": Peer(solve_triangular, "a b =upper =left =unitriangular"),
    "linalg.svd": Peer(linalg.svd, "a =full_matrices"),
    "matrix_exp": Peer(linalg.expm, "a"),
    # --- creation ---
    "arange": Peer(mg.arange, "start end step =dtype =device =requires_grad"),
    "linspace": Peer(mg.linspace, "start end steps =dtype =device =requires_grad"),
    "eye": Peer(mg.eye, "n m =dtype =device =requires_grad"),
    "full": Peer(mg.full, "size value =dtype =device =requires_grad"),
    "ones": Peer(mg.ones, "size =dtype =device =requires_grad"),
    "zeros": Peer(mg.zeros, "size =dtype =device =requires_grad"),
    **named("ones_like zeros_like", "x =dtype =device =requires_grad"),
    **named("full_like", "x value =dtype =device =requires_grad"),
    **{
        name: Peer(shape_of(getattr(mg, name)), parameters, theirs=shape_of(getattr(torch, name)))
        for name, parameters in {
            "randn": "size =dtype =device =requires_grad",
            "randn_like": "x =dtype =device",
            "rand_like": "x =dtype =device",
        }.items()
    },
    "randint": Peer(randint, "*", theirs=shape_of(torch.randint)),
    # --- layers ---
    **in_functional("relu sigmoid silu tanh", "x"),
    "nn.functional.elu": Peer(functional.elu, "x =alpha"),
    "nn.functional.gelu": Peer(functional.gelu, "x =approximate"),
    "nn.functional.leaky_relu": Peer(functional.leaky_relu, "x =negative_slope"),
    "nn.functional.softplus": Peer(functional.softplus, "x =beta =threshold"),
    "nn.functional.linear": Peer(functional.linear, "x weight bias"),
    **in_functional("conv1d conv2d", "x weight bias =stride =padding =dilation =groups"),
    "nn.functional.conv_transpose2d": Peer(
        functional.conv_transpose2d,
        "x weight bias =stride =padding =output_padding =groups =dilation",
    ),
    "nn.functional.max_pool2d": Peer(
        functional.max_pool2d, "x =kernel_size =stride =padding =dilation =ceil_mode =return_indices"
    ),
    "nn.functional.avg_pool2d": Peer(
        functional.avg_pool2d,
        "x =kernel_size =stride =padding =ceil_mode =count_include_pad =divisor_override",
    ),
    "nn.functional.adaptive_avg_pool2d": Peer(functional.adaptive_avg_pool2d, "x output_size"),
    "nn.functional.batch_norm": Peer(functional.batch_norm, "x mean var =weight =bias =training =momentum =eps"),
    "nn.functional.embedding": Peer(lambda weight, indices: functional.embedding(indices, weight), "weight indices"),
    "nn.functional.one_hot": Peer(one_hot, "indices num_classes"),
    **{
        f"nn.functional.{name}": Peer(
            dropped(getattr(functional, name)),
            "x =p =training inplace=",
            theirs=dropped(getattr(torch.nn.functional, name)),
        )
        for name in ("dropout", "dropout2d")
    },
    # --- losses ---
    **in_functional("mse_loss l1_loss", "input target =reduction"),
    **in_functional("smooth_l1_loss", "input target =reduction =beta"),
    **in_functional("huber_loss", "input target =reduction =delta"),
    **in_functional("binary_cross_entropy", "input target =weight =reduction"),
    **in_functional("binary_cross_entropy_with_logits", "input target =weight =reduction =pos_weight"),
    **in_functional(
        "cross_entropy",
        "input target =weight =ignore_index =reduction =label_smoothing",
    ),
    **in_functional("nll_loss", "input target =weight =ignore_index =reduction"),
    **in_functional("multi_margin_loss", "input target =p =margin =weight =reduction"),
}
