"""The networks that are timed, each written once for both libraries, since these have the same names.

A function takes `minigrad.nn` or `torch.nn` and returns a model. Images are 3x32x32 unless `SHAPES` says otherwise; the
variants are those in use at that size: no early pooling, and strides of 1 where the originals, for 224x224, have 2.
"""

from __future__ import annotations

import importlib
from functools import cache

CLASSES = 10


def tiny_mlp(nn):
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def mlp(nn):
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def lenet5(nn):
    """LeCun et al. 1998, with ReLU and max pooling."""
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(
        *features, nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES)
    )


def bn_cnn(nn):
    """Five convolutions with batch-norm."""
    return nn.Sequential(
        *normed(nn, 3, 32),
        *normed(nn, 32, 32),
        nn.MaxPool2d(2),
        *normed(nn, 32, 64),
        *normed(nn, 64, 64),
        nn.MaxPool2d(2),
        *normed(nn, 64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, CLASSES),
    )


def resnet20(nn):
    """He et al. 2016, section 4.2: three stages of three blocks, 16, 32 and 64 channels."""
    stages = [*stage(nn, 16, 16, 3, 1), *stage(nn, 16, 32, 3, 2), *stage(nn, 32, 64, 3, 2)]
    return nn.Sequential(*normed(nn, 3, 16), *stages, *classifier(nn, 64))


def resnet18(nn):
    """He et al. 2016, table 1: four stages of two blocks."""
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    stages = [block for before, out, stride in widths for block in stage(nn, before, out, 2, stride)]
    return nn.Sequential(*normed(nn, 3, 64), *stages, *classifier(nn, 512))


def vgg16(nn):
    """Simonyan and Zisserman 2015, configuration D, with batch-norm, and one linear layer on what 32x32 leaves."""
    layers, channels = [], 3
    for widths in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for out in widths:
            layers += normed(nn, channels, out)
            channels = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, CLASSES))


INCEPTIONS = (  # channels of: 1x1 | 1x1, 3x3 | 1x1, 5x5 | behind the pooling; "pool" stands between
    *((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), "pool"),
    *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
    *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), "pool"),
    *((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def googlenet(nn):
    """Szegedy et al. 2015, table 1, with batch-norm for the local response norm, and without the side classifiers."""
    layers, channels = normed(nn, 3, 192), 192
    for row in INCEPTIONS:
        if row == "pool":
            layers.append(nn.MaxPool2d(3, 2, 1))
            continue
        layers.append(inception(nn, channels, *row))
        channels = row[0] + row[2] + row[4] + row[5]
    return nn.Sequential(*layers, *classifier(nn, channels))


def alexnet(nn):
    """Krizhevsky et al. 2012 in the widths of Krizhevsky 2014, for 3x64x64, without local response norm."""
    features = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    features += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for channels, out in ((192, 384), (384, 256), (256, 256)):
        features += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
    head = [nn.MaxPool2d(3, 2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 4096), nn.ReLU()]
    head += [nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES)]
    return nn.Sequential(*features, *head)


MOBILE_STAGES = (  # expansion, channels out, blocks, stride of the first
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def mobilenetv2(nn):
    """Sandler et al. 2018, table 2: depthwise convolutions between two of 1x1, ReLU6, sums around the narrow ends."""
    layers, channels = normed(nn, 3, 32, relu="ReLU6"), 32
    for expansion, out, blocks, stride in MOBILE_STAGES:
        for i in range(blocks):
            layers.append(mobile_block(nn, channels, out, expansion, stride if i == 0 else 1))
            channels = out
    return nn.Sequential(*layers, *normed(nn, channels, 1280, 1, relu="ReLU6"), *classifier(nn, 1280))


GRID = {
    "lenet5": lenet5,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16": vgg16,
    "googlenet": googlenet,
    "alexnet": alexnet,
    "mobilenetv2": mobilenetv2,
}
"""The networks whose layers are the grid of `benchmarks/kernels.py`."""

SHAPES = {"lenet5": (1, 28, 28), "alexnet": (3, 64, 64)}
"""Shapes of images that are not 3x32x32. (LeNet-5 pads 28x28 to 32x32.)"""

LEFT_OUT = {
    "alexnet": "LocalResponseNorm, which minigrad has not",
    "googlenet": "LocalResponseNorm, which minigrad has not (batch-norm stands in its place)",
}
"""Layers of the published networks that are not timed."""


def image_shape(name: str) -> tuple[int, int, int]:
    """(channels, height, width) of the images of a network."""
    return SHAPES.get(name, (3, 32, 32))


# --- what the networks are made of ---


@cache
def parts(nn) -> dict[str, type]:
    """Modules that a library lacks, as classes of its own: the sum and the concatenation of branches, and ReLU6."""
    library = importlib.import_module(nn.__name__.partition(".")[0])

    class Sum(nn.Module):
        """body(x) + shortcut(x)."""

        def __init__(self, body, shortcut):
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    class Concatenation(nn.Module):
        """The channels of all branches."""

        def __init__(self, *branches):
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x):
            return library.cat([branch(x) for branch in self.branches], 1)

    class ReLU6(nn.Module):
        """x between 0 and 6."""

        def forward(self, x):
            return library.clip(x, 0, 6)

    return {"Sum": Sum, "Concatenation": Concatenation, "ReLU6": getattr(nn, "ReLU6", ReLU6)}


def activation(nn, name):
    return getattr(nn, name, None) or parts(nn)[name]


def normed(nn, channels, out, kernel=3, stride=1, groups=1, relu="ReLU"):
    """A convolution that keeps the size (at stride 1), batch-norm and, unless it is None, an activation."""
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out), *([activation(nn, relu)()] if relu else [])]


def stage(nn, channels, out, blocks, stride):
    """Blocks of two 3x3 convolutions with a sum around; the first may change size and channels."""
    layers = []
    for i in range(blocks):
        before, step = (channels, stride) if i == 0 else (out, 1)
        body = nn.Sequential(*normed(nn, before, out, stride=step), *normed(nn, out, out, relu=None))
        same = before == out and step == 1
        shortcut = nn.Identity() if same else nn.Sequential(*normed(nn, before, out, 1, step, relu=None))
        layers += [parts(nn)["Sum"](body, shortcut), nn.ReLU()]
    return layers


def inception(nn, channels, one, before_three, three, before_five, five, behind_pool):
    branches = [
        normed(nn, channels, one, 1),
        [*normed(nn, channels, before_three, 1), *normed(nn, before_three, three, 3)],
        [*normed(nn, channels, before_five, 1), *normed(nn, before_five, five, 5)],
        [nn.MaxPool2d(3, 1, 1), *normed(nn, channels, behind_pool, 1)],
    ]
    return parts(nn)["Concatenation"](*(nn.Sequential(*branch) for branch in branches))


def mobile_block(nn, channels, out, expansion, stride):
    wide = channels * expansion
    layers = normed(nn, channels, wide, 1, relu="ReLU6") if expansion > 1 else []
    layers += normed(nn, wide, wide, 3, stride, groups=wide, relu="ReLU6")
    body = nn.Sequential(*layers, *normed(nn, wide, out, 1, relu=None))
    return parts(nn)["Sum"](body, nn.Identity()) if stride == 1 and channels == out else body


def classifier(nn, channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
