"""Fine-tuning: what was learned on the digits 0 to 4 helps to tell 5 to 9 from very few examples.

    python examples/fine_tuning.py
    python examples/fine_tuning.py --quick

The digits lie anywhere in a larger image. A network learns 0 to 4 from many images that are moved anew each time; its
features are then frozen, and a new head learns 5 to 9 from a few images that stay as they are; last, all is set free
and trained on, the features at a fraction of the rate, so that what they know is adapted and not overwritten (Yosinski
et al. 2014, "How transferable are features in deep neural networks?"). After this file you know how part of a model is
frozen and freed, and how parameter groups give each part its own rate.

The network has no batch-norm: its running statistics are no parameters, and would go on moving in a frozen part that
is in training mode.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from copy import deepcopy

import numpy as np
from digits_recipe import RATE, Scores, Table, parse, probabilities, repeat, report, score, train

import minigrad as mg
from minigrad import data, nn
from minigrad.data import ArrayDataset

ROOM = 2  # pixels around the 8 x 8 of a digit, and how far it is moved
MOVED = data.random_shift(ROOM)
FULL = {"repeats": 10, "epochs": 12, "each": 2, "stage": 80, "fraction": 0.2}
QUICK = {"repeats": 2, "epochs": 3, "each": 5, "stage": 40, "fraction": 0.2}
PAIRS = [
    ("frozen features, new head", "from scratch"),
    ("then all, features slowly", "from scratch"),
    ("then all, features slowly", "frozen features, new head"),
    ("then all, features slowly", "all at once, one rate"),
    ("from scratch, images moved anew", "from scratch"),
    ("then all, features slowly", "from scratch, images moved anew"),
]


def main(arguments: Sequence[str] | None = None) -> Table:
    """Print the table; returns it, the scores of each repetition by row."""
    options = parse(__doc__, arguments, FULL, QUICK)
    table = repeat(once, options)
    report(f"digits 5 to 9 from {options.each} images of each, {2 * options.stage} epochs", table, PAIRS, options)
    return table


def once(seed: int, options: argparse.Namespace) -> Scores:
    """One repetition: the few images, a network pre-trained without them, and five ways to learn from them."""
    few, test = few_of_each(seed, options.each, validate=options.validate)
    pretrained = pretrain(seed, options.epochs)
    both_stages = 2 * options.stage
    scratch = train(network(seed + 1), few, seed, both_stages)
    scratch_moved = train(network(seed + 1), few, seed, both_stages, transform=MOVED)
    at_once = train(new_head(pretrained, seed), few, seed, both_stages)

    model = new_head(pretrained, seed)
    train_head(model, few, seed, options.stage)
    frozen = probabilities(model, test.images)
    train_all(model, few, seed, options.stage, options.fraction)
    predicted = {
        "from scratch": probabilities(scratch, test.images),
        "from scratch, images moved anew": probabilities(scratch_moved, test.images),
        "all at once, one rate": probabilities(at_once, test.images),
        "frozen features, new head": frozen,
        "then all, features slowly": probabilities(model, test.images),
    }
    return {name: score(each, test.labels) for name, each in predicted.items()}


def network(seed: int) -> nn.Sequential:
    """Two convolutions, of each channel the strongest answer anywhere: 64 features; and a head for five classes."""
    mg.manual_seed(seed)
    return nn.Sequential({
        "conv1": nn.Conv2d(1, 16, 3, padding=1), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(16, 64, 3, padding=1), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(6),
        "flatten": nn.Flatten(), "head": nn.Linear(64, 5),
    })  # fmt: skip


def pretrain(seed: int, epochs: int) -> nn.Sequential:
    """A network that tells 0 to 4, from all their training images, moved anew each epoch."""
    return train(network(seed), only(range(5), train=True), seed, epochs, transform=MOVED)


def new_head(pretrained: nn.Sequential, seed: int) -> nn.Sequential:
    """A copy whose last layer starts anew."""
    model = deepcopy(pretrained)
    model.head = network(seed + 1).head
    return model


def train_head(model: nn.Sequential, few: ArrayDataset, seed: int, epochs: int) -> None:
    """Train the last layer; the features stay as they are, and no gradient is computed for them."""
    model[:-1].requires_grad_(False)
    train(model, few, seed, epochs, [{"params": model.head.parameters(), "lr": 4 * RATE}])


def train_all(model: nn.Sequential, few: ArrayDataset, seed: int, epochs: int, fraction: float) -> None:
    """Free the features and train everything, them at a fraction of the head's rate."""
    model.requires_grad_(True)
    groups = [
        {"params": model[:-1].parameters(), "lr": RATE * fraction},
        {"params": model.head.parameters(), "lr": RATE},
    ]
    train(model, few, seed, epochs, groups)


def few_of_each(seed: int, each: int, *, validate: bool) -> tuple[ArrayDataset, ArrayDataset]:
    """`each` training images of every digit from 5 to 9, drawn by the seed; and those to score on. All moved once."""
    rng = np.random.default_rng(seed)
    training = only(range(5, 10), train=True)
    order = rng.permutation(len(training))
    drawn = np.concatenate([order[training.labels[order] == label][:each] for label in range(5)])
    others = ArrayDataset(*training[np.setdiff1d(order, drawn)])
    parts = ArrayDataset(*training[drawn]), others if validate else only(range(5, 10), train=False)
    few, test = (ArrayDataset(MOVED(part.images, rng), part.labels) for part in parts)
    return few, test


def only(digits: Iterable[int], *, train: bool) -> ArrayDataset:
    """The images of these digits, in the middle of larger ones, with labels counted from 0."""
    wanted, images = np.array(list(digits)), data.digits(train=train)
    chosen = ArrayDataset(*images[np.isin(images.labels, wanted)])
    room = ((0, 0), (0, 0), (ROOM, ROOM), (ROOM, ROOM))
    return ArrayDataset(np.pad(chosen.images, room), np.searchsorted(wanted, chosen.labels))


if __name__ == "__main__":
    main()
