"""Whole training steps, minigrad against PyTorch eager, in one run: python benchmarks/train_step.py

Each library runs in a process of its own, and the two take turns (A B A B ...), so that a machine whose speed drifts
drifts for both. Model, starting weights, batch, optimizer and number of threads are the same; the two first losses are
compared before anything is timed. Printed is the median time of a step and, as ratio, PyTorch's time over minigrad's:
above 1 minigrad is faster. `--json FILE` writes the same as JSON.
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

# --- the cases: written once, since both libraries have the same names ---


def tiny_mlp(nn):
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def mlp(nn):
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet5(nn):
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def bn_cnn(nn):
    def block(channels, out):
        return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *block(3, 32),
        *block(32, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        *block(64, 64),
        nn.MaxPool2d(2),
        *block(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


# name: (model, input shape, classes (None: regression), optimizer and its options, steps in one turn)
MODELS = {
    "tiny-mlp": (tiny_mlp, (100, 2), None, ("SGD", {"lr": 0.01}), 200),
    "mlp": (mlp, (64, 784), 10, ("Adam", {"lr": 1e-3}), 30),
    "lenet5": (lenet5, (64, 1, 28, 28), 10, ("SGD", {"lr": 0.01, "momentum": 0.9}), 12),
    "bn-cnn": (bn_cnn, (64, 3, 32, 32), 10, ("SGD", {"lr": 0.01, "momentum": 0.9}), 2),
}
CASES = ["scalar-chain", *MODELS]


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

    def __init__(self, library, device, case):
        build, shape, classes, (optimizer, options), self.steps = MODELS[case]
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
            running = (
                ScalarChain(library, device) if argument == "scalar-chain" else Training(library, device, argument)
            )
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


# Each library is to choose its matrix kernels for the processor, as it does where nobody sets these.
PINNED_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


class Worker:
    """The parent's end of a worker process."""

    def __init__(self, name, threads, device):
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MINIGRAD_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(counts, str(threads))}
        for variable in PINNED_KERNELS:
            environment.pop(variable, None)
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads), "--device", device]
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
    print(f"{'case':14}{'minigrad ms':>13}{'PyTorch ms':>13}{'ratio':>8}   (smallest-largest)", flush=True)
    results = []
    for case in arguments.cases:
        row = measure(case, workers, arguments.rounds)
        results.append(row)
        spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
        print(
            f"{case:14}{row['minigrad_ms']:13.3f}{row['pytorch_ms']:13.3f}{row['ratio']:8.2f}   ({spread})",
            flush=True,
        )
    if arguments.json:
        facts = {"date": str(date.today()), "machine": platform.processor() or platform.machine()}
        facts |= {"threads": arguments.threads, "device": arguments.device, "rounds": arguments.rounds}
        with open(arguments.json, "w") as file:
            json.dump({**facts, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
