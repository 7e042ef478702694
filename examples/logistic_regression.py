"""Logistic regression by L-BFGS and Newton's method, beside SGD and Adam: all the digits of the lowest loss.

    python examples/logistic_regression.py
    python examples/logistic_regression.py --decay 1e-4 --epochs 300
    python examples/logistic_regression.py --quick

The loss of softmax regression with weight decay is convex: there is one lowest point, and every method is on its way to
it. The table says how often each has seen all images until its loss is so close to the lowest one, and how long that
took. After this file you know what the last digits cost each of them, and that the test images do not care for them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, optim
from minigrad.nn.functional import cross_entropy

GAPS = (1e-2, 1e-4, 1e-6, 1e-8)
"""How far above the lowest loss, from near to exact."""
RATES = {"SGD": (0.1, 0.3, 1.0, 3.0), "Adam": (3e-3, 1e-2, 3e-2, 1e-1)}
BATCH = 32

Weights = dict[str, mg.Tensor]


class Sight(NamedTuple):
    """Where a method has come: the times it has seen all images, its seconds, its loss."""

    passes: float
    seconds: float
    loss: float


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Sight]]:
    """Print the table; returns each method's way."""
    options = parse(arguments)
    training, test = (part_of(data.digits(train=train), options) for train in (True, False))
    start = {"weight": mg.zeros(64, 10, dtype="float64"), "bias": mg.zeros(10, dtype="float64")}

    def loss(weights: Weights, images: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        return cross_entropy(scores(weights, images), labels) + options.decay / 2 * (weights["weight"] ** 2).sum()

    ways, ends = {}, {}
    for name, method in (("L-BFGS", "l-bfgs"), ("Newton", "newton"), ("Newton-CG", "newton-cg")):
        ways[name], ends[name] = descend(loss, start, training, method)
    for name in ("SGD", "Adam"):
        runs = [stochastic(name, rate, loss, start, training, options.epochs) for rate in RATES[name]]
        best = min(range(len(runs)), key=lambda i: runs[i][0][-1].loss)
        title = f"{name}, rate {RATES[name][best]:g}"
        ways[title], ends[title] = runs[best]
    report(ways, {name: accuracy(weights, test) for name, weights in ends.items()}, options)
    return ways


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decay", type=float, default=1e-3, help="half of it times the sum of the squares is added")
    parser.add_argument("--epochs", type=int, help="of SGD and Adam: 150 (with --quick 5)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the images: the results mean nothing")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (5 if options.quick else 150)
    if options.decay <= 0:
        parser.error(f"--decay {options.decay:g}: expected above 0; without it the lowest loss lies at infinity")
    return options


def part_of(digits: data.ArrayDataset, options: argparse.Namespace) -> tuple[mg.Tensor, mg.Tensor]:
    """Pixels (N, 64) and labels (N,)."""
    last = len(digits) // 5 if options.quick else len(digits)
    return mg.tensor(digits.images[:last].reshape(last, 64).astype(float)), mg.tensor(digits.labels[:last])


def scores(weights: Weights, images: mg.Tensor) -> mg.Tensor:
    """Of each class, (N, 10)."""
    return images @ weights["weight"] + weights["bias"]


def accuracy(weights: Weights, part: tuple[mg.Tensor, mg.Tensor]) -> float:
    """The share of images taken for what they are."""
    with mg.no_grad():
        return float((scores(weights, part[0]).numpy().argmax(axis=1) == part[1].numpy()).mean())


def descend(loss: Callable, start: Weights, training: tuple, method: str) -> tuple[list[Sight], Weights]:
    """By a method of `minimize`; each evaluation looks at all images once, Hessians and products are not counted."""
    way, passes = [], 0
    began = time.perf_counter()

    def counted(weights: Weights, images: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        nonlocal passes
        passes += 1
        return loss(weights, images, labels)

    def seen(intermediate_result: optim.OptimizeResult) -> None:
        way.append(Sight(passes, time.perf_counter() - began, intermediate_result.fun))

    found = optim.minimize(counted, start, training, method=method, callback=seen)
    print(f"{method}: {found.message}; {found.nit} steps, {found.nfev} evaluations, "
          f"{found.nhev} Hessians or products with one", flush=True)  # fmt: skip
    return way, found.x


def stochastic(
    name: str, rate: float, loss: Callable, start: Weights, training: tuple, epochs: int
) -> tuple[list[Sight], Weights]:
    """By mini-batches, the rate falling along half a cosine; the loss of all images, once an epoch, is not timed."""
    images, labels = training
    weights = {key: mg.tensor(value.numpy().copy(), requires_grad=True) for key, value in start.items()}
    optimizer = getattr(optim, name)(list(weights.values()), lr=rate, **({"momentum": 0.9} if name == "SGD" else {}))
    schedule = optim.CosineAnnealingLR(optimizer, epochs * -(-len(labels) // BATCH))
    rng, way, seconds = np.random.default_rng(0), [], 0.0
    for epoch in range(epochs):
        began = time.perf_counter()
        order = rng.permutation(len(labels))
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            optimizer.zero_grad()
            loss(weights, images[batch], labels[batch]).backward()
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - began
        with mg.no_grad():
            way.append(Sight(epoch + 1, seconds, loss(weights, *training).item()))
    return way, weights


def report(ways: dict[str, list[Sight]], accuracies: dict[str, float], options: argparse.Namespace) -> None:
    """Print when each method came how close to the lowest loss that any has seen."""
    lowest = min(sight.loss for way in ways.values() for sight in way)
    print(
        f"\nlowest loss {lowest:.8f}, weight decay {options.decay:g}; passes over the images and seconds until so near"
    )
    print(f"{'':18}" + "".join(f"{gap:>16.0e}" for gap in GAPS) + "   test accuracy")
    for name, way in ways.items():
        firsts = [next((sight for sight in way if sight.loss - lowest <= gap), None) for gap in GAPS]
        cells = ("-" if s is None else f"{s.passes:.0f} / {s.seconds:.2f} s" for s in firsts)
        print(f"{name:18}" + "".join(f"{cell:>16}" for cell in cells) + f"{accuracies[name]:16.2%}", flush=True)


if __name__ == "__main__":
    main()
