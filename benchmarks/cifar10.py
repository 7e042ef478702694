"""CIFAR-10 to a stated accuracy, in seconds, on a GPU: python -m benchmarks.cifar10 --accuracy 0.93

A small residual net; flip, padded crop and cutout on the device, where the images lie as bytes; label smoothing, SGD
with Nesterov's momentum, one cycle of the rate, float16 with a loss scale, captured steps. It trains until the accuracy
on the test images is reached, which is looked at after each epoch: so the seconds say how fast, and the accuracy is no
estimate of anything. They contain recording, training and those looks; not the reading of the files.

The net and the recipe follow the ResNet-9 of D. Page, "How to train your ResNet" (2018).
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

import minigrad as mg
from minigrad import amp, data, nn, optim
from minigrad.data import Compose, DataLoader, Subset
from minigrad.nn.functional import cross_entropy
from minigrad.training import fit

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images, as floats in [0, 1]
AUGMENTED = (data.random_crop(4), data.random_horizontal_flip(), data.cutout(8))
AS_FLOATS = (data.to_float(), data.normalize(MEAN, STD))
CAVEAT = "repaired JPEG copy, a few images in a thousand wrong"


def convolved(channels: int, out: int, *after: nn.Module) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), *after]


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.main = nn.Sequential(*convolved(channels, channels), *convolved(channels, channels))

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return x + self.main(x)


def resnet9(width: int = 64) -> nn.Module:
    """Eight convolutions, two of them pairs with a shortcut, and a linear layer; for images of 3 x 32 x 32."""
    half = partial(nn.MaxPool2d, 2)
    return nn.Sequential(
        *convolved(3, width), *convolved(width, 2 * width, half()), Residual(2 * width),
        *convolved(2 * width, 4 * width, half()), *convolved(4 * width, 8 * width, half()), Residual(8 * width),
        nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


def run(
    *,
    accuracy: float = 0.93,
    epochs: int = 24,
    images: int | None = None,
    batch: int = 512,
    width: int = 64,
    lr: float = 0.2,
    root: Path | None = None,
    device: str = "cuda",
    capture: bool | None = None,
    seed: int = 0,
) -> dict:
    """Train until the accuracy is reached, or for all epochs; what is found as a row of the log.

    Without the data the row is {"error": why}, and so it is with whatever else fails: the benchmark goes on.
    """
    row: dict = {"asked": accuracy, "epochs": epochs}
    try:
        training, test = (data.cifar10(part, root, download=False, dtype=np.uint8) for part in (True, False))
        note = CAVEAT if "JPEG" in training.note else ""
        row |= {"note": note, "train_images": len(training), "test_images": len(test)}
        if images is not None:
            training, test = (Subset(part, range(min(images, len(part)))) for part in (training, test))
            row |= {"train_images": len(training), "test_images": len(test)}
        return row | _trained(training, test, accuracy, epochs, batch, width, lr, device, capture, seed)
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def _trained(
    training: data.Dataset, test: data.Dataset, accuracy: float, epochs: int, batch: int, width: int, lr: float,
    device: str, capture: bool | None, seed: int,
) -> dict:  # fmt: skip
    mg.manual_seed(seed)
    model = resnet9(width).to(device)
    there = {"device": device, "cache": True, "seed": seed}
    loader = DataLoader(
        training, batch, shuffle=True, drop_last=True, transform=Compose([*AUGMENTED, *AS_FLOATS]), **there
    )
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    began = time.perf_counter()
    history = fit(
        model, partial(cross_entropy, label_smoothing=0.1), optimizer, loader,
        epochs=epochs, progress=False, capture=capture,
        scheduler=optim.OneCycleLR(optimizer, lr, epochs=epochs, steps_per_epoch=len(loader), pct_start=0.2),
        validation=DataLoader(test, 1000, transform=Compose(list(AS_FLOATS)), **there),
        autocast=amp.autocast(mg.backend.device_kind(device)), scaler=amp.GradScaler(),
        callback=lambda history: history["val_accuracy"][-1] >= accuracy,
    )  # fmt: skip
    seconds, reached = time.perf_counter() - began, history["val_accuracy"][-1]
    return {"seconds": seconds, "taken": len(history), "accuracy": reached, "reached": reached >= accuracy}


def described(row: dict) -> str:
    """The row as a sentence; beside any accuracy stands what the images are."""
    if "error" in row:
        return f"CIFAR-10 to {row['asked']:.1%}: not run to its end: {row['error']}"
    note = f" ({row['note']})" if row["note"] else ""
    result = "reached" if row["reached"] else "NOT reached"
    return (
        f"CIFAR-10 to {row['asked']:.1%}: {result}; {row['accuracy']:.2%} of {row['test_images']} test images{note} in "
        f"{row['seconds']:.1f} s, {row['taken']} of {row['epochs']} epochs of {row['train_images']} images"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `benchmarks.gpu` has too."""
    parser.add_argument("--accuracy", type=float, default=0.93, help="CIFAR-10: train until it is reached")
    parser.add_argument("--epochs", type=int, default=24, help="CIFAR-10: at most so many, which the schedule is for")
    parser.add_argument("--images", type=int, help="CIFAR-10: only the first so many")
    parser.add_argument("--width", type=int, default=64, help="CIFAR-10: channels of the first convolution")
    parser.add_argument("--cifar10", type=Path, help="folder with CIFAR-10; default: where data.cifar10 looks")


def run_with(arguments: argparse.Namespace) -> dict:
    """`run` with the options of a command line."""
    return run(
        accuracy=arguments.accuracy,
        epochs=arguments.epochs,
        images=arguments.images,
        width=arguments.width,
        root=arguments.cifar10,
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(options)
    print(described(run_with(options.parse_args())))
