"""Snapshot ensemble: several models out of one run, whose rate falls to zero again and again.

    python examples/snapshot_ensemble.py
    python examples/snapshot_ensemble.py --quick

Where the rate has come down, the weights have settled in a minimum: keep a copy. Then the rate jumps up, throws them
out, and comes down elsewhere (Huang et al. 2017, "Snapshot ensembles: train 1, get M for free", with the rate of
Loshchilov & Hutter 2017, half a cosine with warm restarts). The mean of the copies' probabilities is the ensemble,
at the price of one run. After this file you know what that gains over one long run that ends in one minimum, and how
much remains to independent models, which cost as many runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from digits_recipe import BATCH, RATE, Scores, Table, network, parse, probabilities, repeat, report, score, split

from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy
from minigrad.training import fit

FULL = {"repeats": 10, "epochs": 60, "members": 5, "images": 500}
QUICK = {"repeats": 2, "epochs": 9, "members": 3, "images": 300}
PAIRS = [
    ("snapshot ensemble", "its members, alone"),
    ("snapshot ensemble", "its last member, alone"),
    ("snapshot ensemble", "one run, one cosine"),
    ("as many independent runs, mean", "one run, one cosine"),
]


def main(arguments: Sequence[str] | None = None) -> Table:
    """Print the table; returns it, the scores of each repetition by row."""
    options = parse(__doc__, arguments, FULL, QUICK)
    if options.epochs < options.members:
        raise SystemExit(f"--epochs {options.epochs}: too few for {options.members} cycles of at least one each")
    table = repeat(once, options)
    report(
        f"{options.members} cycles, {options.images} training images, {options.epochs} epochs", table, PAIRS, options
    )
    return table


def once(seed: int, options: argparse.Namespace) -> Scores:
    """One repetition: one long run, its time cut into cycles, and as many runs of its length as there are cycles."""
    training, test = split(seed, options.images, validate=options.validate)
    runs = [snapshots(training, 1000 * seed + i, options.epochs, cycles=1)[0] for i in range(options.members)]
    parts = snapshots(training, 1000 * seed, options.epochs, options.members)
    independent, members = (np.stack([probabilities(m, test.images) for m in models]) for models in (runs, parts))
    predicted = {
        "one run, one cosine": independent,
        "its members, alone": members,
        "its last member, alone": members[-1],
        "snapshot ensemble": members.mean(axis=0),
        "as many independent runs, mean": independent.mean(axis=0),
    }
    return {name: score(each, test.labels) for name, each in predicted.items()}


def snapshots(training: ArrayDataset, seed: int, epochs: int, cycles: int) -> list[nn.Module]:
    """Train for `epochs` in all, the rate falling to zero in each cycle; a copy of the model from the end of each."""
    model = network(seed)
    loader = DataLoader(training, BATCH, shuffle=True, seed=seed, prefetch=0)
    optimizer = optim.AdamW(model.parameters(), lr=2 * RATE)
    length = epochs // cycles
    schedule = optim.CosineAnnealingWarmRestarts(optimizer, T_0=length * len(loader))
    schedule.interval = "batch"
    kept: list[nn.Module] = []

    def keep(history) -> None:
        if len(history) % length == 0:
            kept.append(deepcopy(model))

    fit(
        model, cross_entropy, optimizer, loader,
        epochs=length * cycles, scheduler=schedule, callback=keep, progress=False,
    )  # fmt: skip
    return kept


if __name__ == "__main__":
    main()
