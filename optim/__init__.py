"""Optimizers and learning rate schedules, under PyTorch's names and with its defaults.

>>> optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
>>> for images, labels in loader:
...     loss = cross_entropy(model(images), labels)
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()

Everything public is named here.
"""

from . import lr_scheduler, swa_utils
from .adagrad import Adadelta, Adagrad
from .adam import Adam, AdamW
from .adam_kin import Adamax, NAdam, RAdam
from .closures.newton_optimizer import Newton
from .closures.nonlinear_least_squares import GaussNewton, LevenbergMarquardt
from .closures.quasi_newton import BFGS, LBFGS
from .fitting.curve_fit import curve_fit
from .fitting.least_squares import least_squares
from .gradients import (
    add_gradient_noise_,
    centralize_gradients_,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    gradient_noise_std,
)
from .lion import Lion
from .lr_scheduler import (
    BatchSizeScheduler,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    InverseTimeLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    RobbinsMonroLR,
    SequentialLR,
    StepLR,
)
from .minimizers.hessian_free import Composite
from .minimizers.minimize import minimize
from .momentum import NAGC, NAGSC, HeavyBall, Nesterov
from .muon import Muon
from .optimizer import Optimizer
from .proximal import (
    DecoupledDecay,
    MaxNorm,
    ProximalElasticNet,
    ProximalL1,
    Regularized,
    StepRegularizer,
    no_decay_groups,
)
from .rmsprop import RMSprop
from .sgd import SGD
from .solve.result import OptimizeResult
from .swa_utils import AveragedModel, update_bn
from .wrappers import Lookahead

__all__ = [
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AveragedModel",
    "BFGS",
    "BatchSizeScheduler",
    "ChainedScheduler",
    "Composite",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "GaussNewton",
    "HeavyBall",
    "InverseTimeLR",
    "LBFGS",
    "LRScheduler",
    "LambdaLR",
    "LevenbergMarquardt",
    "LinearLR",
    "Lion",
    "Lookahead",
    "MultiStepLR",
    "MultiplicativeLR",
    "Muon",
    "NAGC",
    "NAGSC",
    "NAdam",
    "Newton",
    "Nesterov",
    "OneCycleLR",
    "OptimizeResult",
    "Optimizer",
    "PolynomialLR",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "RobbinsMonroLR",
    "SGD",
    "curve_fit",
    "least_squares",
    "minimize",
    "SequentialLR",
    "StepLR",
    "lr_scheduler",
    "swa_utils",
    "update_bn",
    "add_gradient_noise_",
    "centralize_gradients_",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "gradient_noise_std",
    "DecoupledDecay",
    "MaxNorm",
    "ProximalElasticNet",
    "ProximalL1",
    "Regularized",
    "StepRegularizer",
    "no_decay_groups",
]
