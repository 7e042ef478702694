"""The operators and methods of a Tensor: each is an op of `minigrad.ops` under the name that NumPy or PyTorch gave it.

Ops are made for Tensors, and a Tensor's methods are ops: the one circle of the engine. It is closed here: this file
imports neither; `minigrad.ops` and the reverse pass hand themselves in by `bind` once they are complete. Signatures
and first sentences are those of the ops, which a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from opcode import opmap
from types import FunctionType
from typing import TYPE_CHECKING, Any

from minigrad.backend import NUMBERS, is_array

if TYPE_CHECKING:
    from minigrad.autograd.tensor import Tensor
    from minigrad.autograd.types import Axis, Index, Indices, Operand, Shape

UNPACK = opmap["UNPACK_SEQUENCE"]  # what Python runs for `a, b = x`

ops: Any = None  # the package minigrad.ops
linalg: Any = None  # and minigrad.linalg
backward: Any = None  # the function minigrad.autograd.backward
as_tensor: Any = None  # that of tensor.py


def bind(**parts: Any) -> None:
    """Hand in what the methods call and what is made after them."""
    globals().update(parts)


class TensorMethods:
    """What every Tensor can do. In the first sentence of a method, x (or a) is the tensor itself."""

    __slots__ = ()

    if TYPE_CHECKING:  # a Tensor has these

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def dtype(self) -> Any: ...
        @property
        def data(self) -> Any: ...
        @property
        def requires_grad(self) -> bool: ...
        def detach(self) -> Any: ...
        def __len__(self) -> int: ...
        def _assigned(self, result: Tensor) -> Tensor: ...

    # --- operators ---

    def __add__(self, other: Operand) -> Tensor:
        return ops.add(self, other)

    def __sub__(self, other: Operand) -> Tensor:
        return ops.subtract(self, other)

    def __mul__(self, other: Operand) -> Tensor:
        return ops.multiply(self, other)

    def __truediv__(self, other: Operand) -> Tensor:
        return ops.divide(self, other)

    def __floordiv__(self, other: Operand) -> Tensor:
        return ops.floor_divide(self, other)

    def __mod__(self, other: Operand) -> Tensor:
        return ops.remainder(self, other)

    def __pow__(self, other: Operand) -> Tensor:
        return ops.power(self, other)

    def __matmul__(self, other: Operand) -> Tensor:
        return ops.matmul(self, other)

    def __and__(self, other: Operand) -> Tensor:
        return ops.bitwise_and(self, other)

    def __or__(self, other: Operand) -> Tensor:
        return ops.bitwise_or(self, other)

    def __xor__(self, other: Operand) -> Tensor:
        return ops.bitwise_xor(self, other)

    def __lt__(self, other: Operand) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Operand) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Operand) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Operand) -> Tensor:
        return ops.greater_equal(self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return ops.add(other, self)

    def __rsub__(self, other: Operand) -> Tensor:
        return ops.subtract(other, self)

    def __rmul__(self, other: Operand) -> Tensor:
        return ops.multiply(other, self)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return ops.divide(other, self)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Operand) -> Tensor:
        return ops.remainder(other, self)

    def __rpow__(self, other: Operand) -> Tensor:
        return ops.power(other, self)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return ops.matmul(other, self)

    def __rand__(self, other: Operand) -> Tensor:
        return ops.bitwise_and(other, self)

    def __ror__(self, other: Operand) -> Tensor:
        return ops.bitwise_or(other, self)

    def __rxor__(self, other: Operand) -> Tensor:
        return ops.bitwise_xor(other, self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other) if _comparable(other) else NotImplemented

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other) if _comparable(other) else NotImplemented

    __hash__ = object.__hash__

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __pos__(self: Any) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __invert__(self) -> Tensor:
        return ops.logical_not(self) if self.dtype == bool else ops.bitwise_not(self)

    def __getitem__(self, index: Index) -> Tensor:
        return ops.getitem(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        count = len(self)
        caller = sys._getframe(1)
        opcode, names = caller.f_code.co_code[caller.f_lasti : caller.f_lasti + 2]
        if opcode == UNPACK and names != count:  # Python's own error would not say what the tensor is
            raise ValueError(
                f"a tensor of shape {self.shape} has {count} entries along its first axis, which {names} names cannot "
                "take. max() and min() give values alone: argmax(), argmin() give their places; topk() gives both."
            )
        return (self[i] for i in range(count))

    # --- operators that assign: see `Tensor._assigned` for what they leave under the name ---

    def __iadd__(self, other: Operand) -> Tensor:
        return self._assigned(ops.add(self, other))

    def __isub__(self, other: Operand) -> Tensor:
        return self._assigned(ops.subtract(self, other))

    def __imul__(self, other: Operand) -> Tensor:
        return self._assigned(ops.multiply(self, other))

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._assigned(ops.divide(self, other))

    def __ifloordiv__(self, other: Operand) -> Tensor:
        return self._assigned(ops.floor_divide(self, other))

    def __imod__(self, other: Operand) -> Tensor:
        return self._assigned(ops.remainder(self, other))

    def __ipow__(self, other: Operand) -> Tensor:
        return self._assigned(ops.power(self, other))

    def __imatmul__(self, other: Operand) -> Tensor:
        return self._assigned(ops.matmul(self, other))

    def __iand__(self, other: Operand) -> Tensor:
        return self._assigned(ops.bitwise_and(self, other))

    def __ior__(self, other: Operand) -> Tensor:
        return self._assigned(ops.bitwise_or(self, other))

    def __ixor__(self, other: Operand) -> Tensor:
        return self._assigned(ops.bitwise_xor(self, other))

    # --- derivatives ---

    def backward(
        self, gradient: Operand | None = None, *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add this tensor's gradient to `.grad` of every leaf it was computed from. See `autograd.backward`."""
        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    # --- axes in brackets or without: x.reshape(2, 3) and x.reshape((2, 3)) mean the same ---

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return ops.transpose(self)

    def reshape(self, *shape: Shape) -> Tensor:
        """x in another shape of the same size; one entry may be -1, to be worked out."""
        return ops.reshape(self, shape=_spread(shape))

    def view(self, *shape: Shape) -> Tensor:
        """PyTorch's name for `reshape`."""
        return ops.reshape(self, shape=_spread(shape))

    def transpose(self, *axes: Shape | None) -> Tensor:
        """x with its axes in the order `axes`, or reversed for None (NumPy's meaning)."""
        return ops.transpose(self, axes=None if not axes or axes[0] is None else _spread(axes))

    def permute(self, *dims: Shape) -> Tensor:
        """`transpose` under PyTorch's name: x with its axes in the order `dims`."""
        return ops.permute(self, dims=_spread(dims))

    def broadcast_to(self, *shape: Shape) -> Tensor:
        """x repeated to `shape`, by NumPy's broadcasting."""
        return ops.broadcast_to(self, shape=_spread(shape))

    def expand(self, *shape: Shape) -> Tensor:
        """PyTorch's name for `broadcast_to`; -1 keeps the size of an axis."""
        return ops.broadcast_to(self, shape=_kept(self.shape, _spread(shape)))

    def unsqueeze(self, axis: int) -> Tensor:
        """PyTorch's name for `expand_dims`."""
        return ops.expand_dims(self, axis)

    # --- methods under the names of the ops ---

    def abs(self) -> Tensor:
        """|x|, elementwise; slope 0 at 0."""
        return ops.abs(self)

    def add(self, other: Operand) -> Tensor:
        """a + b, elementwise with broadcasting."""
        return ops.add(self, other)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether all elements along the axes are true."""
        return ops.all(self, axis=axis, keepdims=keepdims)

    def amax(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`max` under NumPy's and PyTorch's other name."""
        return ops.amax(self, axis=axis, keepdims=keepdims)

    def amin(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`min` under NumPy's and PyTorch's other name."""
        return ops.amin(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether any element along the axes is true."""
        return ops.any(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the largest value along `axis` (in the flattened tensor for None); the first of equal ones."""
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the smallest value along `axis` (in the flattened tensor for None); the first of equal ones."""
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def argsort(self, axis: int = -1) -> Tensor:
        """The indices that put x in rising order along `axis`; equal values keep their order."""
        return ops.argsort(self, axis=axis)

    def ceil(self) -> Tensor:
        """The smallest integer not below x, elementwise; gradient zero."""
        return ops.ceil(self)

    def clip(self, low: Operand | None = None, high: Operand | None = None) -> Tensor:
        """x held between `low` and `high` (None: no bound), elementwise; gradient 1 there, also on the bounds."""
        return ops.clip(self, low=low, high=high)

    def clone(self) -> Tensor:
        """A copy of x in memory of its own, with x's gradient."""
        return ops.clone(self)

    def cos(self) -> Tensor:
        """The cosine of x in radians, elementwise."""
        return ops.cos(self)

    def cumprod(self, axis: int) -> Tensor:
        """Running products along `axis`. The gradient is right where factors are zero, or vanish together."""
        return ops.cumprod(self, axis=axis)

    def cumsum(self, axis: int) -> Tensor:
        """Running sums along `axis`, rounded once each: float16 and float32 are added in float64."""
        return ops.cumsum(self, axis=axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The diagonal over two axes, as the last axis of the result (NumPy's meaning)."""
        return ops.diagonal(self, offset=offset, axis1=axis1, axis2=axis2)

    def divide(self, other: Operand) -> Tensor:
        """a / b, elementwise with broadcasting; integers give floats."""
        return ops.divide(self, other)

    def dot(self, other: Operand) -> Tensor:
        """numpy.dot: the product of numbers, inner product of vectors, matrix product (last by second last axis)."""
        return ops.dot(self, other)

    def exp(self) -> Tensor:
        """e^x, elementwise."""
        return ops.exp(self)

    def expand_dims(self, axis: int | tuple[int, ...]) -> Tensor:
        """x with new axes of size 1 at the places `axis` of the result."""
        return ops.expand_dims(self, axis)

    def expm1(self) -> Tensor:
        """e^x - 1, elementwise; accurate near 0."""
        return ops.expm1(self)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """x with the axes start_dim to end_dim, both included, joined into one."""
        return ops.flatten(self, start_dim=start_dim, end_dim=end_dim)

    def flip(self, axis: Axis = None) -> Tensor:
        """x in reverse order along `axis` (an int, a tuple, or None for all)."""
        return ops.flip(self, axis=axis)

    def floor(self) -> Tensor:
        """The largest integer not above x, elementwise; gradient zero."""
        return ops.floor(self)

    def gather(self, dim: int, index: Indices) -> Tensor:
        """PyTorch's gather: out[i][j] = x[index[i][j]][j] for dim 0; `index` may be smaller along the other axes."""
        return ops.gather(self, dim, index)

    def log(self) -> Tensor:
        """The natural logarithm, elementwise."""
        return ops.log(self)

    def log10(self) -> Tensor:
        """The logarithm to base 10, elementwise."""
        return ops.log10(self)

    def log1p(self) -> Tensor:
        """log(1 + x), elementwise; accurate near 0."""
        return ops.log1p(self)

    def log2(self) -> Tensor:
        """The logarithm to base 2, elementwise."""
        return ops.log2(self)

    def log_softmax(self, axis: int = -1) -> Tensor:
        """log(softmax(x)) along `axis`, without overflow or underflow; of integers in float64."""
        return ops.log_softmax(self, axis=axis)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """log(sum(exp(x))) over `axis`, without overflow: the largest is taken out first. Of nothing it is -inf."""
        return ops.logsumexp(self, axis=axis, keepdims=keepdims)

    def matmul(self, other: Operand) -> Tensor:
        """a @ b: the last axis of a against the second last of b (a vector's only one); batch axes broadcast."""
        return ops.matmul(self, other)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest value over `axis`. Equal largest values share the gradient."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over `axis`; of integers and bools in float64. The mean of no values is NaN, as in NumPy."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest value over `axis`. Equal smallest values share the gradient."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def moveaxis(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
        """x with the axes `source` moved to the places `destination`; the others keep their order."""
        return ops.moveaxis(self, source, destination)

    def multiply(self, other: Operand) -> Tensor:
        """a * b, elementwise with broadcasting."""
        return ops.multiply(self, other)

    def negative(self) -> Tensor:
        """-x, elementwise."""
        return ops.negative(self)

    def norm(self, ord: float | str | None = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The vector norm over `axis` (None: all): ord 2 (None, "fro"), 1, inf, any p, 0 (how many are not 0)."""
        return ops.norm(self, ord=ord, axis=axis, keepdims=keepdims)

    def power(self, other: Operand) -> Tensor:
        """a ** b, elementwise with broadcasting."""
        return ops.power(self, other)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The product over `axis`. The gradient is right where factors are zero."""
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def ravel(self) -> Tensor:
        """x as one line, row by row."""
        return ops.ravel(self)

    def reciprocal(self) -> Tensor:
        """1 / x, elementwise."""
        return ops.reciprocal(self)

    def relu(self) -> Tensor:
        """max(x, 0), elementwise; slope 0 at 0."""
        return ops.relu(self)

    def repeat(self, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
        """Each element of x `repeats` times (an int, or one for each) along `axis`; of the flattened x for None."""
        return ops.repeat(self, repeats, axis=axis)

    def roll(self, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
        """x shifted along `axis`; elements that leave at one end enter at the other. None shifts the flattened x."""
        return ops.roll(self, shift=shift, axis=axis)

    def round(self, decimals: int = 0) -> Tensor:
        """x to so many decimals (negative: tens, hundreds ...), halves to even, elementwise; gradient zero."""
        return ops.round(self, decimals=decimals)

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x), elementwise."""
        return ops.rsqrt(self)

    def scatter_add(self, dim: int, index: Indices, src: Operand) -> Tensor:
        """PyTorch's scatter_add, as a function: a new x with x[index[i][j]][j] += src[i][j] for dim 0."""
        return ops.scatter_add(self, dim, index, src)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x), elementwise: to full relative precision also where it is tiny, without overflow."""
        return ops.sigmoid(self)

    def sign(self) -> Tensor:
        """-1, 0 or 1, elementwise; gradient zero."""
        return ops.sign(self)

    def sin(self) -> Tensor:
        """The sine of x in radians, elementwise."""
        return ops.sin(self)

    def softmax(self, axis: int = -1) -> Tensor:
        """exp(x) / sum(exp(x)) along `axis`; of integers in float64."""
        return ops.softmax(self, axis=axis)

    def sort(self, axis: int | None = -1) -> Tensor:
        """x in rising order along `axis` (of the flattened x for None)."""
        return ops.sort(self, axis=axis)

    def split(self, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
        """x cut along `axis` into a list: so many equal parts, or before each of the given indices (as numpy.split)."""
        return ops.split(self, indices_or_sections, axis=axis)

    def sqrt(self) -> Tensor:
        """The square root, elementwise."""
        return ops.sqrt(self)

    def square(self) -> Tensor:
        """x * x, elementwise."""
        return ops.square(self)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """x without its axes of size 1, or without those named in `axis`, which must have size 1."""
        return ops.squeeze(self, axis=axis)

    def std(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Tensor:
        """The standard deviation over `axis`: the square root of `var`. Its gradient where all are equal is zero."""
        return ops.std(self, axis=axis, correction=correction, keepdims=keepdims)

    def subtract(self, other: Operand) -> Tensor:
        """a - b, elementwise with broadcasting."""
        return ops.subtract(self, other)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis` (an int, a tuple, or None for all)."""
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """x with two axes exchanged."""
        return ops.swapaxes(self, axis1, axis2)

    def take(self, indices: Indices, axis: int | None = None) -> Tensor:
        """The elements (or slices along `axis`) at the integers in `indices`; of the flattened x for axis None."""
        return ops.take(self, indices, axis=axis)

    def tan(self) -> Tensor:
        """The tangent of x in radians, elementwise."""
        return ops.tan(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent, elementwise."""
        return ops.tanh(self)

    def tile(self, reps: Shape) -> Tensor:
        """x laid out side by side `reps` times along each axis."""
        return ops.tile(self, reps)

    def topk(self, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
        """The k largest (or smallest) values along `axis`, best first, and their indices, as (values, indices)."""
        return ops.topk(self, k, axis=axis, largest=largest)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The sum of the diagonal over two axes."""
        return ops.trace(self, offset=offset, axis1=axis1, axis2=axis2)

    def tril(self, k: int = 0) -> Tensor:
        """x with zeros above its k-th diagonal, over the last two axes."""
        return ops.tril(self, k=k)

    def triu(self, k: int = 0) -> Tensor:
        """x with zeros below its k-th diagonal, over the last two axes."""
        return ops.triu(self, k=k)

    def trunc(self) -> Tensor:
        """The integer part of x, elementwise; gradient zero."""
        return ops.trunc(self)

    def var(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Tensor:
        """The variance over `axis`: squared distances from the mean, over n - correction (0 as NumPy, 1 as PyTorch)."""
        return ops.var(self, axis=axis, correction=correction, keepdims=keepdims)


class _Missing:
    """What stands for an argument without a default that was not given; it may have been given under another name."""

    def __repr__(self) -> str:
        return "(missing)"


MISSING = _Missing()


def _taking_other_names(name: str, method: FunctionType) -> Any:
    """A method of options, with what it does not know handed on to the op, which knows the names of other libraries.

    The call is written anew, not wrapped: a wrapper would cost each `x.sum(axis=0)` a twentieth of its time.
    """
    parameters = [p.replace(annotation=p.empty) for p in signature(method).parameters.values()]
    passed = ", ".join(f"{p.name}={p.name}" for p in parameters[1:])
    shown = [p if p.default is not p.empty else p.replace(default=MISSING) for p in parameters[1:]]
    head = Signature([parameters[0], *shown, Parameter("others", Parameter.VAR_KEYWORD)])
    code = f"def {name}{head}: return ops.{name}(self, {passed}, **others)".replace(repr(MISSING), "MISSING")
    made: dict[str, Any] = {}
    exec(code, globals(), made)
    return update_wrapper(made[name], method)


for _name, _method in list(vars(TensorMethods).items()):
    if isinstance(_method, FunctionType):
        _method.__qualname__ = f"Tensor.{_name}"  # what Python's own errors call it
        _names = [p.name for p in signature(_method).parameters.values() if p.kind is not p.VAR_POSITIONAL][1:]
        if _names and not (_name.startswith("_") or _names == ["other"] or _name in ("backward", "unsqueeze")):
            setattr(TensorMethods, _name, _taking_other_names(_name, _method))


def _spread(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`f(2, 3)` and `f((2, 3))` mean the same."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


OTHER_NAMES = {"copy": "clone", "absolute": "abs", "linalg.norm": "norm", "append": "concatenate"}
"""NumPy's functions whose ops have other names; `around` and the like are NumPy's aliases already."""


def numpys_function(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The result of a function of NumPy's that has no op, on values that need no gradient; for others a TypeError."""
    prefix = "linalg." if function.__module__ == "numpy.linalg" else ""
    name = prefix + function.__name__
    ours = OTHER_NAMES.get(name, name)
    known = ours.removeprefix("linalg.") in (linalg if prefix and ours == name else ops).__all__ or ours in MADE
    values = (*args, *kwargs.values())
    parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else [value])]
    tracked = any(isinstance(part, TensorMethods) and part.requires_grad for part in parts)
    if known or (tracked and name not in OF_THE_SHAPE):
        instead = f"write mg.{ours}" if known else "use ops of minigrad"
        raise TypeError(
            f"numpy.{name} of a Tensor would leave no graph for gradients and lose them in silence: {instead}, or give "
            "it tensor.detach().numpy() if no gradient is meant to pass."
        )
    return function(*map(_values, args), **{name: _values(value) for name, value in kwargs.items()})


MADE = ("full_like", "ones_like", "zeros_like")
OF_THE_SHAPE = ("shape", "ndim", "size", "result_type", "may_share_memory", "shares_memory")


def _values(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_values, value))
    return value.detach().numpy() if isinstance(value, TensorMethods) else value


def _kept(shape: tuple[int, ...], wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    """A wanted shape in which -1 stands for the size that is there; axes are counted from the right."""
    there = (None,) * (len(wanted) - len(shape)) + shape
    return tuple(
        n if isinstance(m, int) and m == -1 and n is not None else m for n, m in zip(there, wanted, strict=False)
    )


def _comparable(value: Any) -> bool:
    return isinstance(value, (TensorMethods, *NUMBERS)) or is_array(value)
