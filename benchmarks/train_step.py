"""Whole training steps, minigrad against PyTorch eager, in one run: python benchmarks/train_step.py

The cases are a chain of scalars, small models, training steps of the networks in `networks.py`, and inference by these
at batches of 1 and 128. Each library runs in a process of its own, and the two take turns (A B A B ...), so that a
machine whose speed drifts drifts for both. Model, starting weights, batch, optimizer and number of threads are the
same; the two first losses are compared before anything is timed. Printed is the median time of a step and, as ratio,
PyTorch's time over minigrad's: above 1 minigrad is faster. `--json FILE` writes the same as JSON.
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
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import environment, networks
from benchmarks.networks import bn_cnn, image_shape, lenet5, mlp, tiny_mlp

# --- the cases; the models stand in networks.py, written once for both libraries ---

# name: (model, input shape, classes (None: regression), optimizer and its options, steps in one turn)
MODELS = {
    "tiny-mlp": (tiny_mlp, (100, 2), None, ("SGD", {"lr": 0.01}), 200),
    "mlp": (mlp, (64, 784), 10, ("Adam", {"lr": 1e-3}), 30),
    "lenet5": (lenet5, (64, 1, 28, 28), 10, ("SGD", {"lr": 0.01, "momentum": 0.9}), 12),
    "bn-cnn": (bn_cnn, (64, 3, 32, 32), 10, ("SGD", {"lr": 0.01, "momentum": 0.9}), 2),
}
TRAINING_BATCH = 64
MODELS |= {
    name: (build, (TRAINING_BATCH, *image_shape(name)), 10, ("SGD", {"lr": 0.01, "momentum": 0.9}), 1)
    for name, build in networks.GRID.items()
    if name not in MODELS
}

INFERENCE = {
    f"{name}-inference-{batch}": (name, batch, steps) for name in networks.GRID for batch, steps in ((1, 10), (128, 1))
}
"""case: (model, batch, steps in one turn)"""

CASES = ["scalar-chain", *MODELS, *INFERENCE]


class ScalarChain:
    """2,000 scalar ops forward, and backward through them."""

    steps = 5

    def __init__(self, library, device):
        self.library = library
        self.x = library.tensor(0.5, requires_grad=True)
        self.a = library.tensor(1.1, requires_grad=True)

    def first_loss(self):
        return self.forward().item()

    def forward(self):
        x, a, tanh = self.x, self.a, self.library.tanh
        y = x
        for _ in range(500):
            y = y * a
            y = y + x
            y = tanh(y)
            y = y - 0.1
        return y

    def step(self):
        self.x.grad = self.a.grad = None
        self.forward().backward()


class Training:
    """One training step of a model: forward, loss, backward, update."""

    def __init__(self, library, device, case, batch=None):
        build, shape, classes, (optimizer, options), self.steps = MODELS[case]
        shape = shape if batch is None else (batch, *shape[1:])
        nn, optim = (importlib.import_module(f"{library.__name__}.{name}") for name in ("nn", "optim"))
        random = np.random.default_rng(0)
        model = build(nn)
        state = {key: drawn(random, key, tuple(value.shape)) for key, value in model.state_dict().items()}
        model.load_state_dict({key: library.tensor(value) for key, value in state.items()})
        self.model = model.to(device)
        self.loss = nn.MSELoss() if classes is None else nn.CrossEntropyLoss()
        self.optimizer = getattr(optim, optimizer)(self.model.parameters(), **options)
        target = random.standard_normal((shape[0], 1), dtype=np.float32)
        target = target if classes is None else random.integers(0, classes, shape[0])
        self.x = library.tensor(random.standard_normal(shape, dtype=np.float32)).to(device)
        self.target = library.tensor(target).to(device)

    def first_loss(self):
        self.model.eval()
        value = self.loss(self.model(self.x), self.target).item()
        self.model.train()
        return value

    def step(self):
        self.optimizer.zero_grad()
        self.loss(self.model(self.x), self.target).backward()
        self.optimizer.step()


class Inference(Training):
    """Scores of a batch, in evaluation mode and without a graph."""

    def __init__(self, library, device, case):
        name, batch, steps = INFERENCE[case]
        super().__init__(library, device, name, batch)
        self.library, self.steps = library, steps

    def first_loss(self):
        value = super().first_loss()
        self.model.eval()
        return value

    def step(self):
        with self.library.no_grad():
            self.model(self.x)


def case_named(case, library, device):
    """What a case's name stands for."""
    if case == "scalar-chain":
        return ScalarChain(library, device)
    return (Inference if case in INFERENCE else Training)(library, device, case)


def drawn(random, key, shape):
    """Starting weights: the same numbers for both libraries, of a size that keeps activations alive."""
    if key.endswith(("running_mean", "bias")):
        return np.zeros(shape, np.float32)
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
        return np.ones(shape, np.float32)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


# --- one worker process for each library ---


def worker(name: str, threads: int, device: str) -> None:
    """Answer lines of 'case' with the first loss, then lines of 'turn' with seconds a step, until 'end'."""
    library = importlib.import_module(name)
    if name == "torch":
        library.set_num_threads(threads)
    synchronize = synchronizer(name, device)
    running = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "case":
            running = None  # the case before gives its memory back
            running = case_named(argument, library, device)
            print(running.first_loss(), flush=True)
        elif command == "turn":
            running.step()  # caches warm up again after the other process's turn
            synchronize()
            start = time.perf_counter()
            for _ in range(running.steps):
                running.step()
            synchronize()
            print((time.perf_counter() - start) / running.steps, flush=True)


def synchronizer(name, device):
    if device == "cpu":
        return lambda: None
    if name == "torch":
        return importlib.import_module("torch").cuda.synchronize
    return importlib.import_module("cupy").cuda.get_current_stream().synchronize


PINNED_KERNELS = environment.PINNED_KERNELS


class Worker:
    """The parent's end of a worker process."""

    def __init__(self, name, threads, device):
        variables = {**os.environ, **dict.fromkeys(environment.THREADS, str(threads))}
        for variable in PINNED_KERNELS:
            variables.pop(variable, None)
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads), "--device", device]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
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
    losses = [worker.ask(f"case {case}") for worker in workers]
    if not np.isclose(*losses, rtol=1e-4):
        raise SystemExit(f"{case}: the libraries do not compute the same: first losses {losses}.")
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for worker, record in zip(workers, times, strict=True):
            seconds = worker.ask("turn")
            if turn:  # the first turn warms up
                record.append(seconds)
            time.sleep(0.02)  # let the other library's threads fall asleep
    ratios = sorted(peer / ours for ours, peer in zip(*times, strict=True))
    return {
        "case": case,
        "minigrad_ms": statistics.median(times[0]) * 1e3,
        "pytorch_ms": statistics.median(times[1]) * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each library that are counted")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blas-as-set", action="store_true", help=f"keep {', '.join(PINNED_KERNELS)}, if set")
    parser.add_argument("--json", help="write the results to this file too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.blas_as_set:
        globals()["PINNED_KERNELS"] = ()
    if arguments.worker:
        worker(arguments.worker, arguments.threads, arguments.device)
        return
    workers = [Worker(name, arguments.threads, arguments.device) for name in ("minigrad", "torch")]
    print(f"{'case':26}{'minigrad ms':>13}{'PyTorch ms':>13}{'ratio':>8}   (smallest-largest)", flush=True)
    results = []
    for case in arguments.cases:
        row = measure(case, workers, arguments.rounds)
        results.append(row)
        spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
        print(
            f"{case:26}{row['minigrad_ms']:13.3f}{row['pytorch_ms']:13.3f}{row['ratio']:8.2f}   ({spread})",
            flush=True,
        )
    if arguments.json:
        facts = {"date": str(date.today()), "machine": platform.processor() or platform.machine()}
        facts |= {"threads": arguments.threads, "device": arguments.device, "rounds": arguments.rounds}
        with open(arguments.json, "w") as file:
            json.dump({**facts, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
