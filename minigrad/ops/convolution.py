"""Convolution and its two adjoints, three ops that are each other's derivatives.

    y  = conv2d(x, w)                  linear in x and in w
    dx = conv2d_input_grad(g, w)       the same map turned around; the forward of a transposed convolution
    dw = conv2d_weight_grad(x, g)

Each is linear in both of its arguments, so the derivative of any of them is one of the other two, and convolution can
be differentiated as often as one likes. After this file you know that; the kernels that compute it are in `backend/`.
Images are (N, C, H, W) and weights (out, in/groups, height, width), as in PyTorch; "convolution" is cross-correlation.
"""

from __future__ import annotations

from collections.abc import Sequence

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.levels import is_batched
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Pair, TensorLike
from minigrad.backend import kernels, namespace
from minigrad.ops.autocasting import lowered
from minigrad.ops.shapes import expand_dims, is_whole, pad, squeeze

# --- the three ops ---


@primitive(symbol="conv", local="conv'(g, w), conv'(x, g), sum g")
def _conv2d(x, weight, bias=None, *, stride, padding, dilation, groups):
    return kernels(x, weight, bias).conv2d(x, weight, bias, stride, padding, dilation, groups)


@primitive(symbol="conv'", local="conv(g, w), conv'(g, g)", kind="linear")
def conv2d_input_grad(g, weight, *, x_shape, stride, padding, dilation, groups):
    """The gradient of a convolution's input, given that of its output: its adjoint in x."""
    return kernels(g, weight).conv2d_input_grad(g, weight, x_shape, stride, padding, dilation, groups)


@primitive(symbol="conv'", local="conv'(g, w), conv(x, g)", kind="linear")
def conv2d_weight_grad(x, g, *, weight_shape, stride, padding, dilation, groups):
    """The gradient of a convolution's weight, given its input and the gradient of its output."""
    return kernels(x, g).conv2d_weight_grad(x, g, weight_shape, stride, padding, dilation, groups)


def _geometry(stride, padding, dilation, groups):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


_conv2d.defvjp(
    x=lambda g, weight, x_shape, stride, padding, dilation, groups: conv2d_input_grad(
        g, weight, x_shape=x_shape, **_geometry(stride, padding, dilation, groups)
    ),
    weight=lambda g, x, weight_shape, stride, padding, dilation, groups: conv2d_weight_grad(
        x, g, weight_shape=weight_shape, **_geometry(stride, padding, dilation, groups)
    ),
    bias=lambda g: sum_channels(g),
)
_conv2d.defjvp(
    x=lambda t, weight, stride, padding, dilation, groups: _conv2d(
        t, weight, None, **_geometry(stride, padding, dilation, groups)
    ),
    weight=lambda t, x, stride, padding, dilation, groups: _conv2d(
        x, t, None, **_geometry(stride, padding, dilation, groups)
    ),
    bias=lambda t: t.reshape((1, -1, 1, 1)),
)
conv2d_input_grad.defvjp(
    g=lambda c, weight, stride, padding, dilation, groups: _conv2d(
        c, weight, None, **_geometry(stride, padding, dilation, groups)
    ),
    weight=lambda c, g, weight_shape, stride, padding, dilation, groups: conv2d_weight_grad(
        c, g, weight_shape=weight_shape, **_geometry(stride, padding, dilation, groups)
    ),
)
conv2d_weight_grad.defvjp(
    x=lambda c, g, x_shape, stride, padding, dilation, groups: conv2d_input_grad(
        g, c, x_shape=x_shape, **_geometry(stride, padding, dilation, groups)
    ),
    g=lambda c, x, stride, padding, dilation, groups: _conv2d(
        x, c, None, **_geometry(stride, padding, dilation, groups)
    ),
)


def sum_channels(g):
    """The sum over all axes but the channels'."""
    return g.sum(axis=(0, 2, 3)) if isinstance(g, Tensor) else kernels(g).channel_sum(g)


# --- what a user calls ---


@composite
def conv2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """2-d convolution.

    Parameters
    ----------
    x : (N, C, H, W), or (C, H, W) for a single image
    weight : (out, C / groups, kernel height, kernel width)
    bias : (out,) or None
    stride, padding, dilation : int or pair; padding adds zeros on both sides, or "same" for stride 1
    groups : int; how many groups the channels are divided into; an output channel sees the inputs of its own group only

    Returns
    -------
    (N, out, H', W') with H' = (H + 2 padding - dilation (height - 1) - 1) // stride + 1, likewise W'.
    """
    if x.ndim == 3:
        return squeeze(conv2d(expand_dims(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    if x.ndim != 4 or weight.ndim != 4:
        raise ShapeError(
            f"conv2d: input {x.shape} and weight {weight.shape}; "
            "expected (N, C, H, W) or (C, H, W), and (out, C/groups, height, width)."
        )
    x, weight, bias = lowered(x, weight, bias)
    x, geometry = _checked("conv2d", ("height", "width"), x, weight, bias, stride, padding, dilation, groups)
    return _conv2d(_turned_once(x), weight, bias, **geometry)


def _turned_once(x):
    """Images that need no gradient, such as a batch, in the order of memory in which a GPU's kernels take them.

    Forward and the weight's gradient both read them, and would each turn them.
    """
    if not isinstance(x, Tensor) or x.node is not None or x.device == "cpu" or is_batched(x.data):
        return x
    xp = namespace(x.data)
    return Tensor(xp.moveaxis(xp.ascontiguousarray(xp.moveaxis(x.data, 1, -1)), -1, 1))


@composite
def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """1-d convolution: x (N, C, L), weight (out, C / groups, kernel); a `conv2d` on images of height 1."""
    if x.ndim not in (2, 3) or weight.ndim != 3:
        raise ShapeError(
            f"conv1d: input {x.shape} and weight {weight.shape}; "
            "expected (N, C, L) or (C, L), and (out, C/groups, size)."
        )
    if x.ndim == 2:
        return squeeze(conv1d(expand_dims(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    x, weight, bias = lowered(x, weight, bias)
    x, line = _checked("conv1d", ("length",), x, weight, bias, stride, padding, dilation, groups)
    (step,), (around,), (spacing,) = line["stride"], line["padding"], line["dilation"]
    geometry = _geometry((1, step), (0, around), (1, spacing), line["groups"])
    return squeeze(_conv2d(expand_dims(x, -2), expand_dims(weight, -2), bias, **geometry), -2)


@composite
def conv_transpose2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    """Transposed 2-d convolution: what maps a convolution's output gradient to its input gradient (as PyTorch).

    x (N, C, H, W); weight (C, out / groups, height, width); the result's height is
    (H - 1) stride - 2 padding + dilation (height - 1) + output_padding + 1, likewise its width.
    """
    if x.ndim == 3:
        y = conv_transpose2d(expand_dims(x, 0), weight, bias, stride, padding, output_padding, groups, dilation)
        return squeeze(y, 0)
    if not is_whole(groups) or groups < 1:
        raise TypeError(f"conv_transpose2d: groups={groups!r}; expected an integer of at least 1.")
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[0] or x.shape[1] % groups:
        raise ShapeError(
            f"conv_transpose2d: input {x.shape}, weight {weight.shape}, groups {groups}; expected (N, C, H, W) and "
            "(C, out/groups, height, width) with C divisible by groups."
        )
    x, weight, bias = lowered(x, weight, bias)
    _check_dtypes("conv_transpose2d", x, weight, bias)
    stride, dilation = pair("conv_transpose2d: stride", stride, 1), pair("conv_transpose2d: dilation", dilation, 1)
    padding, extra = (
        pair("conv_transpose2d: padding", padding, 0),
        pair("conv_transpose2d: output_padding", output_padding, 0),
    )
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeError(
            f"conv_transpose2d: output_padding {extra} must be smaller than stride {stride} or dilation {dilation}."
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(x.shape[2:], stride, padding, dilation, weight.shape[2:], extra, strict=True)
    )
    if min(size) < 1:
        raise ShapeError(f"conv_transpose2d: the result would have size {size}; use less padding.")
    # An output padding of a whole stride or more makes room for further windows, which are zero.
    windows = tuple((0, e // s) for e, s in zip(extra, stride, strict=True))
    x = pad(x, ((0, 0), (0, 0), *windows)) if windows != ((0, 0), (0, 0)) else x
    out_channels = weight.shape[1] * groups
    y = conv2d_input_grad(
        x,
        weight,
        x_shape=(x.shape[0], out_channels, *size),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    if bias is not None and bias.shape != (out_channels,):
        raise ShapeError(
            f"conv_transpose2d: a bias of shape {bias.shape} for {out_channels} output channels; "
            f"expected ({out_channels},)."
        )
    return y if bias is None else y + bias.reshape((1, -1, 1, 1))


# --- arguments ---


def pair(what: str, value, at_least: int, axes: int = 2) -> tuple[int, ...]:
    """An int for both directions (or however many axes there are), also as a 1-tuple, or one for each, checked."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values = values * axes if len(values) == 1 else values
    if len(values) != axes or not all(is_whole(v) and v >= at_least for v in values):
        many = ", or a pair (height, width) of them" if axes == 2 else ""
        given = f"a {type(value).__name__}" if hasattr(value, "shape") else repr(value)
        raise ShapeError(f"{what} {given}: expected an int of at least {at_least}{many}.")
    return tuple(map(int, values))


def _checked(op, names, x, weight, bias, stride, padding, dilation, groups):
    """x, padded where needed, and the geometry of a convolution: each option with an int for each of the named axes."""
    _check_dtypes(op, x, weight, bias)
    axes = len(names)
    stride, dilation = pair(f"{op}: stride", stride, 1, axes), pair(f"{op}: dilation", dilation, 1, axes)
    x, padding = _padded(op, x, padding, weight.shape[2:], stride, dilation)
    _check_channels(op, x.shape, weight.shape, bias, groups)
    for name, n, kernel, p, d in zip(names, x.shape[2:], weight.shape[2:], padding, dilation, strict=True):
        extent = d * (kernel - 1) + 1
        if kernel < 1 or extent > n + 2 * p:
            pixels, image = ("pixels of ", "image") if axes == 2 else ("elements of ", "sequence")
            raise ShapeError(
                f"{op}: a kernel reaching over {extent} {pixels}{name} for an input of {n} with padding {p}: it is "
                f"larger than the {image}. Use a smaller kernel or dilation, or padding."
                if kernel
                else f"{op}: a weight of shape {weight.shape}; its {name} must be at least 1."
            )
    return x, _geometry(stride, padding, dilation, int(groups))


def _check_dtypes(op, x, weight, bias) -> None:
    """Kernels work in one dtype: NumPy's promotion would copy whole images in silence."""
    found = [str(part.dtype) for part in (x, weight, bias) if part is not None]
    if len(set(found)) > 1:
        raise TypeError(f"{op}: input, weight and bias are {', '.join(found)}; give them one dtype, with .astype(...).")
    if x.dtype.kind != "f":  # sums of small integers would wrap around
        raise TypeError(f"{op}: input and weight are {x.dtype}; expected floats, as in x.astype('float32').")


def _padded(op, x, padding, kernel, stride, dilation) -> tuple[TensorLike, tuple[int, ...]]:
    """x and the padding on both of its sides. Where "same" needs an odd number of zeros, x has the last one itself."""
    if not isinstance(padding, str):
        return x, pair(f"{op}: padding", padding, 0, len(kernel))
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        raise ValueError(f"{op}: padding={padding!r}; expected integers, 'same' or 'valid'.")
    if max(stride) > 1:
        raise ShapeError(f"{op}: padding='same' needs stride 1, for the result to have x's size; got stride {stride}.")
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(r % 2 for r in reach):
        x = pad(x, ((0, 0), (0, 0), *((0, r % 2) for r in reach)))
    return x, tuple(r // 2 for r in reach)


def _check_channels(op, x_shape, weight_shape, bias, groups) -> None:
    out, per_group = weight_shape[:2]
    if not is_whole(groups):
        raise TypeError(f"{op}: groups={groups!r}; expected an integer of at least 1.")
    if groups < 1 or x_shape[1] != per_group * groups or out % groups:
        raise ShapeError(
            f"{op}: input {x_shape} has {x_shape[1]} channels, but weight {weight_shape} with groups={groups} takes "
            f"{per_group * groups} and gives {out}; both must be divisible by groups."
        )
    if bias is not None and bias.shape != (out,):
        raise ShapeError(f"{op}: a bias of shape {bias.shape} for {out} output channels; expected ({out},).")
