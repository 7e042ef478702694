"""Learning rate schedules, under the name of PyTorch's module: `optim.lr_scheduler.StepLR` is `optim.StepLR`.

Read `base` first: a schedule is the rate as a function of how often `step()` was called. Then `closed_forms`, one
formula each; `cyclic`, rates that rise and fall; `plateau`, the one that watches a metric; and `composed`, schedules
made of others.
"""

from .base import LRScheduler
from .closed_forms import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    InverseTimeLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    RobbinsMonroLR,
    StepLR,
)
from .composed import BatchSizeScheduler, ChainedScheduler, SequentialLR
from .cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .plateau import ReduceLROnPlateau

__all__ = [
    "BatchSizeScheduler",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "InverseTimeLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "RobbinsMonroLR",
    "SequentialLR",
    "StepLR",
]


def __dir__() -> list[str]:
    return sorted(__all__)
