"""Tensor: an array and, where a gradient is wanted, the node of the graph that it came from.

After this file you know what a Tensor is, two fields: `data` and `node`; and what can be done with it beside computing:
take the values out, ask for a gradient, overwrite a leaf. Its operators and methods are ops, see `methods.py`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from minigrad.autograd import methods
from minigrad.autograd.errors import TAKEN_OUT_IN_A_RULE, GradientError, ShapeError
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.methods import TensorMethods
from minigrad.autograd.node import HookHandle, Node, leaf, note_write, viewed
from minigrad.backend import HELD, Array, BatchedArray, as_array, check_dtype, device_of, is_array, item, to_device
from minigrad.locks import lock

_hook_number, _hooking = count(), lock()

NUMPY_OPERATORS = frozenset(
    "add subtract multiply divide floor_divide remainder power matmul bitwise_and bitwise_or bitwise_xor "
    "equal not_equal less less_equal greater greater_equal".split()
)
"""What NumPy calls for an operator with an array on its left; the ops have the same names."""


class _AskedByNumPy:
    """`Tensor.__array_ufunc__` (NEP 13): a function to NumPy, which asks the class, None to CuPy, which does not.

    None makes `cupy_array * tensor` come to the Tensor; the function also answers `numpy_array += tensor`.
    """

    def __get__(self, tensor: Any, kind: type) -> Any:
        return _called_by_numpy if tensor is None else None


class Tensor(TensorMethods):
    """An n-dimensional array that records what is computed from it.

    Make one with `minigrad.tensor(data, requires_grad=True)`; compute with operators and ops; call `backward()` on a
    single number, and find the gradients in `.grad` of the tensors you made.

    Tensors are values and are not changed in place: `x[i] = v` is refused, and `x += y` gives the name x a new tensor,
    so that another name of the old one keeps its values. A leaf that needs gradients is a place as well, which an
    optimizer or `copy_` writes to: `x += y` writes to it under `no_grad`, and is refused where ops are recorded.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "node")

    _data: Array
    node: Node  # None where no gradient can reach, of which mypy is not told
    _grad: Tensor | None
    __array_ufunc__ = _AskedByNumPy()

    def __init__(self, data: Array, node: Any = None):
        held = node is not None or (data.dtype.char in HELD if type(data) is np.ndarray else is_array(data))
        self._data = data if held else as_array(data)
        self.node = node

    # --- what it is ---

    @property
    def data(self) -> Array:
        """The array. To write into it is to change the tensor; say so with `mark_dirty()`, or use `copy_`.

        It may be given another array, or another Tensor's, of the same shape, dtype and device. Assigning, as in
        `p.data -= 0.1 * p.grad`, is noted as a write; writing to a part, as in `p.data[0] = 1`, cannot be seen, save by
        `detect_anomaly`.
        """
        return self._data

    @data.setter
    def data(self, array: Tensor | Array) -> None:
        array = array_of(array)
        if not is_array(array):
            raise TypeError(
                f"data: expected an array or a Tensor, got {type(array).__name__}; copy_() takes numbers too."
            )
        given, own = ((x.dtype, x.shape, device_of(x)) for x in (array, self._data))
        if given != own:
            raise ShapeError(
                f"data: a {given[0]} array of shape {given[1]} on {given[2]} for a tensor of {own[0]}, shape {own[1]} "
                f"on {own[2]}. copy_() converts values; to() makes another tensor; Module.to() converts a model."
            )
        self._data = array
        self.mark_dirty()

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def device(self) -> str:
        """'cpu', or 'cuda:0' and so on."""
        return device_of(self._data)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor: it holds a single number and has no first axis.")
        return self.shape[0]

    def __repr__(self) -> str:
        if isinstance(self._data, BatchedArray):  # inside vmap there is not one value to show
            values = repr(self._data)
        else:
            values = np.array2string(self.detach().numpy(), separator=", ", prefix="tensor(", threshold=100)
        facts = [values, f"dtype={self.dtype}", f"device={self.device!r}"]
        if self.node is not None:
            facts.append("requires_grad=True" if self.is_leaf else f"grad_fn=<{self.grad_fn.op.name}>")
        return f"tensor({', '.join(facts)})"

    # --- out of the tensor ---

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array on the host; shares memory where it can, read-only if gradients are recorded."""
        self._may_be_taken_out()
        array = np.asarray(to_device(self._data, "cpu"))
        if self.node is not None:
            array = array.view()
            array.flags.writeable = False
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.node is not None:
            raise TypeError(
                "turning a tensor that needs gradients into an array would lose them in silence; "
                "use tensor.detach().numpy() if that is meant, or a minigrad op instead of a NumPy function."
            )
        if self.device != "cpu":
            raise TypeError(
                f'this tensor lies on {self.device}; bring it over with tensor.to("cpu") or tensor.numpy().'
            )
        return np.array(self._data, dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Refuse NumPy's functions (NEP 18), which leave no graph; those we lack take tensors without gradients."""
        return methods.numpys_function(function, args, kwargs)

    def item(self) -> float | int | bool:
        """The only value, as a Python number."""
        if self.size != 1:
            raise ValueError(
                f"item(): a tensor of shape {self.shape} holds {self.size} values; only one can be a number."
            )
        self._may_be_taken_out()
        number: float | int | bool = item(self._data)
        return number

    def _may_be_taken_out(self) -> None:
        if self.node is None:
            return
        if grad_mode.in_rule:
            raise GradientError(TAKEN_OUT_IN_A_RULE)
        grad_mode.taken_out += 1

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only a tensor of integers can be an index; this one holds {self.dtype}.")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use (x != 0).any() or .all().")
        return bool(self._data.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # --- gradients ---

    @property
    def requires_grad(self) -> bool:
        """Whether gradients can reach this tensor."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Whether it was made rather than computed."""
        return self.node is None or self.node.plan is None

    @property
    def grad_fn(self) -> Any:
        """The node of the op that computed it; None for a leaf."""
        return None if self.is_leaf else self.node

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward()`, or None.

        Only leaves, and tensors on which `retain_grad()` was called, store it.
        """
        return None if self.node is None else getattr(self, "_grad", None)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is None and self.node is None:
            return
        if self.node is None:
            raise ValueError("this tensor takes no gradient; call requires_grad_() first.")
        fits = isinstance(value, Tensor) and value.shape == self.shape and value.dtype == self.dtype
        if value is not None and not fits:
            given = f"{value.dtype} of shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"a gradient must be a {self.dtype} Tensor of shape {self.shape}, got {given}.")
        self._grad = value

    @property
    def name(self) -> str | None:
        """A name for pictures and messages. It is stored on the node, so only tensors that need gradients have one."""
        return None if self.node is None else self.node.name

    @name.setter
    def name(self, value: str | None) -> None:
        if not (value is None or isinstance(value, str)):
            raise TypeError(f"name: expected a string or None, got {value!r}.")
        if self.node is not None:
            self.node.name = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether this leaf takes gradients; returns the tensor itself."""
        if not self.is_leaf:
            if requires_grad:
                return self
            raise ValueError(
                "this tensor was computed, so its gradient is part of the graph; use detach() to cut it off."
            )
        if requires_grad and self.node is None:
            if self.dtype.kind != "f":
                raise TypeError(
                    f"only floating-point tensors have gradients, this one is {self.dtype}; use .astype(float)."
                )
            self.node = leaf(self._data)
            self.node.grad_owner, self._grad = weakref.ref(self), None
        elif not requires_grad:
            self.node = self._grad = None  # type: ignore[assignment]
        return self

    def detach(self) -> Tensor:
        """The same values, cut off from the graph.

        The two share memory, and a write to this leaf is seen in both. `copy_` to the result gives that one an array of
        its own instead, see there.
        """
        return Tensor(self._data)

    def retain_grad(self) -> Tensor:
        """Store the gradient of this computed tensor in `.grad`, as that of a leaf is; returns the tensor itself."""
        if self.node is None:
            raise ValueError("retain_grad(): this tensor takes no gradient; call requires_grad_() first.")
        if self.node.grad_owner is None:
            self.node.grad_owner = weakref.ref(self)
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call `hook(gradient)` whenever this tensor's gradient is complete; what it returns, if anything, replaces it.

        Returns a handle whose `remove()` takes the hook off again. Copies and pickles of the tensor have no hooks.
        """
        if self.node is None:
            raise ValueError("register_hook(): this tensor takes no gradient; call requires_grad_() first.")
        if not callable(hook):
            raise TypeError(f"register_hook(): expected a function of the gradient, got {type(hook).__name__}.")
        node, key = self.node, next(_hook_number)
        with _hooking:
            node.hooks = (node.hooks or {}) | {key: hook}

        def remove() -> None:
            with _hooking:
                node.hooks = {k: h for k, h in (node.hooks or {}).items() if k != key} or None

        return HookHandle(remove)

    # --- moving, converting, overwriting ---

    def to(self, target: Any) -> Tensor:
        """To a device ('cpu', 'cuda', 'cuda:1') or dtype; the tensor itself where nothing changes. Differentiable."""
        if not isinstance(target, str) or target in np.sctypeDict:
            return self.astype(target)
        if self.device == target or (target == "cuda" and self.device.startswith("cuda")):
            return self
        moved: Tensor = methods.ops.to_device(self, device=target, origin=self.device)
        return moved

    def cpu(self) -> Tensor:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """`to("cuda")`."""
        return self.to("cuda")

    def astype(self, dtype: Any) -> Tensor:
        """The values as another dtype. Differentiable between floating-point dtypes."""
        dtype = check_dtype(dtype)
        return self if dtype == self.dtype else methods.ops.astype(self, dtype=dtype)

    def copy_(self, value: Any) -> Tensor:
        """Overwrite a leaf's values in place, as optimizers do; returns the tensor itself.

        Backward through a graph that saved the old values then raises. A tensor that takes no gradient is given a new
        array instead, so that a graph which saved the old array is not changed.
        """
        if not self.is_leaf:
            raise ValueError("copy_(): only leaves can be overwritten; this tensor was computed.")
        dtype = None if is_array(array_of(value)) else self.dtype  # numbers: not by way of float32
        value = as_tensor(value, dtype, self.device).data
        if value.shape != self.shape:
            raise ValueError(f"copy_(): expected shape {self.shape}, got {value.shape}.")
        if self.ndim and self.node is not None:
            self._data[...] = value
            self.mark_dirty()
        else:  # a graph may have saved the old array, and writes to this tensor are not tracked
            self._data = value.astype(self.dtype)
        return self

    def mark_dirty(self) -> None:
        """Say that `data` was written to in place. Code that writes to `data` directly has to call this.

        Backward through a graph that saved the old values then raises. Writes to tensors without gradients are not
        tracked. (PyTorch's `mark_dirty` of a custom function says the same of its inputs.)
        """
        if self.node is not None:
            viewed(self.node).memory = note_write(self._data)

    touch = mark_dirty  # the name of minigrad 0.1

    def replace_data(self, array: Array) -> None:
        """Give a leaf another array, of another device or dtype; its gradient is dropped."""
        self._data = array
        if self.node is not None:
            name, self.node = self.node.name, None  # type: ignore[assignment]
            self.requires_grad_().name = name

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "tensors are not changed in place: the graph of how they were computed would be wrong. "
            "Use y = minigrad.index_update(x, index, value) for a new tensor, or x.copy_(value) for a whole leaf."
        )

    def _assigned(self, result: Tensor) -> Tensor:
        """What `x += y` leaves under the name x, given x + y."""
        if self.node is None or self.node.plan is not None or self.node.grad_owner is None:
            return result  # a value. So are the points at which `minigrad.grad(f)` calls f: they store no gradient
        if grad_mode.enabled:
            raise GradientError(
                "an operator that assigns, such as += or *=, on a leaf that needs gradients: it would give the name "
                "another tensor and leave the leaf as it was. To change the leaf, write it under `with "
                "minigrad.no_grad():`, or x.copy_(value); for a new tensor, y = x + 1."
            )
        return self.copy_(result)

    # --- copies ---

    def __copy__(self) -> Tensor:
        return _another(*self._parts()) if self.is_leaf else Tensor(self._data, self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise ValueError(
                "only leaves can be copied with the copy module; use clone() or detach() on a computed tensor."
            )
        kind, data, requires_grad, grad, name = self._parts()
        return _another(kind, data.copy(), requires_grad, None if grad is None else Tensor(grad.data.copy()), name)

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise ValueError(
                "a computed tensor cannot be pickled, since its graph is that of this process; pickle x.detach(), or "
                "the leaves it was computed from."
            )
        return _another, self._parts()

    def _parts(self) -> tuple[type[Tensor], Array, bool, Tensor | None, str | None]:
        """What a leaf is made of. Its node is not among it: nodes are numbered by the process that made them."""
        grad = None if self.grad is None else self.grad.detach()
        return type(self), self._data, self.requires_grad, grad, self.name


def _another(kind: type[Tensor], data: Array, requires_grad: bool, grad: Tensor | None, name: str | None) -> Tensor:
    """A leaf of its parts, whatever the constructor of its class takes."""
    made = object.__new__(kind)
    Tensor.__init__(made, data)
    made.requires_grad_(requires_grad)
    made.grad, made.name = grad, name
    return made


# --- into tensors ---


def array_of(value: Any) -> Any:
    """The array in a Tensor; an array as it is. For rules, which run on either."""
    return value.data if isinstance(value, Tensor) else value


def as_tensor(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """`data` as a Tensor, the same one if it is one already; arrays are not copied (see `from_numpy`)."""
    if isinstance(data, Tensor):
        tensor: Tensor = data if dtype is None else data.astype(dtype)
        return tensor if device is None else tensor.to(device)
    return Tensor(as_array(data, dtype, device))


# --- Tensors beside arrays of NumPy ---


def _called_by_numpy(tensor: Tensor, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
    """`array * tensor` is an op, `array += tensor` takes the values, and NumPy's own functions know no gradients."""
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    if out is not None and not any(isinstance(place, Tensor) for place in out):
        if grad_mode.enabled and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            raise GradientError(
                "array += tensor, or out=array: the array would take the values and lose the gradients. Write array = "
                "array + tensor for a new Tensor, or array += tensor.detach() if no gradient is meant to pass."
            )
        return getattr(ufunc, method)(*(x.numpy() if isinstance(x, Tensor) else x for x in inputs), out=out, **options)
    if name in NUMPY_OPERATORS and out is None and not options:
        return getattr(methods.ops, name)(*inputs)
    instead = f"write mg.{name}" if hasattr(methods.ops, name) else "use minigrad's ops"
    raise TypeError(
        f"numpy.{name} of a Tensor would leave no graph: {instead}, or give it tensor.detach().numpy() if no gradient "
        "is meant to pass."
    )


methods.bind(as_tensor=as_tensor)
