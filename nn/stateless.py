"""functional_call: a model as a function of its parameters, for transforms that differentiate functions.

After this file you know how a Module, which holds its parameters, becomes something that `grad`, `vmap` and `jacobian`
understand: the tensors given take the places of the model's own for the time of one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minigrad import Tensor
from minigrad.nn.module import Module


def functional_call(
    module: Module, tensors: Mapping[str, Tensor], args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """`module(*args, **kwargs)` with the given tensors in place of its parameters and buffers (as torch.func).

    Parameters
    ----------
    tensors : by name, as `named_parameters` and `named_buffers` give them; those left out stay the module's own
    args : a tuple of positional arguments, or a single one that is no tuple

    Gradients for each example, with the parameters cut off from the module's own record:

        parameters = {name: p.detach() for name, p in model.named_parameters()}
        loss = lambda ps, x, y: cross_entropy(functional_call(model, ps, x[None]), y[None])
        vmap(grad(loss), in_axes=(None, 0, 0))(parameters, images, labels)

    Raises KeyError for a name that the module does not have. Not for several threads at once on one module.
    """
    args = args if isinstance(args, tuple) else (args,)
    with _in_place(module, tensors):
        return module(*args, **(kwargs or {}))


@contextmanager
def _in_place(module: Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    unknown = tensors.keys() - own.keys()
    if unknown:
        raise KeyError(f"functional_call: {type(module).__name__} has no {sorted(unknown)}; it has {sorted(own)}.")
    given = {id(own[name]): tensor for name, tensor in tensors.items()}  # a shared one stands in several places
    replaced = []
    for part in module.modules():
        for name, value in (*part._parameters.items(), *part._buffers.items()):
            if id(value) in given:
                replaced.append((part, name, value))
                part.__dict__[name] = given[id(value)]
    try:
        yield
    finally:
        for part, name, value in replaced:
            part.__dict__[name] = value
