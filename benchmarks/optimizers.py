"""Optimizer steps, minigrad against PyTorch's default on the CPU, in one run: python benchmarks/optimizers.py

For 1 M parameters in 60 arrays and 10 M in 20, with the same starting values and gradients. Each library runs in a
process of its own, and the two take turns (A B A B ...), so that a machine whose speed drifts drifts for both; where
the first steps lead is compared before anything is timed. Printed is the median time of a step and, as ratio, PyTorch's
time over minigrad's: above 1 minigrad is faster. Optimizers that PyTorch lacks are timed alone. `--json FILE` writes
the same as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date

import numpy as np
from train_step import PINNED_KERNELS

# size: (shapes, steps in one turn)
SIZES: dict = {"1M": ([(130, 128)] * 60, 20), "10M": ([(500, 1000)] * 20, 3)}
BARS = {"SGD, momentum": 1.0, "Adam": 1.0}

# name: (class, options)
OPTIMIZERS = {
    "SGD": ("SGD", {}),
    "SGD, momentum": ("SGD", {"momentum": 0.9}),
    "SGD, nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "SGD, weight decay": ("SGD", {"momentum": 0.9, "weight_decay": 1e-4}),
    "HeavyBall": ("HeavyBall", {}),
    "Nesterov": ("Nesterov", {}),
    "NAGC": ("NAGC", {}),
    "NAGSC": ("NAGSC", {}),
    "Adagrad": ("Adagrad", {}),
    "Adadelta": ("Adadelta", {}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop, centered": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "Adam": ("Adam", {}),
    "Adam, skip": ("Adam", {"nonfinite": "skip"}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "AdamW": ("AdamW", {}),
    "Adamax": ("Adamax", {}),
    "NAdam": ("NAdam", {}),
    "RAdam": ("RAdam", {}),
    "Lion": ("Lion", {}),
    "Muon": ("Muon", {}),
    "Lookahead": ("Lookahead", {}),
}
LEFT_OUT = {("Muon", "10M")}  # it takes seconds
CASES = [f"{name} @ {size}" for size in SIZES for name in OPTIMIZERS if (name, size) not in LEFT_OUT]


class Steps:
    """An optimizer over parameters that keep their gradients."""

    def __init__(self, library, case):
        name, _, size = case.partition(" @ ")
        kind, options = OPTIMIZERS[name]
        shapes, self.steps = SIZES[size]
        self.steps = 1 if kind == "Muon" else self.steps
        random = np.random.default_rng(0)
        self.params = []
        for shape in shapes:
            p = library.tensor(random.standard_normal(shape, dtype=np.float32))
            p.requires_grad_()
            p.grad = library.tensor(random.standard_normal(shape, dtype=np.float32))
            self.params.append(p)
        optim = importlib.import_module(f"{library.__name__}.optim")
        if kind == "Lookahead":
            optimizer = optim.Lookahead(optim.SGD(self.params, momentum=0.9))
        else:
            optimizer = getattr(optim, kind)(self.params, **options)
        self.step = optimizer.step

    def moved(self):
        """How far four steps move a number, in the mean: what both libraries must agree upon."""
        before = [p.detach().numpy().copy() for p in self.params]
        for _ in range(4):
            self.step()
        pairs = zip(self.params, before, strict=True)
        return float(np.mean([np.abs(p.detach().numpy() - old).mean() for p, old in pairs]))


def in_pytorch(case: str) -> bool:
    kind, options = OPTIMIZERS[case.partition(" @ ")[0]]
    return kind not in ("HeavyBall", "Nesterov", "NAGC", "NAGSC", "Lion", "Lookahead") and "nonfinite" not in options


# --- one worker process for each library ---


def worker(name: str, threads: int) -> None:
    """Answer lines of 'case' with how far four steps move, then lines of 'turn' with seconds a step, until the end."""
    library = importlib.import_module(name)
    if name == "torch":
        library.set_num_threads(threads)
    running = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "case":
            running = Steps(library, argument)
            print(running.moved(), flush=True)
        elif command == "turn":
            running.step()  # caches warm up again after the other process's turn
            start = time.perf_counter()
            for _ in range(running.steps):
                running.step()
            print((time.perf_counter() - start) / running.steps, flush=True)


class Worker:
    """The parent's end of a worker process."""

    def __init__(self, name: str, threads: int):
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MINIGRAD_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(counts, str(threads))}
        for variable in PINNED_KERNELS:
            environment.pop(variable, None)
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, line: str) -> float:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the {self.name} worker stopped at {line!r}; its error stands above.")
        return float(answer)


def measure(case: str, workers: list[Worker], rounds: int) -> dict:
    """Medians over the rounds, and the median, smallest and largest of the ratios round by round."""
    workers = workers if in_pytorch(case) else workers[:1]
    moved = [worker.ask(f"case {case}") for worker in workers]
    rtol = 0.05 if case.startswith("Muon") else 1e-4  # PyTorch's iteration is in bfloat16
    if not np.allclose(moved, moved[0], rtol=rtol):
        raise SystemExit(f"{case}: the libraries do not compute the same: four steps move numbers by {moved}.")
    times: list[list[float]] = [[] for _ in workers]
    for turn in range(rounds + 1):
        for worker, record in zip(workers, times, strict=True):
            seconds = worker.ask("turn")
            if turn:  # the first turn warms up
                record.append(seconds)
            time.sleep(0.02)  # let the other library's threads fall asleep
    row = {"case": case, "minigrad_ms": statistics.median(times[0]) * 1e3}
    if len(workers) > 1:
        ratios = sorted(peer / ours for ours, peer in zip(*times, strict=True))
        row |= {"pytorch_ms": statistics.median(times[1]) * 1e3, "ratio": statistics.median(ratios)}
        row |= {"ratio_min": ratios[0], "ratio_max": ratios[-1]}
    return row


def shown(row: dict) -> str:
    text = f"{row['case']:26}{row['minigrad_ms']:13.3f}"
    if "ratio" in row:
        text += f"{row['pytorch_ms']:13.3f}{row['ratio']:8.2f}   ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
        bar = BARS.get(row["case"].partition(" @ ")[0])
        text += f"   bar {bar}: {'met' if row['ratio'] >= bar else 'MISSED'}" if bar else ""
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES, metavar="CASE", help="such as 'Adam @ 1M'")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each library that are counted")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="write the results to this file too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.threads)
        return
    workers = [Worker(name, arguments.threads) for name in ("minigrad", "torch")]
    print(f"{'case':26}{'minigrad ms':>13}{'PyTorch ms':>13}{'ratio':>8}   (smallest-largest)", flush=True)
    results = []
    for case in arguments.cases:
        results.append(measure(case, workers, arguments.rounds))
        print(shown(results[-1]), flush=True)
    if arguments.json:
        facts = {"date": str(date.today()), "machine": platform.processor() or platform.machine()}
        facts |= {"threads": arguments.threads, "rounds": arguments.rounds}
        with open(arguments.json, "w") as file:
            json.dump({**facts, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
