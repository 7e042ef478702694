"""Two heads: one network that tells which digit it sees, and how far the image was turned.

    python examples/two_heads.py
    python examples/two_heads.py --quick --weight 0.1

A trunk computes features, two heads read them, and the loss is the sum of the heads' losses, one of them with a weight
(Caruana 1997, "Multitask learning"). One backward pass fills the trunk's gradient from both. What is gained is a model
of half the size for both tasks, and, where one task's features are of use to the other, accuracy. After this file you
know how a model with two outputs is trained, and why to compare it with two models of its own kind before praising it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from digits_recipe import BATCH, RATE, Scores, Table, network, parse, probabilities, repeat, report, score, split, train

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.data.augmentation import affine_matrices, affine_warp
from minigrad.nn.functional import cross_entropy

ANGLES = (-40, -20, 0, 20, 40)  # degrees; which of them is the second task
FULL = {"repeats": 10, "epochs": 30, "images": 500, "weight": 1.0}
QUICK = {"repeats": 2, "epochs": 10, "images": 300, "weight": 1.0}
PAIRS = [("digit, two heads", "digit, a model of its own"), ("angle, two heads", "angle, a model of its own")]


class TwoHeads(nn.Module):
    """The network of the other examples up to its last layer, and two last layers."""

    def __init__(self, seed: int):
        super().__init__()
        self.trunk = network(seed)[:-1]
        self.digit = nn.Linear(64, 10)
        self.angle = nn.Linear(64, len(ANGLES))

    def forward(self, images: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        features = self.trunk(images)
        return self.digit(features), self.angle(features)


def main(arguments: Sequence[str] | None = None) -> Table:
    """Print the table; returns it, the scores of each repetition by row."""
    options = parse(__doc__, arguments, FULL, QUICK)
    table = repeat(once, options)
    sizes = [sum(p.size for p in m.parameters()) for m in (TwoHeads(0), network(0), network(0, len(ANGLES)))]
    report(
        f"{options.images} images, {options.epochs} epochs, weight {options.weight:g}, {sizes[0]:,} parameters "
        f"against {sizes[1] + sizes[2]:,}", table, PAIRS, options,
    )  # fmt: skip
    return table


def once(seed: int, options: argparse.Namespace) -> Scores:
    """One repetition: a model for each task, and one for both."""
    training, test = (turned(part, seed) for part in split(seed, options.images, validate=options.validate))
    images, digits, angles = training.arrays
    alone = [
        train(network(seed), ArrayDataset(images, digits), seed, options.epochs),
        train(network(seed, len(ANGLES)), ArrayDataset(images, angles), seed, options.epochs),
    ]
    both = train_both(TwoHeads(seed), training, seed, options)
    heads = [nn.Sequential(both.trunk, both.digit), nn.Sequential(both.trunk, both.angle)]
    found = {}
    for task, own, head, labels in zip(("digit", "angle"), alone, heads, test.arrays[1:], strict=True):
        found[f"{task}, a model of its own"] = score(probabilities(own, test.images), labels)
        found[f"{task}, two heads"] = score(probabilities(head, test.images), labels)
    return found


def turned(images: ArrayDataset, seed: int) -> ArrayDataset:
    """Every image turned by one of the ANGLES; fields: image, digit, number of the angle."""
    which = np.random.default_rng(seed).integers(len(ANGLES), size=len(images))
    matrices = affine_matrices(np.radians(ANGLES)[which])
    return ArrayDataset(affine_warp(images.images, matrices), images.labels, which)


def train_both(model: TwoHeads, training: ArrayDataset, seed: int, options: argparse.Namespace) -> TwoHeads:
    """Train both heads at once on the weighted sum of their losses."""
    loader = DataLoader(training, BATCH, shuffle=True, seed=seed, prefetch=0)
    optimizer = optim.AdamW(model.parameters(), lr=RATE)
    schedule = optim.OneCycleLR(optimizer, RATE, epochs=options.epochs, steps_per_epoch=len(loader))
    for _ in range(options.epochs):
        for images, digits, angles in loader:
            digit, angle = model(images)
            loss = cross_entropy(digit, digits) + options.weight * cross_entropy(angle, angles)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


if __name__ == "__main__":
    main()
