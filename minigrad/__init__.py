"""minigrad: reverse-mode autodiff built from scratch on NumPy and CuPy.

import minigrad as mg

x = mg.tensor([1.0, 2.0], requires_grad=True)
(x * x).sum().backward()
x.grad                      # tensor([2., 4.], dtype=float32, device='cpu')
"""

from numpy import float16, float32, float64, int8, int16, int32, int64, uint8

from minigrad.autograd import Tensor, as_tensor
from minigrad import autograd, ops
from minigrad.ops import *  # the public ops are minigrad's public functions
from minigrad.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.backend import DeviceError, cuda_is_available
from minigrad.creation import (
    arange,
    dropout,
    dropout_mask,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    manual_seed,
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
from minigrad.checks.anomaly import AnomalyError, detect_anomaly
from minigrad.checks.finite_differences import GradcheckError, gradcheck, gradgradcheck
from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.forward import push
from minigrad.autograd.primitive import primitive
from minigrad.autograd.node import HookHandle
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
from minigrad import graph, linalg, nn, optim, transforms
from minigrad.graph import explain

__version__ = "0.1.0"
