"""minigrad: reverse-mode autodiff built from scratch on NumPy and CuPy.

import minigrad as mg

x = mg.tensor([1.0, 2.0], requires_grad=True)
(x * x).sum().backward()
x.grad                      # tensor([2., 4.], dtype=float32, device='cpu')
"""

from numpy import float16, float32, float64, int8, int16, int32, int64, uint8

from minigrad.autograd import Tensor, as_tensor, enable_grad, is_grad_enabled, no_grad, push, set_grad_enabled
from minigrad import autograd, ops
from minigrad.ops import *  # the public ops are minigrad's public functions
from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.node import HookHandle
from minigrad.autograd.primitive import primitive
from minigrad.backend import DeviceError, cuda_is_available
from minigrad.checks.anomaly import AnomalyError, detect_anomaly
from minigrad.checks.finite_differences import GradcheckError, gradcheck, gradgradcheck
from minigrad.creation import (
    arange,
    dropout,
    dropout_mask,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from minigrad.generators import manual_seed
from minigrad.serialization import load, save
from minigrad.transforms import (
    checkpoint,
    ggn_vp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linearize,
    value_and_grad,
    vjp,
    vmap,
)
from minigrad import checks, cuda, data, graph, linalg, nn, optim, serialization, training, transforms
from minigrad import amp  # builds on optim
from minigrad.graph import explain

__version__ = "0.1.0"

__all__ = [
    # what a tensor is, and what happens to it
    "Tensor",
    "as_tensor",
    "tensor",
    "from_numpy",
    "primitive",
    "push",
    "HookHandle",
    "no_grad",
    "enable_grad",
    "set_grad_enabled",
    "is_grad_enabled",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    # new tensors and random numbers
    "arange",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
    "dropout",
    "dropout_mask",
    "manual_seed",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    # functions of functions
    "checkpoint",
    "ggn_vp",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "value_and_grad",
    "vjp",
    "vmap",
    # checks and errors
    "gradcheck",
    "gradgradcheck",
    "GradcheckError",
    "detect_anomaly",
    "AnomalyError",
    "GradientError",
    "ShapeError",
    "DeviceError",
    # to look at, to keep, to move
    "explain",
    "load",
    "save",
    "cuda_is_available",
    # packages
    "amp",
    "autograd",
    "checks",
    "cuda",
    "data",
    "graph",
    "linalg",
    "nn",
    "ops",
    "optim",
    "serialization",
    "training",
    "transforms",
]
__all__ += ops.__all__


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
