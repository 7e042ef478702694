"""Layers, losses, initialisers and models: minigrad's `torch.nn`. Every public name stands here."""

if __name__ != "minigrad.nn":  # a second copy, whose classes would not be those of minigrad.nn
    raise ImportError(f"{__name__!r} is the folder of the package minigrad.nn; write `from minigrad import nn`.")

from . import functional, init
from .activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .container import ModuleList, Sequential
from .convolution import Conv1d, Conv2d, ConvTranspose2d
from .dropout import (
    DropConnect,
    Dropout,
    Dropout1d,
    Dropout2d,
    GaussianNoise,
    ScaleAtTestDropout,
    StochasticDepth,
)
from .linear import Embedding, Flatten, Identity, Linear
from .losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    SmoothL1Loss,
)
from .model_summary import Summary, summary
from .models import MODELS, cnn, lenet5, mlp
from .module import Module
from .normalization import BatchNorm1d, BatchNorm2d
from .parameter import Parameter
from .pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .regularization import (
    ActivationL1,
    ElasticNet,
    L1Penalty,
    L2Penalty,
    LayerDistance,
    Penalty,
    WeightDistance,
    Where,
    is_weight,
    penalized,
    select_parameters,
)
from .stateless import functional_call

# isort: split
from . import utils  # last: its functions are those of minigrad.optim, which builds on the modules above

__all__ = [
    "ActivationL1",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DropConnect",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "ELU",
    "ElasticNet",
    "Embedding",
    "Flatten",
    "GELU",
    "GaussianNoise",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "L1Penalty",
    "L2Penalty",
    "LayerDistance",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MODELS",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiMarginLoss",
    "NLLLoss",
    "Parameter",
    "Penalty",
    "ReLU",
    "ScaleAtTestDropout",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "StochasticDepth",
    "Summary",
    "Tanh",
    "WeightDistance",
    "Where",
    "cnn",
    "functional",
    "functional_call",
    "init",
    "is_weight",
    "lenet5",
    "mlp",
    "penalized",
    "select_parameters",
    "summary",
    "utils",
]


def __dir__() -> list[str]:
    return sorted(__all__)
