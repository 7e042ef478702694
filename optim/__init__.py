"""Optimizers and learning rate schedules, under PyTorch's names and with its defaults.

>>> optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
>>> for images, labels in loader:
...     loss = cross_entropy(model(images), labels)
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()

Each optimizer has a file of its own: begin with `sgd` and `adam`, then `optimizer`, where a step is walked through the
parameters, then `_update`, which turns a formula into passes over memory. Beside them: `lr_scheduler`, `gradients`
(what is done to gradients before a step), `swa_utils` (averages of weights), and the second-order methods: `minimizers`
(`minimize`), `fitting` (`least_squares`, `curve_fit`), what the two share in `solve`, and `closures`, which makes
optimizers of models from both.
"""

if __name__ != "minigrad.optim":  # a second copy, whose classes would not be those of minigrad.optim
    raise ImportError(
        f"{__name__!r} is the folder of the package minigrad.optim; "
        "import it by that name: `from minigrad import optim`, or `import minigrad.optim`."
    )

from . import lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
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
from .heavy_ball import HeavyBall
from .lion import Lion
from .lookahead import Lookahead
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
from .muon import Muon
from .nadam import NAdam
from .nesterov import NAGC, NAGSC, Nesterov
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
from .radam import RAdam
from .rmsprop import RMSprop
from .sgd import SGD
from .solve.result import OptimizeResult
from .swa_utils import AveragedModel, update_bn

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


def __dir__() -> list[str]:
    return sorted(__all__)
