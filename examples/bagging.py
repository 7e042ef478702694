"""Bagging: models trained on bootstrap samples, and an estimate of the test accuracy that costs no images.

    python examples/bagging.py
    python examples/bagging.py --wrong 20
    python examples/bagging.py --quick

Each model sees as many images as there are, drawn with replacement: some twice, and 1/e, some 37 %, not at all
(Breiman 1996, "Bagging predictors"). The mean of their probabilities is steadier than any of them. And for each
training image there are models that have never seen it: their mean on it is a prediction as for a new image, the
out-of-bag estimate (Breiman 1996, "Out-of-bag estimation"). After this file you know what bagging gains, what the
smaller variety of images costs, and why for networks the different first weights alone often do as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from digits_recipe import Scores, Table, network, parse, probabilities, repeat, report, score, split, train

from minigrad.data import ArrayDataset

FULL = {"repeats": 10, "epochs": 20, "members": 10, "images": 500, "wrong": 0}
QUICK = {"repeats": 2, "epochs": 8, "members": 4, "images": 300, "wrong": 0}
PAIRS = [
    ("bagging", "one model, a bootstrap sample"),
    ("bagging", "one model, all images"),
    ("bagging", "mean of models on all images"),
]


def main(arguments: Sequence[str] | None = None) -> Table:
    """Print the table; returns it, the scores of each repetition by row."""
    options = parse(__doc__, arguments, FULL, QUICK)
    table = repeat(once, options)
    report(
        f"{options.members} models, {options.images} training images, {options.wrong} % of their labels drawn by lot, "
        f"{options.epochs} epochs", table, PAIRS, options,
    )  # fmt: skip
    return table


def once(seed: int, options: argparse.Namespace) -> Scores:
    """One repetition: models on all images, and as many on bootstrap samples."""
    training, test = split(seed, options.images, validate=options.validate)
    training = with_wrong_labels(training, options.wrong, seed)
    everything = np.arange(len(training))
    samples = bootstrap(len(training), options.members, seed)
    whole = predict(training, [everything] * options.members, test.images, seed, options)
    bagged = predict(training, samples, np.concatenate([test.images, training.images]), seed, options)
    bagged, seen_before = bagged[:, : len(test)], bagged[:, len(test) :]
    estimate, judged = out_of_bag(seen_before, samples)
    return {
        "one model, all images": score(whole, test.labels),
        "one model, a bootstrap sample": score(bagged, test.labels),
        "mean of models on all images": score(whole.mean(axis=0), test.labels),
        "bagging": score(bagged.mean(axis=0), test.labels),
        "its out-of-bag estimate": score(estimate[judged], training.labels[judged]),
    }


def with_wrong_labels(images: ArrayDataset, percent: int, seed: int) -> ArrayDataset:
    """The images, so many percent of them with a label drawn by lot; by chance it may be the right one."""
    rng = np.random.default_rng([seed, 2])
    drawn = rng.permutation(len(images))[: len(images) * percent // 100]
    labels = images.labels.copy()
    labels[drawn] = rng.integers(10, size=len(drawn))
    return ArrayDataset(images.images, labels)


def bootstrap(images: int, members: int, seed: int) -> np.ndarray:
    """The images of each member, (members, images): as many as there are, drawn with replacement."""
    return np.random.default_rng([seed, 1]).integers(images, size=(members, images))


def predict(
    training: ArrayDataset, samples: Sequence, images: np.ndarray, seed: int, options: argparse.Namespace
) -> np.ndarray:
    """Probabilities (members, N, 10) by models that were each trained on a sample of the training images."""
    members = []
    for number, sample in enumerate(samples):
        own_seed = 1000 * seed + number
        model = train(network(own_seed), ArrayDataset(*training[sample]), own_seed, options.epochs)
        members.append(probabilities(model, images))
    return np.stack(members)


def out_of_bag(members: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each training image the mean over the models that have not seen it, (N, 10), and whether there are any.

    Parameters
    ----------
    members : array, shape (members, N, 10)
        Every model's probabilities of every training image.
    samples : array of int, shape (members, N)
        The images that each model was trained on.
    """
    unseen = np.stack([~np.isin(np.arange(members.shape[1]), sample) for sample in samples])
    count = unseen.sum(axis=0)
    total = (members * unseen[:, :, None]).sum(axis=0)
    return total / np.maximum(count, 1)[:, None], count > 0


if __name__ == "__main__":
    main()
