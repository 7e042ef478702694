"""What a step function works on besides its arguments: the modules, optimizers and tensors that it can see.

A captured step is bound to the arrays that they had when it was recorded, and to the modes of the modules. Python code
does not run when it is replayed, so both have to be looked at from outside.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from minigrad.autograd.calls import LIBRARIES
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array


class Surroundings:
    """The modules that a function sees, and their tensors.

    Attributes
    ----------
    modules : list of Module
        Including those inside of others.
    tensors : list of Tensor
        Parameters, buffers, what optimizers move, and other tensors that the function sees.
    optimizers : list of Optimizer
    """

    def __init__(self, seen: Iterator[Any]):
        modules: dict[int, Any] = {}
        tensors: dict[int, Tensor] = {}
        self.optimizers: list[Any] = []
        for value in seen:
            if _is_module(value):
                modules |= {id(module): module for module in value.modules()}
                tensors |= {id(tensor): tensor for tensor in (*value.parameters(), *value.buffers())}
            elif _is_optimizer(value):
                self.optimizers.append(value)
                tensors |= {id(tensor): tensor for group in value.param_groups for tensor in group["params"]}
            elif isinstance(value, Tensor):
                tensors[id(value)] = value
        self.modules = list(modules.values())
        self.tensors = list(tensors.values())

    def are(self, others: Surroundings) -> bool:
        """Whether these are the same modules and tensors as others."""
        ours, theirs = ([*map(id, one.modules), *map(id, one.tensors)] for one in (self, others))
        return ours == theirs

    def modes(self) -> tuple[Any, ...]:
        """Which modules train, which have hooks, and which tensors need gradients."""
        of_modules = [(module.training, bool(hooks_of(module))) for module in self.modules]
        return (*of_modules, *[tensor.requires_grad for tensor in self.tensors])

    def settle(self) -> None:
        """Have the optimizers' counts right on the host. They are read from the device, so not while recording."""
        for optimizer in self.optimizers:
            getattr(optimizer, "skipped_steps", None)

    def arrays(self) -> list[Array]:
        """The arrays of the tensors."""
        return [tensor.data for tensor in self.tensors]

    def gradients(self) -> list[Tensor | None]:
        """The gradients of the tensors."""
        return [tensor.grad for tensor in self.tensors]

    def restore(self, arrays: list[Array], gradients: list[Tensor | None]) -> None:
        """Give the tensors the arrays and gradients that they had."""
        for tensor, array, gradient in zip(self.tensors, arrays, gradients, strict=True):
            if tensor.data is not array:
                tensor.data = array
            if tensor.grad is not gradient:
                tensor.grad = gradient


def hooks_of(module: Any) -> Any:
    """What a module calls after its forward; a replay would not."""
    return getattr(module, "_forward_hooks", None)


def _is_module(value: Any) -> bool:
    """By what it has: nn and optim are built on this package's neighbours, so that it does not import them."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in ("modules", "parameters", "buffers"))


def _is_optimizer(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "param_groups") and hasattr(value, "step")


def seen_by(function: Callable[..., Any]) -> Iterator[Any]:
    """The values that a function names: in its closure, in its module, on the object whose method it is.

    Functions of the user that it names are looked into as well; of lists, tuples and dicts, the elements.
    """
    waiting: list[Any] = [function]
    known: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in known:
            continue
        known.add(id(value))
        yield value
        if isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, types.MethodType):
            waiting += [value.__self__, value.__func__, *getattr(value.__self__, "__dict__", {}).values()]
        elif isinstance(value, types.FunctionType) and value.__module__.partition(".")[0] not in LIBRARIES:
            waiting += _named_in(value)
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()


def _named_in(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]
    yield from function.__defaults__ or ()
