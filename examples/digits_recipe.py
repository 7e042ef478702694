"""What the examples on ensembles and transfer share: the digits, a small network, its training, and an honest table.

After this file you know how two results are compared if both depend on chance: each repetition draws its
own training images and starts from its own weights, all rows of a table go through the same repetitions, and a gain is
called one only where its 95 % interval, over seeds and over test images, leaves zero out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy, softmax
from minigrad.training import fit

RATE, BATCH = 5e-3, 32  # the rate of train_cnn.py; whatever else was tried was tried with --validate
# Student's t, 97.5 %, for 2, 3, ... repetitions.
T_95 = dict(enumerate((12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
                       2.145, 2.131, 2.120, 2.110, 2.101, 2.093), start=2))  # fmt: skip


Scores = dict[str, np.ndarray]
"""What `score` found, by row of a table."""
Table = dict[str, list[np.ndarray]]
"""The same of each repetition."""


# --- the command line ---


def parse(
    description: str | None, arguments: Sequence[str] | None, full: Mapping[str, Any], quick: Mapping[str, Any]
) -> argparse.Namespace:
    """The options of an example: --seed, --validate, --quick, and a number for each key of `full`.

    Those not given are taken from `full`, or with --quick from `quick`. Whole numbers are 1 or more, unless `full` has
    a 0 itself.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first repetition; the next ones count on")
    parser.add_argument("--validate", action="store_true", help="score on training images left out, not the test's")
    parser.add_argument("--quick", action="store_true", help="so small that the results mean nothing")
    for name, number in full.items():
        parser.add_argument(f"--{name}", type=type(number), help=f"default: {number} (with --quick {quick[name]})")
    options = parser.parse_args(arguments)
    for name, number in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, number)
        least = 1 if isinstance(number, int) and full[name] else 0
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: expected {least} or more")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: expected 0 or more")
    if options.repeats not in T_95:
        parser.error(f"--repeats {options.repeats}: expected {min(T_95)} to {max(T_95)}, to say how much is chance")
    return options


# --- data, network, training ---


def split(seed: int, images: int, *, validate: bool = False) -> tuple[ArrayDataset, ArrayDataset]:
    """`images` training images drawn by the seed, and the images to score on: the test's, or the training's others."""
    training, test = data.digits(train=True), data.digits(train=False)
    if not 1 <= images < len(training):
        raise SystemExit(f"--images {images}: expected 1 to {len(training) - 1}")
    order = np.random.default_rng(seed).permutation(len(training))
    others = ArrayDataset(*training[order[images:]])
    return ArrayDataset(*training[order[:images]]), others if validate else test


def network(seed: int, classes: int = 10) -> nn.Sequential:
    """64 pixels, 64 hidden units with batch-norm, scores; the seed decides the first weights."""
    mg.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, classes))


def train(
    model: nn.Module,
    training: ArrayDataset,
    seed: int,
    epochs: int,
    groups: list[dict] | None = None,
    transform: data.Transform | None = None,
) -> nn.Module:
    """Train with AdamW and one cycle of the rate; the seed decides the order of the images.

    `groups` are parameters with rates of their own, `{"params": ..., "lr": ...}`; all that is not frozen unless given.
    """
    groups = groups or [{"params": [p for p in model.parameters() if p.requires_grad], "lr": RATE}]
    loader = DataLoader(training, BATCH, shuffle=True, seed=seed, prefetch=0, transform=transform)
    optimizer = optim.AdamW(groups)
    rates = [group["lr"] for group in groups]
    schedule = optim.OneCycleLR(optimizer, rates, epochs=epochs, steps_per_epoch=len(loader))
    fit(model, cross_entropy, optimizer, loader, epochs=epochs, scheduler=schedule, progress=False)
    return model


# --- scores and the table ---


def probabilities(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """What a model gives each class, (N, classes), in evaluation mode."""
    model.eval()
    with mg.no_grad():
        return softmax(model(mg.tensor(images)), dim=1).numpy()


def score(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image is taken for what it is, and -log p(right class): array, shape (2, N).

    Of probabilities (N, classes); or of a stack of them (members, N, classes), then the mean over the members.
    """
    places = np.broadcast_to(labels[:, None], (*predicted.shape[:-1], 1))
    p = np.take_along_axis(predicted, places, axis=-1)[..., 0]
    both = np.stack([predicted.argmax(axis=-1) == labels, -np.log(np.maximum(p, 1e-12))])
    return both.reshape(2, -1, len(labels)).mean(axis=1)


def repeat(once: Callable[..., Scores], options: argparse.Namespace) -> Table:
    """The scores by row, one of each repetition; `once(seed, options)` gives those of one."""
    found = [once(options.seed + i, options) for i in range(options.repeats)]
    return {row: [scores[row] for scores in found] for row in found[0]}


def report(what: str, table: Table, pairs: Iterable[tuple[str, str]], options: argparse.Namespace) -> None:
    """Print mean and standard deviation of each row, and what the first row of each pair gains over the second."""
    seeds = f"seeds {options.seed} to {options.seed + options.repeats - 1}"
    print(f"{what}; {seeds}{', scored on training images left out' if options.validate else ''}\n")
    print(f"{'mean ± standard deviation':36}{'accuracy':>15}{'log loss':>16}")
    for row, scores in table.items():
        means = [each.mean(axis=1) for each in scores]
        (accuracy, loss), (spread, loss_spread) = np.mean(means, axis=0), np.std(means, axis=0, ddof=1)
        print(f"{row:36}{accuracy:8.2%} ± {spread * 100:4.2f}{loss:9.3f} ± {loss_spread:.3f}")
    print("\ngain, with its 95 % interval, in points of accuracy and in log loss")
    for row, other in pairs:
        (points, width), (loss, loss_width) = gain(table[row], table[other])
        print(f"{row} against {other}:")
        print(f"    {points:+.2f} ± {width:.2f}, {word(points, width)}; {loss:+.3f} ± {loss_width:.3f}, "
              f"{word(loss, loss_width)}")  # fmt: skip


def gain(scores: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Points of accuracy won and log loss saved, each with half the width of its 95 % interval: array, shape (2, 2).

    Other seeds would give another mean, and so would other images to score on, which all repetitions have in common:
    the variances of both are added. Student's t with the degrees of freedom of the repetitions, which are fewer.
    """
    gains = np.subtract(scores, others) * [[100], [-1]]  # (repetitions, 2, N)
    repetitions, _, images = gains.shape
    over_seeds = gains.mean(axis=2).var(axis=0, ddof=1) / repetitions
    over_images = gains.mean(axis=0).var(axis=1, ddof=1) / images
    widths = T_95[repetitions] * np.sqrt(over_seeds + over_images)
    return np.stack([gains.mean(axis=(0, 2)), widths], axis=1)


def word(mean: float, width: float) -> str:
    """What a mean and the half-width of its interval say."""
    if abs(mean) <= width:
        return "within the noise"
    return "better" if mean > 0 else "worse"
