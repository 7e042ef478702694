"""Cases of products, convolution, pooling and batch normalisation."""

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from tests.support.op_cases.case import Call, Case
from tests.support.strategies import broadcastable_shapes, distinct, shapes, uniform

ALL = ("f2", "f4", "f8", "i4", "i8")
WIDE = ("f4", "f8")  # what sums many products, and would need a wide tolerance in float16

# --- products ---


@st.composite
def factors(draw, max_dims=3):
    """Shapes for matmul: vectors, matrices, batches that broadcast; sizes of 0 too."""
    n, k, m = (draw(st.sampled_from([2, 3, 1, 0])) for _ in range(3))
    batches = broadcastable_shapes(max_dims=max_dims - 2, max_side=2)
    left, right = draw(st.one_of(batches, st.sampled_from([((2,), (2,)), ((3,), (1,))])))
    a = draw(st.sampled_from([(k,), (n, k), (*left, n, k)]))
    b = draw(st.sampled_from([(k,), (k, m), (*right, k, m)]))
    return Call((draw(uniform(a)), draw(uniform(b))))


@st.composite
def dotted(draw):
    k = draw(st.integers(1, 3))
    a = draw(st.sampled_from([(), (k,), (2, k), (2, 1, k)]))
    b = draw(st.sampled_from([(), (k,), (k, 2), (2, k, 3)]))
    return Call((draw(uniform(a)), draw(uniform(b))))


@st.composite
def layer(draw):
    inside, outside = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    x = draw(uniform((*draw(shapes(max_dims=3, max_side=3)), inside)))
    bias = draw(st.one_of(st.none(), uniform((outside,))))
    return Call((x, draw(uniform((outside, inside))), bias))


def _linear(x, weight, bias):
    return x @ weight.T + (0 if bias is None else bias)


@st.composite
def contracted(draw):
    sizes = {letter: draw(st.integers(0, 3)) for letter in "abcde"}
    a, b, axes = draw(
        st.sampled_from(
            [
                ("abc", "bcd", 2),
                ("ab", "bd", 1),
                ("ab", "cd", 0),
                ("abc", "dab", ([0, 1], [1, 2])),
                ("abc", "cd", ((2,), (0,))),
                ("abc", "ebd", (1, 1)),
                ("abc", "da", ([-3], [-1])),
            ]
        )
    )
    arrays = (draw(uniform(tuple(sizes[c] for c in term))) for term in (a, b))
    return Call((*arrays, axes))


EINSUMS = [
    ("ij,jk->ik", ["ij", "jk"]),
    ("ij,jk", ["ij", "jk"]),
    ("i,i", ["i", "i"]),
    ("i,j->ij", ["i", "j"]),
    ("ij->", ["ij"]),
    ("ij->ji", ["ij"]),
    ("ba", ["ba"]),
    ("ii", ["ii"]),
    ("ii->i", ["ii"]),
    ("iij->j", ["iij"]),
    ("ijj,jk->ik", ["ijj", "jk"]),
    ("bij,bjk->bik", ["bij", "bjk"]),
    ("...ij,...jk->...ik", ["ij", "bjk"]),
    ("...i,i->...", ["bci", "i"]),
    ("i...,i...", ["ib", "ib"]),
    ("ij,jk,kl->il", ["ij", "jk", "kl"]),
    ("ij,ij,ij->i", ["ij", "ij", "ij"]),
    ("ijk,l->il", ["ijk", "l"]),
    (",i->i", ["", "i"]),
]


@st.composite
def summed(draw):
    """An einsum; letters in one operand may have size 1 where they are larger in another."""
    subscripts, terms = draw(st.sampled_from(EINSUMS))
    sizes = {letter: draw(st.integers(0, 3)) for letter in "abcijkl"}
    arrays = []
    for term in terms:
        thin = set()
        if len(set(term)) == len(term) and len(terms) > 1:
            thin = {letter for letter in term if draw(st.integers(0, 7)) == 0}
        arrays.append(draw(uniform(tuple(1 if letter in thin else sizes[letter] for letter in term))))
    return Call((subscripts, *arrays))


@st.composite
def spelled_out(draw):
    """What the primitive takes: explicit terms, each letter once in each."""
    terms, result = draw(
        st.sampled_from(
            [(("ij", "jk"), "ik"), (("ij",), "i"), (("ij",), "ji"), (("i", "j"), ""), (("ij", "j", "kj"), "ki")]
        )
    )
    sizes = {letter: draw(st.integers(0, 3)) for letter in "ijk"}
    arrays = tuple(draw(uniform(tuple(sizes[c] for c in term))) for term in terms)
    return Call(arrays, {"terms": terms, "result": result})


def _einsum(*operands, terms, result):
    return np.einsum(f"{','.join(terms)}->{result}", *operands)


# --- convolution: sums over the kernel's places, one at a time ---


@st.composite
def geometry(draw, kernel):
    """Options of the primitives, and sizes of an image on which the kernel has at least one place."""
    stride, dilation = (tuple(draw(st.integers(1, 2)) for _ in range(2)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(2))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = tuple(n + draw(st.integers(0, 3)) for n in least)
    return {"stride": stride, "padding": padding, "dilation": dilation}, size


@st.composite
def convolved(draw, part="forward", max_batch=2):
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(2))
    options, size = draw(geometry(kernel))
    groups, inside, outside = (draw(st.integers(1, 2)) for _ in range(3))
    x = draw(uniform((draw(st.integers(1, max_batch)), groups * inside, *size)))
    weight = draw(uniform((groups * outside, inside, *kernel)))
    options["groups"] = groups
    if part == "forward":
        return Call((x, weight, draw(st.one_of(st.none(), uniform((groups * outside,))))), options)
    g = draw(uniform(_conv2d(x, weight, None, **options).shape))
    if part == "input":
        return Call((g, weight), {"x_shape": x.shape, **options})
    return Call((x, g), {"weight_shape": weight.shape, **options})


def _windows(x, weight_shape, stride, padding, dilation):
    """For each place in the kernel: the part of the padded image under it, for all positions of the kernel."""
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight_shape[2:], strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, stride, strict=True)]
    for i, j in np.ndindex(*weight_shape[2:]):
        rows = slice(i * dilation[0], i * dilation[0] + stride[0] * out[0], stride[0])
        columns = slice(j * dilation[1], j * dilation[1] + stride[1] * out[1], stride[1])
        yield (i, j), padded, (slice(None), slice(None), rows, columns)


def _grouped(x, groups, axis):
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _conv2d(x, weight, bias, stride, padding, dilation, groups):
    total = 0
    w = _grouped(weight, groups, 0)
    for (i, j), padded, part in _windows(x, weight.shape, stride, padding, dilation):
        total = total + np.einsum("ngchw,goc->ngohw", _grouped(padded[part], groups, 1), w[..., i, j])
    y = total.reshape(len(x), len(weight), *total.shape[3:])
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def _conv2d_input_grad(g, weight, x_shape, stride, padding, dilation, groups):
    kind = np.result_type(g, weight)
    w, grouped, dx = _grouped(weight, groups, 0), _grouped(g, groups, 1), None
    for (i, j), padded, part in _windows(np.zeros(x_shape, kind), weight.shape, stride, padding, dilation):
        dx = padded.copy() if dx is None else dx
        share = np.einsum("ngohw,goc->ngchw", grouped, w[..., i, j])
        dx[part] += share.reshape(len(g), -1, *share.shape[3:])
    return dx[:, :, padding[0] : padding[0] + x_shape[2], padding[1] : padding[1] + x_shape[3]]


def _conv2d_weight_grad(x, g, weight_shape, stride, padding, dilation, groups):
    dw = np.zeros(weight_shape, np.result_type(x, g))
    for (i, j), padded, part in _windows(x, weight_shape, stride, padding, dilation):
        sums = np.einsum("ngchw,ngohw->goc", _grouped(padded[part], groups, 1), _grouped(g, groups, 1))
        dw[:, :, i, j] = sums.reshape(weight_shape[:2])
    return dw


@st.composite
def public_convolution(draw):
    """conv2d as users call it: a single image, ints for pairs, padding="same"."""
    call = draw(convolved())
    x, weight, bias = call.args
    options = dict(call.options)
    if weight.shape[2] % 2 and weight.shape[3] % 2 and draw(st.booleans()):
        options |= {"padding": "same", "stride": 1}
        reach = [d * (k - 1) + 1 for d, k in zip(options["dilation"], weight.shape[2:], strict=True)]
        x = draw(uniform((*x.shape[:2], *(r + draw(st.integers(0, 1)) for r in reach))))
    return Call((x[0] if draw(st.booleans()) else x, weight, bias), options)


def _public_conv2d(x, weight, bias, stride, padding, dilation, groups):
    if padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        stride = (stride, stride)
    y = _conv2d(x if x.ndim == 4 else x[None], weight, bias, stride, padding, dilation, groups)
    return y if x.ndim == 4 else y[0]


@st.composite
def lines(draw):
    size, stride, dilation, padding = (draw(st.integers(1, 2)) for _ in range(4))
    length = dilation * (size - 1) + 1 + draw(st.integers(0, 3))
    x, weight = draw(uniform((2, 2, length))), draw(uniform((2, 2, size)))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return Call((x, weight, draw(st.one_of(st.none(), uniform((2,))))), options)


def _conv1d(x, weight, bias, stride, padding, dilation):
    pairs = {"stride": (1, stride), "padding": (0, padding), "dilation": (1, dilation)}
    return _conv2d(x[:, :, None], weight[:, :, None], bias, **pairs, groups=1)[:, :, 0]


@st.composite
def turned(draw):
    """A transposed convolution: the shapes of a convolution the other way."""
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(2))
    options, _ = draw(geometry(kernel))
    options["padding"] = tuple(
        min(p, d * (k - 1) // 2) for p, d, k in zip(options["padding"], options["dilation"], kernel, strict=True)
    )
    groups = draw(st.integers(1, 2))
    x = draw(uniform((draw(st.integers(1, 2)), 2 * groups, draw(st.integers(1, 3)), draw(st.integers(1, 3)))))
    weight = draw(uniform((2 * groups, 2, *kernel)))
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(options["stride"], options["dilation"], strict=True)
    )
    bias = draw(st.one_of(st.none(), uniform((2 * groups,))))
    return Call((x, weight, bias), {**options, "output_padding": extra, "groups": groups})


def _conv_transpose2d(x, weight, bias, stride, padding, dilation, output_padding, groups):
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            x.shape[2:], stride, padding, dilation, weight.shape[2:], output_padding, strict=True
        )
    ]
    shape = (len(x), weight.shape[1] * groups, *size)
    further = [(0, e // s) for e, s in zip(output_padding, stride, strict=True)]  # zeros that make room for the output
    x = np.pad(x, ((0, 0), (0, 0), *further))
    y = _conv2d_input_grad(x, weight, shape, stride, padding, dilation, groups)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


# --- pooling ---


@st.composite
def pooled(draw, part="forward", average=False):
    kernel, stride = (tuple(draw(st.integers(1, 3)) for _ in range(2)) for _ in range(2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 3)) for k, p in zip(kernel, padding, strict=True))
    x = draw(distinct((draw(st.integers(1, 2)), draw(st.integers(1, 2)), *size)))
    options = {"kernel": kernel, "stride": stride, "padding": padding}
    further = {"count_include_pad": draw(st.booleans())} if average else {}
    windows = _pool_windows(x, **options)
    if part == "forward":
        return Call((x,), options | further)
    index = {} if average else {"index": windows.argmax(-1).astype(np.uint8)}
    if part == "gather":
        return Call((draw(uniform(x.shape)),), {**index, **options})
    return Call((draw(uniform(windows.shape[:-1])),), {**index, "x_shape": x.shape, **options, **further})


def _pool_windows(x, kernel, stride, padding, fill=-np.inf):
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=fill)
    windows = sliding_window_view(padded, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]
    return windows.reshape(*windows.shape[:4], -1)


def _max_pool(x, **options):
    return _pool_windows(x, **options).max(-1)


def _avg_pool(x, kernel, stride, padding, count_include_pad):
    sums = _pool_windows(x, kernel, stride, padding, 0).sum(-1)
    ones = np.ones(x.shape)
    return sums / (
        kernel[0] * kernel[1] if count_include_pad else _pool_windows(ones, kernel, stride, padding, 0).sum(-1)
    )


def _read_winners(t, index, **options):
    return np.take_along_axis(_pool_windows(t, **options, fill=0), index[..., None].astype(int), -1)[..., 0]


def _transposed(forward):
    """The adjoint of a linear map of images, from its matrix."""

    def adjoint(g, x_shape, **options):
        size = int(np.prod(x_shape))
        columns = [forward(unit.reshape(x_shape), **options).ravel() for unit in np.eye(size)]
        return (np.array(columns) @ g.ravel()).reshape(x_shape).astype(g.dtype)

    return adjoint


@st.composite
def public_pooling(draw, average=False):
    call = draw(pooled(average=average))
    x, options = call.args[0], call.options
    stride = options["stride"] if draw(st.booleans()) else None
    further = {"ceil_mode": draw(st.booleans())}
    if average:
        further["count_include_pad"] = options["count_include_pad"]
        further["divisor_override"] = draw(st.sampled_from([None, None, 3]))
    else:
        fit = all(n >= 2 * k - 1 for n, k in zip(x.shape[2:], options["kernel"], strict=True))
        further["dilation"] = draw(st.sampled_from([1, 2])) if fit else 1
    return Call((x[0] if draw(st.booleans()) else x, options["kernel"], stride, options["padding"]), further)


def _starts(size, extent, stride, padding, ceil_mode):
    """Where windows begin: full ones, and with ceil_mode one more that begins before the end, if pixels are left."""
    starts = [-padding]
    while starts[-1] + stride + extent <= size + padding:
        starts.append(starts[-1] + stride)
    left = starts[-1] + extent < size + padding
    return [*starts, starts[-1] + stride] if ceil_mode and left and starts[-1] + stride < size else starts


def _pool_by_definition(x, kernel, stride, padding, ceil_mode, dilation, reduce):
    """`reduce` of the pixels inside of the image, and of how many lie inside of its padding, for each window."""
    if x.ndim == 3:
        return _pool_by_definition(x[None], kernel, stride, padding, ceil_mode, dilation, reduce)[0]
    axes = []
    for n, k, s, p in zip(x.shape[2:], kernel, stride or kernel, padding, strict=True):
        starts = _starts(n, dilation * (k - 1) + 1, s, p, ceil_mode)
        axes.append([[a + dilation * i for i in range(k) if a + dilation * i < n + p] for a in starts])
    y = np.empty((*x.shape[:2], len(axes[0]), len(axes[1])), x.dtype)
    for i, rows in enumerate(axes[0]):
        for j, columns in enumerate(axes[1]):
            inside = [[a for a in line if 0 <= a < n] for line, n in zip((rows, columns), x.shape[2:], strict=True)]
            y[:, :, i, j] = reduce(x[:, :, inside[0]][..., inside[1]], len(rows) * len(columns))
    return y


def _public_max_pool(x, kernel, stride, padding, ceil_mode, dilation):
    return _pool_by_definition(
        *(x, kernel, stride, padding, ceil_mode, dilation), lambda pixels, count: pixels.max(axis=(-2, -1))
    )


def _public_avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override):
    def mean(pixels, count):
        count = count if count_include_pad else pixels.shape[-2] * pixels.shape[-1]
        return pixels.sum(axis=(-2, -1)) / (divisor_override or count)

    return _pool_by_definition(x, kernel, stride, padding, ceil_mode, 1, mean)


@st.composite
def adapted(draw):
    x = draw(uniform(shapes(min_dims=3, max_dims=4, min_side=1, max_side=5)))
    return Call((x, draw(st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 6), st.none())))))


def _adaptive(x, output_size):
    rows, columns = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    for axis, n in ((-2, rows), (-1, columns)):
        size = x.shape[axis]
        n = size if n is None else n
        bounds = [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]
        x = np.stack([np.take(x, range(*bound), axis).mean(axis) for bound in bounds], axis)
    return x


# --- batch normalisation ---


@st.composite
def normalized(draw, primitive=False):
    channels = draw(st.integers(1, 3))
    shape = (draw(st.integers(2, 3)), channels, *draw(shapes(max_dims=2, min_side=1, max_side=3)))
    parameters = [draw(st.one_of(st.none(), uniform((channels,), 0.5, 1.5))) for _ in range(2)]
    return Call((draw(distinct(shape)), *parameters), {"eps": draw(st.sampled_from([1e-5, 1e-2]))})


def _batch_norm(x, weight, bias, eps):
    axes = (0, *range(2, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + eps)
    return _per_channel(y, weight, bias)


def _batch_norm_relu(x, weight, bias, eps):
    return np.maximum(_batch_norm(x, weight, bias, eps), 0)


def off_the_kink(calls, before):
    """Calls of an op with ReLU at its end in which no number that goes into the ReLU is close to 0."""
    return calls.filter(lambda call: not np.any(np.abs(before(*call.args, **call.options)) < 0.02))


@st.composite
def shifted(draw):
    channels = draw(st.integers(1, 3))
    shape = (draw(st.integers(0, 3)), channels, *draw(shapes(max_dims=2, max_side=3)))
    return Call((draw(uniform(shape)), draw(uniform((channels,)))))


def _shifted(x, bias):
    return _per_channel(x, None, bias)


def _bias_relu(x, bias):
    return np.maximum(_shifted(x, bias), 0)


def _per_channel(y, weight, bias):
    shape = (1, -1) + (1,) * (y.ndim - 2)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


@st.composite
def normalized_by_given(draw):
    call = draw(normalized())
    x, weight, bias = call.args
    channels = x.shape[1]
    return Call((x, draw(uniform((channels,))), draw(uniform((channels,), 0.3, 2)), weight, bias), call.options)


def _batch_norm_inference(x, mean, variance, weight, bias, eps):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return _per_channel((x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps), weight, bias)


def _batch_norm_inference_relu(x, mean, variance, weight, bias, eps):
    return np.maximum(_batch_norm_inference(x, mean, variance, weight, bias, eps), 0)


INFERENCE_RELU = (
    off_the_kink(normalized_by_given(), _batch_norm_inference),
    _batch_norm_inference_relu,
    _batch_norm_inference_relu,
)

OPS = {
    "matmul": Case(factors(max_dims=4), np.matmul, np.matmul, ALL),
    "linear": Case(layer(), _linear, _linear),
    "einsum": Case(spelled_out(), _einsum, _einsum, ALL),
    "conv2d": Case(convolved(), _conv2d, _conv2d, WIDE, mixed=False),
    "conv2d_input_grad": Case(convolved("input"), _conv2d_input_grad, _conv2d_input_grad, WIDE, mixed=False),
    "conv2d_weight_grad": Case(convolved("weight"), _conv2d_weight_grad, _conv2d_weight_grad, WIDE, mixed=False),
    "max_pool2d": Case(pooled(), _max_pool, dtypes=WIDE, distinct=True, mixed=False),
    "max_pool2d_scatter": Case(pooled("scatter"), _transposed(_read_winners), dtypes=WIDE),
    "max_pool2d_gather": Case(pooled("gather"), _read_winners, _read_winners, WIDE),
    "avg_pool2d": Case(pooled(average=True), _avg_pool, _avg_pool, WIDE),
    "avg_pool2d_input_grad": Case(pooled("input", average=True), _transposed(_avg_pool), dtypes=WIDE),
    "batch_norm": Case(normalized(), _batch_norm, _batch_norm, WIDE, distinct=True, mixed=False),
    "batch_norm_relu": Case(
        off_the_kink(normalized(), _batch_norm), _batch_norm_relu, dtypes=WIDE, distinct=True, mixed=False
    ),
    "bias_relu": Case(off_the_kink(shifted(), _shifted), _bias_relu, _bias_relu, WIDE, mixed=False),
    "batch_norm_inference": Case(normalized_by_given(), _batch_norm_inference, _batch_norm_inference, WIDE),
    "batch_norm_inference_relu": Case(*INFERENCE_RELU, WIDE, distinct=True),
}

COMPOSITES = {
    "dot": Case(dotted(), np.dot, np.dot, ALL),
    "outer": Case(factors(), np.outer, np.outer, ALL),
    "tensordot": Case(contracted(), np.tensordot, np.tensordot, ALL),
    "einsum": Case(summed(), np.einsum, np.einsum, ALL),
    "conv2d": Case(public_convolution(), _public_conv2d, dtypes=WIDE, mixed=False),
    "conv1d": Case(lines(), _conv1d, _conv1d, WIDE, mixed=False),
    "conv_transpose2d": Case(turned(), _conv_transpose2d, _conv_transpose2d, WIDE, mixed=False),
    "max_pool2d": Case(public_pooling(), _public_max_pool, dtypes=WIDE, distinct=True, mixed=False),
    "avg_pool2d": Case(public_pooling(average=True), _public_avg_pool, dtypes=WIDE),
    "adaptive_avg_pool2d": Case(adapted(), _adaptive, _adaptive, WIDE),
    "batch_norm": Case(normalized(), _batch_norm, _batch_norm, WIDE, distinct=True, mixed=False),
    "batch_norm_inference": Case(normalized_by_given(), _batch_norm_inference, _batch_norm_inference, WIDE),
    "batch_norm_inference_relu": Case(*INFERENCE_RELU, WIDE, distinct=True),
    "batch_norm_relu": Case(
        off_the_kink(normalized(), _batch_norm), _batch_norm_relu, dtypes=WIDE, distinct=True, mixed=False
    ),
}
