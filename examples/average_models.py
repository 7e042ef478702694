"""Averages of models: of what they predict, and of their weights.

    python examples/average_models.py
    python examples/average_models.py --quick

Networks that start from different weights make different mistakes, so the mean of their probabilities is better than
they are. The mean of their *weights* is worse than any: unit 3 of one has nothing to do with unit 3 of another. Along
one run it is another matter: late weights lie around one minimum, and their mean lies nearer to it, at the price of a
single model (stochastic weight averaging, Izmailov et al. 2018; or an exponential moving average). After this file
you know both kinds, and what batch-norm needs after the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from digits_recipe import BATCH, RATE, Scores, Table, network, parse, probabilities, repeat, report, score, split, train

from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy
from minigrad.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from minigrad.training import fit

FULL = {"repeats": 10, "epochs": 30, "members": 5, "images": 500}
QUICK = {"repeats": 2, "epochs": 8, "members": 3, "images": 300}
PAIRS = [
    ("mean of the predictions", "one model"),
    ("mean of their weights", "one model"),
    ("its even mean (SWA)", "constant rate, last weights"),
    ("its moving mean (EMA)", "constant rate, last weights"),
    ("its even mean (SWA)", "one model"),
]


def main(arguments: Sequence[str] | None = None) -> Table:
    """Print the table; returns it, the scores of each repetition by row."""
    options = parse(__doc__, arguments, FULL, QUICK)
    table = repeat(once, options)
    report(
        f"{options.members} models, {options.images} training images, {options.epochs} epochs", table, PAIRS, options
    )
    return table


def once(seed: int, options: argparse.Namespace) -> Scores:
    """One repetition: independent models and their two averages, then a run with averages along the way."""
    training, test = split(seed, options.images, validate=options.validate)
    models = train_members(training, seed, options)
    members = np.stack([probabilities(model, test.images) for model in models])
    predicted = {
        "one model": members,
        "mean of the predictions": members.mean(axis=0),
        "mean of their weights": probabilities(mean_of_weights(models, training), test.images),
    }
    for name, model in train_with_averages(training, seed, options).items():
        predicted[name] = probabilities(model, test.images)
    return {name: score(each, test.labels) for name, each in predicted.items()}


def train_members(training: ArrayDataset, seed: int, options: argparse.Namespace) -> list[nn.Module]:
    """Models that differ in their first weights and in the order of the images, and in nothing else."""
    seeds = [1000 * seed + i for i in range(options.members)]
    return [train(network(s), training, s, options.epochs) for s in seeds]


def mean_of_weights(models: Sequence[nn.Module], training: ArrayDataset) -> AveragedModel:
    """One model with the mean of the weights of all."""
    averaged = AveragedModel(models[0])
    for model in models:
        averaged.update_parameters(model)
    update_bn(DataLoader(training, BATCH, shuffle=True, seed=0, prefetch=0), averaged)
    return averaged


def train_with_averages(training: ArrayDataset, seed: int, options: argparse.Namespace) -> dict[str, nn.Module]:
    """One run at a rate that stays, with two averages of its weights; without them it ends wherever the noise is."""
    loader = DataLoader(training, BATCH, shuffle=True, seed=1000 * seed, prefetch=0)
    model = network(1000 * seed)
    optimizer = optim.AdamW(model.parameters(), lr=RATE)
    even, lately = AveragedModel(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def second_half(history) -> None:
        if 2 * len(history) > options.epochs:
            even.update_parameters(model)

    fit(
        model, cross_entropy, optimizer, loader,
        epochs=options.epochs, callback=second_half, after_step=lambda: lately.update_parameters(model), progress=False,
    )  # fmt: skip
    for averaged in (even, lately):
        update_bn(loader, averaged)  # the running statistics of none of the averaged models are right
    return {"constant rate, last weights": model, "its even mean (SWA)": even, "its moving mean (EMA)": lately}


if __name__ == "__main__":
    main()
