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
from minigrad.autograd.errors import TAKEN_OUT_IN_A_RULE, GradientError
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.methods import TensorMethods
from minigrad.autograd.node import HookHandle, Node, leaf, note_write, viewed
from minigrad.backend import Array, BatchedArray, as_array, check_dtype, device_of, is_array, to_device

_hook_number = count()


class Tensor(TensorMethods):
    """An n-dimensional array that records what is computed from it.

    Make one with `minigrad.tensor(data, requires_grad=True)`; compute with operators and ops; call `backward()` on a
    single number, and find the gradients in `.grad` of the tensors you made.

    Tensors are not changed in place: `x[i] = v` is refused, and `x += y` makes a new tensor.
    """

    __slots__ = ("__weakref__", "_grad", "data", "node")

    data: Array
    node: Node  # None where no gradient can reach, of which mypy is not told
    _grad: Tensor | None
    __array_ufunc__ = None  # so that `array * tensor` comes to us

    def __init__(self, data: Array, node: Any = None):
        self.data = data if node is not None or type(data) is np.ndarray or is_array(data) else as_array(data)
        self.node = node

    # --- what it is ---

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def device(self) -> str:
        """'cpu', or 'cuda:0' and so on."""
        return device_of(self.data)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor: it holds a single number and has no first axis.")
        return self.shape[0]

    def __repr__(self) -> str:
        if isinstance(self.data, BatchedArray):  # inside vmap there is not one value to show
            values = repr(self.data)
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
        array = np.asarray(to_device(self.data, "cpu"))
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
        return np.array(self.data, dtype=dtype, copy=copy)

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
        number: float | int | bool = self.data.item()
        return number

    def _may_be_taken_out(self) -> None:
        if grad_mode.in_rule and self.node is not None:
            raise GradientError(TAKEN_OUT_IN_A_RULE)

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
        return bool(self.data.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # --- gradients ---

    @property
    def requires_grad(self) -> bool:
        """Whether gradients can reach this tensor."""
        return self.node is not None

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
            self.node = leaf(self.data)
            self.node.grad_owner, self._grad = weakref.ref(self), None
        elif not requires_grad:
            self.node = self._grad = None  # type: ignore[assignment]
        return self

    def detach(self) -> Tensor:
        """The same values, cut off from the graph; the two share memory."""
        return Tensor(self.data)

    def retain_grad(self) -> Tensor:
        """Store the gradient of this computed tensor in `.grad`, as that of a leaf is; returns the tensor itself."""
        if self.node is None:
            raise ValueError("retain_grad(): this tensor takes no gradient; call requires_grad_() first.")
        if self.node.grad_owner is None:
            self.node.grad_owner = weakref.ref(self)
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call `hook(gradient)` whenever this tensor's gradient is complete; what it returns, if anything, replaces it.

        Returns a handle whose `remove()` takes the hook off again.
        """
        if self.node is None:
            raise ValueError("register_hook(): this tensor takes no gradient; call requires_grad_() first.")
        if not callable(hook):
            raise TypeError(f"register_hook(): expected a function of the gradient, got {type(hook).__name__}.")
        node, key = self.node, next(_hook_number)
        node.hooks = (node.hooks or {}) | {key: hook}

        def remove() -> None:
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
        value = as_tensor(value, device=self.device).data
        if value.shape != self.shape:
            raise ValueError(f"copy_(): expected shape {self.shape}, got {value.shape}.")
        if self.ndim and self.node is not None:
            self.data[...] = value
            self.mark_dirty()
        else:  # a graph may have saved the old array, and writes to this tensor are not tracked
            self.data = value.astype(self.dtype)
        return self

    def mark_dirty(self) -> None:
        """Say that `data` was written to in place. Code that writes to `data` directly has to call this.

        Backward through a graph that saved the old values then raises. Writes to tensors without gradients are not
        tracked. (PyTorch's `mark_dirty` of a custom function says the same of its inputs.)
        """
        if self.node is not None:
            viewed(self.node).memory = note_write(self.data)

    touch = mark_dirty  # the name of minigrad 0.1

    def replace_data(self, array: Array) -> None:
        """Give a leaf another array, of another device or dtype; its gradient is dropped."""
        self.data = array
        if self.node is not None:
            name, self.node = self.node.name, None  # type: ignore[assignment]
            self.requires_grad_().name = name

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "tensors are not changed in place: the graph of how they were computed would be wrong. "
            "Use y = minigrad.index_update(x, index, value) for a new tensor, or x.copy_(value) for a whole leaf."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise ValueError(
                "only leaves can be copied with the copy module; use clone() or detach() on a computed tensor."
            )
        copied = object.__new__(type(self))
        Tensor.__init__(copied, self.data.copy())
        copied.requires_grad_(self.requires_grad)
        copied.name = self.name
        return copied


# --- into tensors ---


def array_of(value: Any) -> Any:
    """The array in a Tensor; an array as it is. For rules, which run on either."""
    return value.data if isinstance(value, Tensor) else value


def as_tensor(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """`data` as a Tensor, the same one if it is one already; arrays are not copied."""
    if isinstance(data, Tensor):
        tensor: Tensor = data if dtype is None else data.astype(dtype)
        return tensor if device is None else tensor.to(device)
    return Tensor(as_array(data, dtype, device))


methods.bind(as_tensor=as_tensor)
