"""Models ready to train: a multilayer perceptron, LeNet-5, and a small modern CNN.

Each is a Sequential of named layers: the names stand in `state_dict`, in the summary and in pictures of the graph.
`MODELS` is the table of the models, for scripts that choose one by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .activations import ReLU
from .container import Sequential
from .convolution import Conv2d
from .dropout import Dropout
from .linear import Flatten, Linear
from .module import Module
from .normalization import BatchNorm2d
from .pooling import AdaptiveAvgPool2d, MaxPool2d


def mlp(in_features: int, classes: int, hidden: Sequence[int] = (128, 64)) -> Sequential:
    """A multilayer perceptron with ReLU: (N, ...) of in_features numbers each, flattened, to scores (N, classes)."""
    layers: dict[str, Module] = {"flatten": Flatten()}
    sizes = [in_features, *hidden]
    for i, (before, after) in enumerate(pairwise(sizes), start=1):
        layers |= {f"fc{i}": Linear(before, after), f"relu{i}": ReLU()}
    layers[f"fc{len(sizes)}"] = Linear(sizes[-1], classes)
    return Sequential(layers)


# Image size -> kernel of both convolutions, padding of the first and of the second, side of what they leave.
LENET5_SHAPES = {
    28: (5, 2, 0, 5),  # as LeCun et al., who placed digits of 28 x 28 into images of 32 x 32
    32: (5, 0, 0, 5),
    8: (3, 1, 1, 2),
}


def lenet5(in_channels: int = 1, classes: int = 10, image_size: int = 28, batch_norm: bool = False) -> Sequential:
    """LeNet-5 (LeCun et al. 1998): convolutions to 6 and 16 channels, then 120, 84 and `classes` features.

    With ReLU and max pooling where the original has tanh and a learned average, and all channels connected.
    `batch_norm` puts a BatchNorm2d behind each convolution.

    Raises
    ------
    ValueError
        For an image_size other than 8, 28 or 32.
    """
    if image_size not in LENET5_SHAPES:
        sizes = ", ".join(map(str, sorted(LENET5_SHAPES)))
        raise ValueError(
            f"lenet5: image_size={image_size}; it fits images of {sizes} pixels. "
            "Resize them, or use cnn, which takes any size."
        )
    kernel, first_padding, second_padding, side = LENET5_SHAPES[image_size]
    layers: dict[str, Module] = {}
    channels = in_channels
    for i, (out, padding) in enumerate(((6, first_padding), (16, second_padding)), start=1):
        layers[f"conv{i}"] = Conv2d(channels, out, kernel, padding=padding)
        if batch_norm:
            layers[f"norm{i}"] = BatchNorm2d(out)
        layers |= {f"relu{i}": ReLU(), f"pool{i}": MaxPool2d(2)}
        channels = out
    layers |= {"flatten": Flatten(), "fc1": Linear(16 * side * side, 120), "relu3": ReLU()}
    layers |= {"fc2": Linear(120, 84), "relu4": ReLU(), "fc3": Linear(84, classes)}
    return Sequential(layers)


def cnn(in_channels: int = 3, classes: int = 10, dropout: float = 0.2) -> Sequential:
    """Five 3x3 convolutions to 32, 32, 64, 64 and 128 channels, pooled after the second and the fourth.

    Each is followed by batch-norm (hence has no bias) and ReLU; then the mean over the image, dropout and a linear
    layer. Takes images (N, in_channels, H, W) of any size from 4 x 4.
    """
    layers: dict[str, Module] = {}
    channels = in_channels
    for i, out in enumerate((32, 32, 64, 64, 128), start=1):
        layers[f"conv{i}"] = Conv2d(channels, out, 3, padding=1, bias=False)
        layers |= {f"norm{i}": BatchNorm2d(out), f"relu{i}": ReLU()}
        if i in (2, 4):
            layers[f"pool{i // 2}"] = MaxPool2d(2)
        channels = out
    layers |= {"mean": AdaptiveAvgPool2d(1), "flatten": Flatten()}
    layers |= {"dropout": Dropout(dropout), "fc": Linear(128, classes)}
    return Sequential(layers)


MODELS: dict[str, Callable[..., Sequential]] = {"mlp": mlp, "lenet5": lenet5, "cnn": cnn}
