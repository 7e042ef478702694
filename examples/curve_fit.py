"""Two curves through measurements: their parameters, bands of confidence, and a robust fit that outliers do not move.

    python examples/curve_fit.py
    python examples/curve_fit.py --plot curves.png --repeats 500
    python examples/curve_fit.py --quick

A decay with known errors is fitted by `curve_fit`; a peak on a slope, every eighth point of it spoiled, by
`least_squares` with plain squares and with a robust loss. The measurements are made up, so that the truth is known:
the first fit is repeated on new errors, and it is counted how often the truth lies inside the band. After this file you
know how a band is made of a covariance and one Jacobian, what it promises, and what a robust loss repairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import optim

WIDE = 1.96
"""Standard deviations on either side that hold 95 of 100 normal errors."""


class Band(NamedTuple):
    """A fitted curve at some points: its values, and its standard deviation, both (points,)."""

    middle: np.ndarray
    deviation: np.ndarray


class Decay:
    """Three parameters, errors of known size."""

    x, names, truth, error = np.linspace(0, 2.5, 25), ("amplitude", "rate", "rest"), (2.5, 1.3, 0.5), 0.1

    @staticmethod
    def curve(x, amplitude, rate, rest):
        return amplitude * mg.exp(-rate * x) + rest


class Peak:
    """Five parameters: a bell on a straight line; some measurements are spoiled."""

    x, names = np.linspace(-4, 4, 80), ("height", "place", "width", "offset", "slope")
    truth, error = (3.0, 0.5, 0.8, 1.0, 0.2), 0.1

    @staticmethod
    def curve(x, height, place, width, offset, slope):
        return height * mg.exp(-0.5 * ((x - place) / width) ** 2) + offset + slope * x


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print both fits, and draw them if asked; returns the share of bands that held and the robust fit's gain."""
    options = parse(arguments)
    rng = np.random.default_rng(options.seed)
    x, y = measured(Decay, rng)
    best, covariance = optim.curve_fit(Decay.curve, x, y, p0=[1, 1, 1], sigma=Decay.error, absolute_sigma=True)
    show("decay", Decay, best, covariance)
    held = coverage(options.repeats, rng)
    print(f"the band of 95 % held the true curve in {held:.1%} of {options.repeats} repetitions, mean of all points\n")

    spoiled_x, spoiled_y = measured(Peak, rng)
    spoiled_y[rng.permutation(len(spoiled_y))[: len(spoiled_y) // 8]] += rng.uniform(1, 4, len(spoiled_y) // 8)
    fits = {loss: fit_peak(spoiled_x, spoiled_y, loss) for loss in ("linear", "huber")}
    fits["cauchy"] = fit_peak(spoiled_x, spoiled_y, "cauchy", start=fits["huber"].x)  # it has more than one minimum
    off = {}
    for loss, found in fits.items():
        show(f"peak with outliers, {loss} loss", Peak, found.x, found.cov)
        true_curve = evaluate(Peak.curve, spoiled_x, Peak.truth)
        off[loss] = float(np.sqrt(np.mean((evaluate(Peak.curve, spoiled_x, found.x) - true_curve) ** 2)))
        print(f"the fitted curve is off by {off[loss]:.3f} (root of the mean square)\n")
    if options.plot:
        draw(options.plot, (x, y, best, covariance), (spoiled_x, spoiled_y, fits))
    return {"held": held, **off}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the errors of the measurements")
    parser.add_argument("--repeats", type=int, help="fits to count how often the band holds: 1000 (with --quick 50)")
    parser.add_argument("--plot", help="write a picture of both fits to this file")
    parser.add_argument("--quick", action="store_true", help="so few repetitions that the count says little")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (50 if options.quick else 1000)
    return options


def measured(problem: type, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where was measured, and what: the true curve with normal errors."""
    truth = evaluate(problem.curve, problem.x, problem.truth)
    return problem.x, truth + problem.error * rng.standard_normal(truth.shape)


def evaluate(curve: Callable, x: np.ndarray, parameters: Sequence[float]) -> np.ndarray:
    """The curve's values, an array."""
    return curve(mg.tensor(x), *map(float, parameters)).numpy()


def fit_peak(
    x: np.ndarray, y: np.ndarray, loss: str, start: Sequence[float] = (2.0, 0.0, 1.0, 1.0, 0.0)
) -> optim.OptimizeResult:
    """From what one sees by eye. `f_scale` is from where on a residual counts as an outlier: twice the errors' size."""
    places, observed = mg.tensor(x), mg.tensor(y)
    return optim.least_squares(
        lambda p: Peak.curve(places, *(p[i] for i in range(5))) - observed, start, loss=loss, f_scale=2 * Peak.error
    )


def band(curve: Callable, x: np.ndarray, best: np.ndarray, covariance: np.ndarray) -> Band:
    """The fitted curve with its standard deviation: the parameters', carried over by the curve's derivatives.

    Where s is the row of derivatives of the curve at a point by the parameters, the variance there is s C s'.
    """
    places = mg.tensor(x)
    slopes = mg.jacobian(lambda p: curve(places, *(p[i] for i in range(len(best)))))(mg.Tensor(best)).numpy()
    return Band(evaluate(curve, x, best), np.sqrt(np.einsum("xi,ij,xj->x", slopes, covariance, slopes)))


def coverage(repeats: int, rng: np.random.Generator) -> float:
    """In what share of repetitions, with new errors each, the true value lies inside the band, mean over x."""
    inside = []
    for _ in range(repeats):
        x, y = measured(Decay, rng)
        best, covariance = optim.curve_fit(Decay.curve, x, y, p0=[1, 1, 1], sigma=Decay.error, absolute_sigma=True)
        middle, deviation = band(Decay.curve, x, best, covariance)
        inside.append(abs(middle - evaluate(Decay.curve, x, Decay.truth)) <= WIDE * deviation)
    return float(np.mean(inside))


def show(title: str, problem: type, best: np.ndarray, covariance: np.ndarray) -> None:
    """Print each parameter with its standard deviation, and the truth."""
    print(title)
    for name, value, deviation, truth in zip(
        problem.names, best, np.sqrt(np.diag(covariance)), problem.truth, strict=True
    ):
        print(f"    {name:9} {value:7.3f} ± {deviation:.3f}   true {truth:g}")


def draw(file: str, decay: tuple, peak: tuple) -> None:
    """Left the decay with its band, right the peak as each loss fits it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x, y, best, covariance = decay
    grid = np.linspace(0, 4, 200)
    middle, deviation = band(Decay.curve, grid, best, covariance)
    left.errorbar(x, y, Decay.error, fmt=".", color="gray", label="measured")
    left.plot(grid, middle, label="fit")
    left.fill_between(grid, middle - WIDE * deviation, middle + WIDE * deviation, alpha=0.3, label="95 % band")
    left.set(title="A decay, seen as far as x = 2.5", xlabel="x", ylim=(0, 3.5))
    x, y, fits = peak
    right.plot(x, y, ".", color="gray", label="measured, some spoiled")
    for loss, found in fits.items():
        right.plot(x, evaluate(Peak.curve, x, found.x), label=loss)
    right.plot(x, evaluate(Peak.curve, x, Peak.truth), "k:", label="truth")
    right.set(title="A peak on a slope", xlabel="x")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
