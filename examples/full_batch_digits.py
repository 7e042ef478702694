"""LeNet on all digits at once, by L-BFGS and Hessian-free; and why L-BFGS should not be given mini-batches.

    python examples/full_batch_digits.py
    python examples/full_batch_digits.py --mini-batches
    python examples/full_batch_digits.py --quick

Full-batch methods take few steps, and long ones; each looks at every image, some hundred times for Hessian-free. The
first table says when each has come to a training loss, with SGD on mini-batches beside them. With --mini-batches
L-BFGS gets batches as SGD does, every method the same number of passes over the images. After this file you know what
a method needs that believes in the curvature it sees: that the function stays the same from one look to the next.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.nn import functional_call
from minigrad.nn.functional import cross_entropy

LOSSES = (1.0, 0.3, 0.1, 0.01, 1e-4)
Part = tuple[mg.Tensor, mg.Tensor]


class Sight(NamedTuple):
    """Where a method has come: the times it has seen all images, its seconds, the loss of the training images."""

    passes: float
    seconds: float
    loss: float


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Sight]]:
    """Print the table; returns each method's way."""
    options = parse(arguments)
    training, test = (part_of(data.digits(train=train), options) for train in (True, False))
    ways, accuracies = {}, {}
    for name, (method, settings) in (MINI_BATCHES if options.mini_batches else FULL_BATCH).items():
        mg.manual_seed(options.seed)
        model = nn.lenet5(1, 10, image_size=8)
        ways[name] = method(model, training, options, **settings)
        accuracies[name] = loss_and_accuracy(model, test)[1]
        print(f"{name}: {ways[name][-1].seconds:.1f} s", flush=True)
    (report_ends if options.mini_batches else report_ways)(ways, accuracies)
    return ways


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini-batches", action="store_true", help="L-BFGS with mini-batches, beside SGD")
    parser.add_argument("--passes", type=int, help="over the images, of SGD and with --mini-batches: 50 (--quick 4)")
    parser.add_argument("--steps", type=int, help="of L-BFGS at most, and a tenth of it of Hessian-free: 300 (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the order of the images")
    parser.add_argument("--quick", action="store_true", help="a fifth of the images: the results mean nothing")
    options = parser.parse_args(arguments)
    options.passes = options.passes or (4 if options.quick else 50)
    options.steps = options.steps or (30 if options.quick else 300)
    return options


def part_of(digits: data.ArrayDataset, options: argparse.Namespace) -> Part:
    """Images (N, 1, 8, 8) and labels (N,)."""
    last = len(digits) // 5 if options.quick else len(digits)
    return mg.tensor(digits.images[:last]), mg.tensor(digits.labels[:last])


def loss_and_accuracy(model: nn.Module, part: Part) -> tuple[float, float]:
    """The mean loss, and the share of images taken for what they are."""
    with mg.no_grad():
        scores = model(part[0])
        return cross_entropy(scores, part[1]).item(), float((scores.numpy().argmax(1) == part[1].numpy()).mean())


# --- full batch ---


def descend(
    model: nn.Module, training: Part, options: argparse.Namespace, method: str, steps: float, **settings: int
) -> list[Sight]:
    """By a method of `minimize`, with the model and its loss apart, as Hessian-free needs them."""
    images, labels = training
    way: list[Sight] = []
    passes, began = 0, time.perf_counter()

    def scores(weights: dict[str, mg.Tensor]) -> mg.Tensor:
        nonlocal passes
        passes += 1
        return functional_call(model, weights, images)

    def seen(intermediate_result: optim.OptimizeResult) -> bool:
        way.append(Sight(passes, time.perf_counter() - began, intermediate_result.fun))
        return intermediate_result.fun <= LOSSES[-1]

    found = optim.minimize(
        optim.Composite(scores, lambda z: cross_entropy(z, labels)),
        {name: weight.detach() for name, weight in model.named_parameters()},
        method=method,
        callback=seen,
        options={"maxiter": int(steps * options.steps), **settings},
    )
    model.load_state_dict(found.x)
    print(f"{method}: {found.nit} steps, {found.nfev} evaluations, {found.nhev} products; {found.message}", flush=True)
    return way


# --- mini-batches ---


def by_batches(
    model: nn.Module, training: Part, options: argparse.Namespace, optimizer: type, batch: int, **settings: float
) -> list[Sight]:
    """By an optimizer's `step(closure)` on one batch after the other, until the images were looked at often enough.

    An evaluation of a batch is its share of a pass. The loss of all images, once an epoch, is not counted.
    """
    images, labels = training
    batch = min(batch, len(labels))
    stepper = optimizer(model.parameters(), **settings)
    rng, way, passes, seconds = np.random.default_rng(options.seed), [], 0.0, 0.0
    while passes < options.passes:
        began = time.perf_counter()
        order = rng.permutation(len(labels))
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            x, y = images[chosen], labels[chosen]

            def closure(x: mg.Tensor = x, y: mg.Tensor = y) -> mg.Tensor:
                nonlocal passes
                passes += batch / len(labels)
                stepper.zero_grad()
                loss = cross_entropy(model(x), y)
                loss.backward()
                return loss

            stepper.step(closure)
        seconds += time.perf_counter() - began
        way.append(Sight(passes, seconds, loss_and_accuracy(model, training)[0]))
    return way


SGD = (by_batches, {"optimizer": optim.SGD, "batch": 32, "lr": 0.05, "momentum": 0.9})
FULL_BATCH = {
    "L-BFGS": (descend, {"method": "l-bfgs", "steps": 1.0}),
    "Hessian-free": (descend, {"method": "hessian-free", "steps": 0.1, "max_products": 50}),
    "SGD, batches of 32": SGD,
}
L_BFGS = {"optimizer": optim.LBFGS, "max_iter": 4, "history_size": 10}
MINI_BATCHES = {
    "SGD, batches of 32": SGD,
    "L-BFGS, batches of 32": (by_batches, {**L_BFGS, "batch": 32}),
    "L-BFGS, batches of 128": (by_batches, {**L_BFGS, "batch": 128}),
    "L-BFGS, batches of 512": (by_batches, {**L_BFGS, "batch": 512}),
    "L-BFGS, all images": (by_batches, {**L_BFGS, "batch": 10**9}),
}


# --- tables ---


def report_ways(ways: dict[str, list[Sight]], accuracies: dict[str, float]) -> None:
    """Print when each method first came to each of the losses."""
    print("\nevaluations of all images, and seconds, until the training loss is\n" + " " * 20, end="")
    print("".join(f"{loss:>15g}" for loss in LOSSES) + "   test accuracy")
    for name, way in ways.items():
        firsts = [next((sight for sight in way if sight.loss <= loss), None) for loss in LOSSES]
        cells = ("-" if sight is None else f"{sight.passes:.0f} / {sight.seconds:.1f} s" for sight in firsts)
        print(f"{name:20}" + "".join(f"{cell:>15}" for cell in cells) + f"{accuracies[name]:16.2%}")


def report_ends(ways: dict[str, list[Sight]], accuracies: dict[str, float]) -> None:
    """Print where each method has come after the same number of passes, and how steady the way was."""
    print(f"\n{'':24}{'passes':>8}{'seconds':>9}{'training loss':>15}{'lowest':>9}   test accuracy")
    for name, way in ways.items():
        end, lowest = way[-1], min(sight.loss for sight in way)
        print(
            f"{name:24}{end.passes:8.0f}{end.seconds:9.1f}{end.loss:15.4g}{lowest:9.3g}{accuracies[name]:16.2%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
