"""The layers that `kernels.py` times, as data: those of the grid's networks, found by walking them, and held-out ones.

A `Layer` is what a kernel sees of a layer, without the batch. The same layer may stand in a network several times, and
in several networks; `grid` has it once, with its counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import minigrad as mg
from benchmarks import networks
from minigrad import nn


@dataclass(frozen=True)
class Layer:
    """One layer at one image size. Kinds are the keys of `kernels.PASSES`."""

    kind: str
    image: tuple[int, int, int]  # channels, height and width of the input (of the output, for a concatenation)
    out: int = 0  # channels of a convolution's output
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    first: bool = False  # its input is the network's own, which needs no gradient
    branches: tuple[int, ...] = ()  # channels of what a concatenation joins

    @property
    def channels(self) -> int:
        return self.image[0]

    @property
    def output(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        if self.kind == "mean":
            return self.channels, 1, 1
        sides = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(self.image[1:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return self.out or self.channels, *sides  # type: ignore[return-value]

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """The shape of a convolution's weight."""
        return self.out, self.channels // self.groups, *self.kernel

    @property
    def multiply_adds(self) -> int:
        """Of a convolution, for one image."""
        return math.prod(self.output) * math.prod(self.weight[1:]) if self.kind == "conv" else 0

    def __str__(self) -> str:
        image = f"@{self.image[1]}x{self.image[2]}"
        if self.kind not in ("conv", "max_pool"):
            return f"{self.kind} {'+'.join(map(str, self.branches)) or self.channels} {image}"
        width = f"{self.channels}->{self.out}" if self.kind == "conv" else str(self.channels)
        parts = [self.kind, width, *(f"{a}x{b}" if tag == "" else f"{tag}{a}" for tag, (a, b) in self._pairs())]
        parts += [f"groups {self.groups}"] if self.groups > 1 else []
        parts += [word for word in ("bias", "first") if getattr(self, word)]
        return " ".join([*parts, image])

    def _pairs(self) -> Iterator[tuple[str, tuple[int, int]]]:
        yield "", self.kernel
        for tag, pair in (("s", self.stride), ("p", self.padding), ("d", self.dilation)):
            if pair != (int(tag != "p"),) * 2:
                yield (tag, pair) if pair[0] == pair[1] else (f"{tag}{pair[0]},", (pair[1], pair[1]))


# --- the layers of a network ---


def both(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def of_convolution(module, x, y) -> Layer:
    sizes = {name: both(getattr(module, name)) for name in ("stride", "padding", "dilation")}
    return Layer(
        "conv", x.shape[1:], module.out_channels, both(module.kernel_size), **sizes,
        groups=module.groups, bias=module.bias is not None,
    )  # fmt: skip


def of_max_pool(module, x, y) -> Layer:
    kernel = both(module.kernel_size)
    stride = kernel if module.stride is None else both(module.stride)
    return Layer("max_pool", x.shape[1:], 0, kernel, stride, both(module.padding))


FOUND_AS = {
    "Conv2d": of_convolution,
    "MaxPool2d": of_max_pool,
    "AdaptiveAvgPool2d": lambda module, x, y: Layer("mean", x.shape[1:]),
    "BatchNorm2d": lambda module, x, y: Layer("batch_norm", x.shape[1:]),
    "ReLU": lambda module, x, y: Layer("relu", x.shape[1:]) if x.ndim == 4 else None,
    "ReLU6": lambda module, x, y: Layer("relu6", x.shape[1:]),
    "Sum": lambda module, x, y: Layer("add", y.shape[1:]),
}
"""Class of a module: what layer it is, given its input and output. Linear layers are products, timed elsewhere."""


def walk(name: str) -> Counter[Layer]:
    """The layers of a network of `networks.GRID`, each with how often it occurs."""
    found: Counter[Layer] = Counter()
    model = networks.GRID[name](nn).eval()
    images = mg.zeros((1, *networks.image_shape(name)))

    def note(module, arguments, output) -> None:
        (x,) = arguments
        layer = FOUND_AS[type(module).__name__](module, x, output)
        if layer is not None:
            found[Layer(**{**vars(layer), "first": layer.kind == "conv" and x is images})] += 1

    def note_branches(module, arguments, output) -> None:
        widths = tuple(branch_widths.pop(id(branch)) for branch in module.branches)
        found[Layer("concatenate", output.shape[1:], branches=widths)] += 1

    branch_widths: dict[int, int] = {}
    for module in model.modules():
        if type(module).__name__ in FOUND_AS:
            module.register_forward_hook(note)
        elif type(module).__name__ == "Concatenation":
            module.register_forward_hook(note_branches)
            for branch in module.branches:
                branch.register_forward_hook(lambda m, a, y: branch_widths.update({id(m): y.shape[1]}))
    with mg.no_grad():
        model(images)
    return found


def grid(names: list[str]) -> dict[Layer, dict[str, int]]:
    """The layers of these networks, each with how often it occurs in which of them."""
    layers: dict[Layer, dict[str, int]] = {}
    for name in names:
        for layer, count in walk(name).items():
            layers.setdefault(layer, {})[name] = count
    return layers


# --- layers outside of the grid, to test rules that were fitted on it ---

HELD_OUT_BATCHES = (5, 48)

HELD_OUT_CONVOLUTIONS = (  # channels, out, kernel, stride, padding, dilation, groups, height, width
    (3, 24, 3, 1, 1, 1, 1, 48, 48),
    (3, 40, 7, 2, 3, 1, 1, 56, 56),
    (1, 12, 7, 1, 3, 1, 1, 28, 28),
    (12, 20, 5, 1, 2, 1, 1, 20, 20),
    (20, 20, 3, 1, 1, 1, 1, 40, 24),
    (24, 24, 3, 1, 2, 2, 1, 24, 24),
    (48, 40, 3, 2, 1, 1, 1, 28, 28),
    (80, 80, 3, 1, 1, 1, 1, 14, 14),
    (100, 60, 1, 1, 0, 1, 1, 14, 14),
    (72, 216, 1, 1, 0, 1, 1, 12, 12),
    (320, 96, 3, 1, 1, 1, 1, 7, 7),
    (48, 48, (1, 7), 1, (0, 3), 1, 1, 17, 17),
    (48, 48, (7, 1), 1, (3, 0), 1, 1, 17, 17),
    (64, 64, 3, 1, 1, 1, 4, 16, 16),
    (96, 96, 3, 2, 1, 1, 32, 28, 28),
    (40, 40, 5, 1, 2, 1, 40, 20, 20),
    (72, 72, 5, 2, 2, 1, 72, 28, 28),
    (56, 56, 7, 1, 3, 1, 56, 14, 14),
)
HELD_OUT_POOLS = (  # channels, kernel, stride, padding, side
    (24, 2, 2, 0, 48),
    (40, 3, 2, 1, 28),
    (20, 3, 3, 0, 20),
    (56, 2, 1, 0, 14),
)
HELD_OUT_IMAGES = ((24, 48, 48), (40, 28, 28), (72, 20, 12), (200, 14, 14), (720, 7, 7))
HELD_OUT_KINDS = ("mean", "batch_norm", "relu", "relu6", "add")


def held_out() -> dict[Layer, dict[str, int]]:
    """Layers that are in none of the grid's networks, counted once each."""
    layers = []
    for channels, out, *pairs, groups, height, width in HELD_OUT_CONVOLUTIONS:
        kernel, stride, padding, dilation = map(both, pairs)
        image, first = (channels, height, width), channels in (1, 3)
        layers.append(Layer("conv", image, out, kernel, stride, padding, dilation, groups, first, first))
    layers += [
        Layer("max_pool", (channels, side, side), 0, both(kernel), both(stride), both(padding))
        for channels, kernel, stride, padding, side in HELD_OUT_POOLS
    ]
    layers += [Layer(kind, image) for kind in HELD_OUT_KINDS for image in HELD_OUT_IMAGES]
    layers.append(Layer("concatenate", (120, 20, 20), branches=(40, 56, 24)))
    return {layer: {"held-out": 1} for layer in layers}
