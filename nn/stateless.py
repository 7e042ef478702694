"""functional_call: a model as a function of its parameters, for transforms that differentiate functions.

A Module holds its parameters, and `grad`, `vmap` and `jacobian` differentiate by arguments. Here the tensors given take
the places of the module's own for the time of one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import minigrad as mg
from minigrad import Tensor

from .module import Module


def functional_call(
    module: Module, tensors: Mapping[str, Tensor], args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """`module(*args, **kwargs)` with the given tensors in place of its parameters and buffers (as torch.func).

    Parameters
    ----------
    tensors : by name, as `named_parameters`, `named_buffers` or `state_dict` give them; those left out stay the
        module's own. What the module has under several names may come under any of them.
    args : a tuple of positional arguments, or a single one that is not a tuple

    Gradients for each example, with the parameters detached from the module's own graph:

        parameters = {name: p.detach() for name, p in model.named_parameters()}
        loss = lambda ps, x, y: cross_entropy(functional_call(model, ps, x[None]), y[None])
        vmap(grad(loss), in_axes=(None, 0, 0))(parameters, images, labels)

    Raises KeyError for a name that the module does not have, ShapeError for a tensor of another shape, ValueError for
    two tensors for one that is shared. A module may be called in this way by one thread at a time.
    """
    args = args if isinstance(args, tuple) else (args,)
    places = _places(module, tensors)
    with mg.transforms.surrounded_by(lambda: _in_place(places)):
        return module(*args, **(kwargs or {}))


def _places(module: Module, tensors: Mapping[str, Tensor]) -> list[tuple[Module, dict, str, Tensor]]:
    """(module, register, name, tensor) for everything that is to be replaced; a shared one stands in several places."""
    own = {prefix + name: value for prefix, part in _parts(module) for _, name, value in _tensors_of(part)}
    unknown = tensors.keys() - own.keys()
    if unknown:
        raise KeyError(f"functional_call: {type(module).__name__} has no {sorted(unknown)}; it has {sorted(own)}.")
    given: dict[int, Tensor] = {}
    for name, value in tensors.items():
        tensor = mg.as_tensor(value)
        if tensor.shape != own[name].shape:
            raise mg.ShapeError(
                f"functional_call: {name!r} of {type(module).__name__} has shape {own[name].shape}, "
                f"given was {tensor.shape}."
            )
        if given.setdefault(id(own[name]), tensor).data is not tensor.data:
            raise ValueError(f"functional_call: {name!r} is shared, and was given other values under another name.")
    return [
        (part, register, name, given[id(value)])
        for part in module.modules()
        for register, name, value in _tensors_of(part)
        if id(value) in given
    ]


@contextmanager
def _in_place(places: list[tuple[Module, dict, str, Tensor]]) -> Iterator[None]:
    before = [register[name] for _, register, name, _ in places]
    for part, register, name, tensor in places:
        register[name] = part.__dict__[name] = tensor
    try:
        yield
    finally:
        for (part, register, name, _), value in zip(places, before, strict=True):
            register[name] = part.__dict__[name] = value


def _tensors_of(part: Module) -> list[tuple[dict, str, Tensor]]:
    """(register, name, tensor) of the parameters and buffers that a module holds itself."""
    registers: tuple[dict, dict] = (part._parameters, part._buffers)
    return [(register, *entry) for register in registers for entry in register.items() if entry[1] is not None]


def _parts(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """This module and all below it with the beginnings of their tensors' names, a shared one under each of its."""
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _parts(child, f"{prefix}{name}.")
