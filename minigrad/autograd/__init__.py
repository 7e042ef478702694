"""The engine: tensors, the graph that they leave behind, and derivatives taken along it.

Read in this order: `tensor` (what a tensor is), `node` (what is remembered of an op), `primitive` (what an op is),
`reverse` (backward), `forward` (forward mode). Beside them: `saved` (what a node keeps for its rules), `arguments`
(what a derivative is handed), `levels` (the border of `vmap`), `calls`, `definitions` and `errors` (mistakes, said in
words).
"""

from minigrad.autograd.calls import explain_constructor, explained, layer_failure
from minigrad.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.autograd.reverse import backward, grad
from minigrad.autograd.forward import push

__all__ = [
    "Tensor",
    "as_tensor",
    "backward",
    "enable_grad",
    "explain_constructor",
    "explained",
    "grad",
    "is_grad_enabled",
    "layer_failure",
    "no_grad",
    "push",
    "set_grad_enabled",
]


def __dir__() -> list[str]:
    return sorted(__all__)
