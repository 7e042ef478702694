"""Which optimizer for the embedded digits, each at a rate found for it: python benchmarks/choose_optimizer.py

Two models, an MLP and LeNet-5 with batch-norm, at constant rates, in batches of 64, without augmentation. The rate is
looked for on the grid ..., 0.1, 0.3, 1, 3, ..., walking on as long as the best stands at an end: the best has the
highest validation accuracy in the mean over the second half of the epochs and over two seeds. Then other seeds train
at it. Printed are which of the rates tried came within a point of the best (a wide range forgives a guess), the first
epoch with 95 and with 97 % validation accuracy and the test accuracy after the last epoch (means over the seeds), and
the CPU seconds of a run. The test images choose nothing. `--out FOLDER` writes the same as a dated .md and .json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.data import DataLoader, Subset, stratified_split
from minigrad.nn.functional import cross_entropy
from minigrad.training import History, TrainingError, evaluate, fit

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.mlp(64, 10),
    "lenet5": lambda: nn.lenet5(1, 10, image_size=8, batch_norm=True),
}
TARGETS = (0.95, 0.97)  # of the validation images
SEARCH_SEEDS = (100, 101)  # not those of the final runs
POINT = 0.01  # of accuracy


class MuonAndAdamW:
    """Muon for the hidden layers' matrices, AdamW with its rate of 3e-3 for the rest, stepping as one."""

    def __init__(self, params: Iterable[mg.Tensor], lr: float):
        params = list(params)
        matrices = [i for i, p in enumerate(params) if p.ndim == 2]
        hidden = {i for i in matrices if 0 < i < matrices[-1]}  # neither the first layer's nor the last's
        self.parts = [
            optim.Muon([params[i] for i in sorted(hidden)], lr=lr),
            optim.AdamW([p for i, p in enumerate(params) if i not in hidden], lr=3e-3),
        ]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()


# name: (optimizer from parameters and lr, the middle of its first grid)
OPTIMIZERS: dict[str, tuple[Callable[..., Any], float]] = {
    "SGD": (optim.SGD, 0.1),
    "Momentum": (partial(optim.SGD, momentum=0.9), 0.03),
    "HeavyBall": (optim.HeavyBall, 0.03),
    "Nesterov": (optim.Nesterov, 0.03),
    "NAGC": (optim.NAGC, 0.01),
    "NAGSC": (optim.NAGSC, 0.03),
    "Adagrad": (optim.Adagrad, 0.03),
    "Adadelta": (optim.Adadelta, 1.0),
    "RMSprop": (optim.RMSprop, 1e-3),
    "Adam": (optim.Adam, 3e-3),
    "AMSGrad": (partial(optim.Adam, amsgrad=True), 3e-3),
    "AdamW": (optim.AdamW, 3e-3),
    "Adamax": (optim.Adamax, 0.01),
    "NAdam": (optim.NAdam, 3e-3),
    "RAdam": (optim.RAdam, 3e-3),
    "Lion": (optim.Lion, 3e-4),
    "Muon": (MuonAndAdamW, 0.03),
    "Lookahead": (lambda params, lr: optim.Lookahead(optim.SGD(params, lr=lr, momentum=0.9)), 0.1),
}


def train(model: str, optimizer: str, rate: float, seed: int, epochs: int) -> tuple[History | None, float, float]:
    """A run: its history, None if the loss stopped being a number; the test accuracy at its end; its CPU seconds."""
    training, test = data.digits(train=True), data.digits(train=False)
    kept, cut_off = stratified_split(training.labels, 0.2, seed=0)
    loader = DataLoader(Subset(training, kept), 64, shuffle=True, seed=seed, prefetch=0)
    validation = DataLoader(Subset(training, cut_off), 500, prefetch=0, seed=seed)
    mg.manual_seed(seed)
    network = MODELS[model]()
    stepper = OPTIMIZERS[optimizer][0](network.parameters(), lr=rate)
    began = time.process_time()
    try:
        history = fit(network, cross_entropy, stepper, loader, epochs=epochs, validation=validation, progress=False)
    except TrainingError:
        return None, 0.0, 0.0
    seconds = time.process_time() - began
    return history, evaluate(network, DataLoader(test, 500, prefetch=0, seed=seed), cross_entropy)[1], seconds


def rate_at(place: int) -> float:
    """The grid's rates: ..., 0.1, 0.3, 1, 3, ...; 1 is at place 0."""
    power, odd = divmod(place, 2)
    return float(f"{3 if odd else 1}e{power}")


def quality(model: str, optimizer: str, rate: float, epochs: int) -> float:
    """Validation accuracy, in the mean over the second half of the epochs and the seeds of the search; 0: diverged."""
    histories = [train(model, optimizer, rate, seed, epochs)[0] for seed in SEARCH_SEEDS]
    if None in histories:
        return 0.0
    return statistics.mean(value for history in histories for value in history["val_accuracy"][epochs // 2 :])


def search(model: str, optimizer: str, epochs: int) -> dict[float, float]:
    """Quality by rate, in rising order of the rate, with the best inside and not at an end."""
    middle = next(place for place in range(-20, 20) if rate_at(place) == OPTIMIZERS[optimizer][1])
    places, tried = [middle - 1, middle, middle + 1], {}
    while True:
        for place in places:
            if place not in tried:
                try:
                    tried[place] = quality(model, optimizer, rate_at(place), epochs)
                except ValueError:  # NAGSC refuses rates above 1
                    tried[place] = 0.0
        best = max(tried, key=tried.__getitem__)
        places = [best - 1, best + 1]
        if all(place in tried for place in places):
            return {rate_at(place): tried[place] for place in sorted(tried)}


def measure(model: str, optimizer: str, seeds: int, epochs: int) -> dict[str, Any]:
    """A row of the table."""
    tried = search(model, optimizer, epochs)
    rate = max(tried, key=tried.__getitem__)
    good = [other for other, value in tried.items() if value >= tried[rate] - POINT]
    runs = [train(model, optimizer, rate, seed, epochs) for seed in range(seeds)]
    finished = [run for run in runs if run[0] is not None]
    if not finished:
        raise SystemExit(f"{model}, {optimizer}: at lr {rate} every seed diverged, though none of the search's did.")
    return {
        "model": model,
        "optimizer": optimizer,
        "lr": rate,
        "good": [min(good), max(good)],
        "tried": tried,
        "epochs_to": {f"{target:.0%}": [first_epoch(run[0], target) for run in finished] for target in TARGETS},
        "test_accuracy": [accuracy for _, accuracy, _ in finished],
        "diverged": seeds - len(finished),
        "seconds": statistics.median(seconds for _, _, seconds in finished),
    }


def first_epoch(history: History, target: float) -> int | None:
    """The first epoch after which the validation accuracy was at least the target."""
    return next((row["epoch"] for row in history.rows if row["val_accuracy"] >= target), None)


# --- the table ---

COLUMNS = ("optimizer", "lr", "within a point", "epochs to 95 %", "to 97 %", "test accuracy", "spread", "CPU seconds")
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def shown(row: dict[str, Any]) -> str:
    """A row as Markdown."""
    low, high = row["good"]
    accuracies = [100 * accuracy for accuracy in row["test_accuracy"]]
    lost = f" ({row['diverged']} diverged)" if row["diverged"] else ""
    cells = [row["optimizer"], f"{row['lr']:g}", f"{low:g}" if low == high else f"{low:g} to {high:g}"]
    cells += [mean_epoch(epochs) for epochs in row["epochs_to"].values()]
    cells += [f"{statistics.mean(accuracies):.1f} %", f"{min(accuracies):.1f} to {max(accuracies):.1f}{lost}"]
    return "| " + " | ".join([*cells, f"{row['seconds']:.1f}"]) + " |"


def mean_epoch(epochs: Sequence[int | None]) -> str:
    """The mean over the seeds, and how many got there if not all did."""
    there = [epoch for epoch in epochs if epoch is not None]
    if not there:
        return "-"
    missing = f" ({len(there)} of {len(epochs)})" if len(there) < len(epochs) else ""
    return f"{statistics.mean(there):.1f}{missing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="runs at the rate found")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, help="folder for the dated .md and .json")
    options = parser.parse_args()
    if options.seeds < 1 or options.epochs < 2:
        parser.error("--seeds must be 1 or more, --epochs 2 or more")

    cases = [(model, optimizer) for model in options.models for optimizer in options.optimizers]
    rows, lines = [], []
    with tqdm(cases) as bar:
        for model, optimizer in bar:
            bar.set_postfix_str(f"{model} {optimizer}")
            if not rows or rows[-1]["model"] != model:
                lines += ["", f"{model}:", "", HEADER]
            rows.append(measure(model, optimizer, options.seeds, options.epochs))
            lines.append(shown(rows[-1]))
    print("\n".join(lines[1:]))
    if options.out:
        write(options, rows, lines)


def write(options: argparse.Namespace, rows: list[dict[str, Any]], lines: list[str]) -> None:
    """The same as Markdown and JSON, named by the day."""
    today = str(date.today())
    command = " ".join(["python", "benchmarks/choose_optimizer.py", *sys.argv[1:]])
    title = f"# Optimizers on the embedded digits, {today}\n"
    told = f"`{command}`: {options.epochs} epochs, {options.seeds} seeds after the search.\n"
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{today}-choosing"
    file.with_suffix(".md").write_text("\n".join([title, told, *lines[1:], ""]))
    facts = {"date": today, "machine": platform.processor() or platform.machine(), "command": command}
    file.with_suffix(".json").write_text(json.dumps({**facts, "results": rows}, indent=1))
    print(f"written: {file}.md and .json")


if __name__ == "__main__":
    main()
