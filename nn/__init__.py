"""Layers, losses, initialisers and models: minigrad's `torch.nn`. Every public name stands here."""

if __name__ != "minigrad.nn":  # a second copy, whose classes would not be those of minigrad.nn
    raise ImportError(f"{__name__!r} is the folder of the package minigrad.nn; write `from minigrad import nn`.")

from minigrad.nn import functional, init
from minigrad.nn.activations import (
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
from minigrad.nn.container import ModuleList, Sequential
from minigrad.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from minigrad.nn.dropout import (
    DropConnect,
    Dropout,
    Dropout1d,
    Dropout2d,
    GaussianNoise,
    ScaleAtTestDropout,
    StochasticDepth,
)
from minigrad.nn.linear import Embedding, Flatten, Identity, Linear
from minigrad.nn.losses import (
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
from minigrad.nn.models import MODELS, cnn, lenet5, mlp
from minigrad.nn.module import Module
from minigrad.nn.normalization import BatchNorm1d, BatchNorm2d
from minigrad.nn.parameter import Parameter
from minigrad.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from minigrad.nn.regularization import (
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
from minigrad.nn.stateless import functional_call
from minigrad.nn.summary import Summary, summary

# isort: split
from minigrad.nn import utils  # last: its functions are of minigrad.optim, which builds on the modules above
