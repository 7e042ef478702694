"""Levenberg-Marquardt against Adam: a small network through 200 points, and how long each needs for the same loss.

    python examples/fit_mlp.py
    python examples/fit_mlp.py --seeds 3 --patience 30
    python examples/fit_mlp.py --plot loss.png
    python examples/fit_mlp.py --quick

A network of 481 weights (1-20-20-1) learns a wavy curve without noise, as when it shall stand in for a costly formula.
Levenberg-Marquardt sees every point's residual and how each weight moves it, a Jacobian (200, 481), and solves for all
weights at once; Adam sees one gradient, and is a hundred times cheaper a step. Adam gets several learning rates, each
with a cosine schedule over all the time it has, and the best of them counts. After this file you know how many digits
of a fit a first-order method gives, and what the next ones cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional_call

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
Trace = list[tuple[float, float]]
"""Seconds since the start and the loss then, step by step."""


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Trace]]:
    """Print the table, and draw it if asked; returns the traces by method, for each seed."""
    options = parse(arguments)
    x = mg.tensor(np.linspace(-1, 1, 200)[:, None])
    y = curve(x)
    runs = []
    for seed in range(options.seeds):
        models = {"LM": network(seed)}
        traces = {"LM": run_lm(models["LM"], x, y, options.target)}
        budget = options.patience * traces["LM"][-1][0]
        for rate in RATES[: 2 if options.quick else None]:
            name = f"Adam, rate {rate:g}"
            models[name] = network(seed)
            traces[name] = run_adam(models[name], x, y, rate, options.target, budget)
        report(seed, traces, models, options.target)
        runs.append(traces)
    if options.plot:
        draw(runs[0], options)
    return runs


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="how many first weights are tried")
    parser.add_argument("--target", type=float, help="the mean squared error to reach: 1e-8 (with --quick 1e-3)")
    parser.add_argument("--patience", type=float, help="how many times LM's seconds each rate of Adam gets: 12 (2)")
    parser.add_argument("--plot", help="write a picture of loss over seconds to this file")
    parser.add_argument("--quick", action="store_true", help="so short that the results mean nothing")
    options = parser.parse_args(arguments)
    options.target = options.target or (1e-3 if options.quick else 1e-8)
    options.patience = options.patience or (2.0 if options.quick else 12.0)
    if not (options.seeds >= 1 and options.target > 0 and options.patience > 0):
        parser.error("--seeds, --target and --patience must be above 0")
    return options


def curve(x: mg.Tensor) -> mg.Tensor:
    """What is learned, of the inputs' shape."""
    return mg.sin(8 * x**2) + 0.5 * mg.cos(15 * x)


def network(seed: int) -> nn.Module:
    """1-20-20-1 in float64: for eight digits, float32 would be the limit and not the method."""
    mg.manual_seed(seed)
    layers = nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1)
    return nn.Sequential(*layers).double()


def run_lm(model: nn.Module, x: mg.Tensor, y: mg.Tensor, target: float) -> Trace:
    """Damped least squares with Levenberg's lambda I, which suits weights that all have about one size."""
    trace: Trace = []
    began = time.perf_counter()

    def seen(intermediate_result: optim.OptimizeResult) -> bool:
        loss = 2 * intermediate_result.cost / y.size
        trace.append((time.perf_counter() - began, loss))
        return loss <= target

    start = {name: weight.detach() for name, weight in model.named_parameters()}
    found = optim.least_squares(
        lambda weights: functional_call(model, weights, x) - y, start, method="levenberg", callback=seen, max_nfev=1000
    )
    model.load_state_dict(found.x)
    return trace


def run_adam(model: nn.Module, x: mg.Tensor, y: mg.Tensor, rate: float, target: float, budget: float) -> Trace:
    """Adam on all points at once for `budget` seconds, the rate falling from `rate` to 0 along half a cosine."""
    trace: Trace = []
    optimizer = optim.Adam(model.parameters(), lr=rate)
    began = time.perf_counter()
    while (seconds := time.perf_counter() - began) < budget and not (trace and trace[-1][1] <= target):
        optimizer.param_groups[0]["lr"] = rate * (1 + np.cos(np.pi * seconds / budget)) / 2
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        trace.append((time.perf_counter() - began, loss.item()))
    return trace


def seconds_to(trace: Trace, loss: float) -> float | None:
    """When a loss was first reached; None if never."""
    return next((seconds for seconds, reached in trace if reached <= loss), None)


def report(seed: int, traces: dict[str, Trace], models: dict[str, nn.Module], target: float) -> None:
    """Print the seconds to each of some losses, and how many times as long as LM the best Adam needs.

    "between" is the error of the last weights at points halfway between those that were learned.
    """
    losses = [loss for loss in (1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-10) if loss >= target]
    middles = mg.tensor((np.linspace(-1, 1, 200)[1:, None] + np.linspace(-1, 1, 200)[:-1, None]) / 2)
    print(f"seed {seed}: seconds to a loss of")
    print(f"{'':18}" + "".join(f"{loss:>9.0e}" for loss in losses) + f"{'lowest':>10}{'between':>10}{'steps':>8}")
    first: dict[str, list[float | None]] = {}
    for name, trace in traces.items():
        first[name] = [seconds_to(trace, loss) for loss in losses]
        with mg.no_grad():
            between = ((models[name](middles) - curve(middles)) ** 2).mean().item()
        lowest = min(loss for _, loss in trace)
        times = "".join(f"{'-' if seconds is None else f'{seconds:.2f}':>9}" for seconds in first[name])
        print(f"{name:18}{times}{lowest:10.1e}{between:10.1e}{len(trace):8d}")
    ours, ratios = first.pop("LM"), []
    given = min(traces[name][-1][0] for name in first)  # the seconds that every rate had
    for time_of_lm, *times in zip(ours, *first.values(), strict=True):
        best = min((t for t in times if t is not None), default=None)
        if time_of_lm is None:
            ratios.append("-")
        else:
            ratios.append(f"> {given / time_of_lm:.0f}" if best is None else f"{best / time_of_lm:.1f}")
    print(f"{'best Adam / LM':18}" + "".join(f"{ratio:>9}" for ratio in ratios), flush=True)


def draw(traces: dict[str, Trace], options: argparse.Namespace) -> None:
    """Loss over seconds, both on logarithmic scales."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, trace in traces.items():
        seconds, losses = np.array(trace).T
        style = {"linewidth": 2.5, "color": "black"} if name == "LM" else {"linewidth": 1}
        axes.loglog(seconds, np.minimum.accumulate(losses), label=name, **style)
    axes.axhline(options.target, color="gray", linestyle=":")
    axes.set(
        xlabel="seconds", ylabel="lowest mean squared error so far", title="A 1-20-20-1 network through 200 points"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(options.plot, dpi=110)


if __name__ == "__main__":
    main()
