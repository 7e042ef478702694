"""What derivatives cost beside what they are derivatives of: python benchmarks/derivatives.py

Jacobians in evaluations of the function, Hessian-vector products in gradients, gradients for each example beside a
loop over them, indexing in a loop of n steps beside one of n/4. Every number is a ratio of two medians that were
timed in turns in one process; PyTorch's (torch.func) are measured the same way in a process of its own, where it is
installed. `--json FILE` writes the same as JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Measure(NamedTuple):
    """`part` against `whole`: the ratio of their times is to be at most (or, with `at_least`, at least) the bar."""

    part: Callable
    whole: Callable
    bar: float
    at_least: bool = False


# --- the cases, for a library given by the few names in which the two differ ---


def residual_problem(lib):
    """1,000 residuals of a damped oscillation in 5 parameters."""
    t, y = lib.array(np.linspace(0, 1, 1000)), lib.array(lib.random.standard_normal(1000))
    p = lib.array(lib.random.standard_normal(5))

    def residual(p):
        return p[0] * lib.exp(-p[1] * t) + p[2] * lib.sin(p[3] * t) + p[4] - y

    return Measure(lambda: lib.columns(residual)(p), lambda: residual(p), 12)


def wide_problem(lib):
    """10 outputs in 10,000 inputs."""
    w, x = lib.array(lib.random.standard_normal((10, 10_000)) / 100), lib.array(lib.random.standard_normal(10_000))

    def f(x):
        return lib.tanh(w @ lib.tanh(x))

    return Measure(lambda: lib.rows(f)(x), lambda: f(x), 12)


def hessian_vector(lib, sizes, batch):
    """A multi-layer perceptron with tanh, in its weights."""
    weights = [lib.array(lib.random.standard_normal((a, b)) / a**0.5) for a, b in pairwise(sizes)]
    x, y = lib.array(lib.random.standard_normal((batch, sizes[0]))), lib.array(np.zeros((batch, sizes[-1])))

    def loss(weights):
        h = x
        for w in weights:
            h = lib.tanh(h @ w)
        return ((h - y) ** 2).mean()

    v = [lib.array(lib.random.standard_normal(tuple(w.shape))) for w in weights]
    return Measure(lambda: lib.hvp(loss, weights, v), lambda: lib.grad(loss)(weights), 4)


def each_example(lib, batch=64):
    """LeNet-5 on 28 x 28 images: a gradient for each of 64 examples, and a loop over them."""
    parameters, loss = lib.lenet()
    x = lib.array(lib.random.standard_normal((batch, 1, 28, 28)), "float32")
    y = lib.labels(lib.random.integers(0, 10, batch))
    together = lib.vmap(lib.grad(loss), (None, 0, 0))

    def one_by_one():
        return [lib.grad(loss)(parameters, x[i], y[i]) for i in range(batch)]

    return Measure(one_by_one, lambda: together(parameters, x, y), 3, at_least=True)


def indexing_loop(lib, n=4000):
    """n reads of a tensor of size n, forward and back: four times the steps should take four times as long."""

    def run(n):
        x = lib.leaf(np.ones(n))
        total = x[0]
        for i in range(1, n):
            total = total + x[i]
        total.backward()

    return Measure(lambda: run(n), lambda: run(n // 4), 5)


CASES = {
    "Jacobian 1000 x 5": (residual_problem, "evaluations"),
    "Jacobian 10 x 10000": (wide_problem, "evaluations"),
    "Hessian times v, MLP 20-32-32-1": (lambda lib: hessian_vector(lib, (20, 32, 32, 1), 100), "gradients"),
    "Hessian times v, MLP 784-256-128-10": (lambda lib: hessian_vector(lib, (784, 256, 128, 10), 64), "gradients"),
    "gradients of 64 examples, LeNet-5": (each_example, "times as fast as a loop"),
    "gradient of 4000 reads by index": (indexing_loop, "times as long as of 1000"),
}


# --- the two libraries ---


class Minigrad:
    def __init__(self):
        import minigrad as mg

        self.mg, self.random = mg, np.random.default_rng(0)
        self.exp, self.sin, self.tanh, self.grad, self.hvp, self.vmap = (
            mg.exp,
            mg.sin,
            mg.tanh,
            mg.grad,
            mg.hvp,
            mg.vmap,
        )
        self.columns = self.rows = mg.jacobian

    def array(self, values, dtype="float64"):
        return self.mg.tensor(values, dtype=dtype)

    def leaf(self, values):
        return self.mg.tensor(values, requires_grad=True)

    def labels(self, values):
        return self.mg.tensor(values)

    def lenet(self):
        from minigrad import nn

        model = nn.lenet5()
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parameters, x, y):
            return nn.functional.cross_entropy(nn.functional_call(model, parameters, x[None]), y[None])

        return parameters, loss


class PyTorch:
    def __init__(self):
        import torch
        from torch import func

        self.torch, self.func, self.random = torch, func, np.random.default_rng(0)
        self.exp, self.sin, self.tanh, self.grad, self.vmap = torch.exp, torch.sin, torch.tanh, func.grad, func.vmap
        self.columns, self.rows = func.jacfwd, func.jacrev

    def array(self, values, dtype="float64"):
        return self.torch.tensor(values, dtype=getattr(self.torch, dtype))

    def leaf(self, values):
        return self.torch.tensor(values, requires_grad=True)

    def labels(self, values):
        return self.torch.tensor(values)

    def hvp(self, f, x, v):
        return self.func.jvp(self.func.grad(f), (x,), (v,))[1]

    def lenet(self):
        from torch import nn

        features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        features += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        head = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
        model = nn.Sequential(*features, *head)
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parameters, x, y):
            return nn.functional.cross_entropy(self.func.functional_call(model, parameters, (x[None],)), y[None])

        return parameters, loss


LIBRARIES = {"minigrad": Minigrad, "pytorch": PyTorch}


# --- timing ---


def measure(library: str, turns: int) -> dict[str, tuple[float, float]]:
    """For each case, (ratio, seconds of the part)."""
    found = {}
    for name, (make, _) in CASES.items():
        case = make(LIBRARIES[library]())
        times: tuple[list[float], list[float]] = ([], [])
        inner = [repeats(f) for f in (case.part, case.whole)]
        for _ in range(turns):
            for column, f, n in zip(times, (case.part, case.whole), inner, strict=True):
                start = time.perf_counter()
                for _ in range(n):
                    f()
                column.append((time.perf_counter() - start) / n)
        part, whole = map(statistics.median, times)
        found[name] = (part / whole, part)
    return found


def repeats(f: Callable, seconds: float = 0.02) -> int:
    """How many calls make a turn long enough to time; also warms up."""
    f()
    start = time.perf_counter()
    f()
    return max(1, int(seconds / (time.perf_counter() - start)))


def bar_of(name: str) -> tuple[float, bool]:
    case = CASES[name][0](Minigrad())
    return case.bar, case.at_least


def in_its_own_process(library: str, turns: int) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}  # each library chooses
    command = [sys.executable, __file__, "--worker", library, "--turns", str(turns)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--json")
    parser.add_argument("--worker", choices=LIBRARIES)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker, options.turns)))
        return
    libraries = [name for name in LIBRARIES if name == "minigrad" or importlib.util.find_spec("torch")]
    found = {library: in_its_own_process(library, options.turns) for library in libraries}
    print(f"{'':40}{'minigrad':>18}{'PyTorch':>18}  bar")
    for name, (_, unit) in CASES.items():
        bar, at_least = bar_of(name)
        columns = "".join(
            f"{found[lib][name][0]:8.2f} {found[lib][name][1] * 1e3:6.2f} ms" if lib in found else f"{'':18}"
            for lib in LIBRARIES
        )
        print(f"{name:40}{columns}  {'at least' if at_least else 'at most'} {bar:g} {unit}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
