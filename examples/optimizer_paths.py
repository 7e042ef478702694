"""Watch optimizers walk downhill: `python examples/optimizer_paths.py` draws five of them on Beale's function.

    python examples/optimizer_paths.py --function rosenbrock --optimizers Momentum Adam --lr Adam=0.1 --animate a.gif
    python examples/optimizer_paths.py --function "lambda x, y: sin(x) + cos(y) + (x**2 + y**2) / 20" --start 2 -2
    python examples/optimizer_paths.py --function ravine --optimizers all --steps 2000 --tolerance 1e-6

It writes the picture (`--out`, png, svg or pdf), if asked an animation (`--animate`, gif or html), and prints how many
steps each optimizer took until its value was within the tolerance of the least, first and for good. Options of an
optimizer are written behind its name: `--optimizers "Adam(betas=(0.5, 0.9))" "Nesterov(look_ahead=True)"`; Lookahead
goes around SGD with momentum, and Muon, which is for matrices, is given the point as a row. After this file you know
how to watch an optimizer of your own (`surfaces.py` has the functions, `descent.py` the walking,
`path_pictures.py` the drawing).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from descent import (
    METHODS,
    MINIMIZERS,
    RATES,
    MethodError,
    Walk,
    distance_to_minimum,
    find_method,
    find_rate,
    first_within,
    lowest_value,
    remark,
    settled_within,
)
from path_pictures import animate, panels, save
from surfaces import SURFACES, Surface, SurfaceError, find_surface

CHOSEN = ("SGD", "Momentum", "Nesterov", "RMSprop", "Adam")


def main(arguments: Sequence[str] | None = None) -> list[Walk]:
    """Draw and print what the command line asks for; returns the paths."""
    options = parse(arguments)
    surface: Surface = options.surface
    walks = []
    for label in options.optimizers:
        rate = options.rates.get(label) or find_rate(label, surface, options.steps, options.tolerance)
        for start in surface.starts:
            try:
                path = find_method(label)(surface.function, start, options.steps, rate)
            except ValueError as error:
                raise SystemExit(f"{label} with a learning rate of {rate:g}: {error}") from None
            walks.append(Walk(label, rate, start, path))
    print(table(surface, walks, options.tolerance))
    figure, _ = panels(surface, walks)
    save(figure, options.out)
    print(f"picture: {options.out}")
    if options.animate:
        animate(surface, walks, options.animate, frames=options.frames)
        print(f"animation: {options.animate}")
    return walks


# --- the table ---


def table(surface: Surface, walks: Sequence[Walk], tolerance: float) -> str:
    """A line for each path: rate, steps to tolerance, and where it ended."""
    lowest = lowest_value(surface, walks)
    known = "" if surface.minima else ", the lowest seen"
    width = max(len("optimizer"), *(len(walk.label) for walk in walks))
    header = (
        f"{'optimizer':{width}} {'rate':>8}  {'start':14}{'first':>7}{'for good':>10}{'f - f*':>12}{'distance':>11}"
    )
    lines = [
        f"{surface.name}: steps until f - f* <= {tolerance:g}, first and for good, where f* = {lowest:g}{known}",
        header,
    ]
    for walk in walks:
        values = surface.values(walk.path)
        counts = [steps_of(values, lowest, tolerance) for steps_of in (first_within, settled_within)]
        first, settled = ("-" if count is None else count for count in counts)
        last = walk.path[~np.isnan(walk.path).any(axis=1)][-1]
        start = "({:g}, {:g})".format(*walk.start)
        rate = "-" if walk.label in MINIMIZERS else f"{walk.rate:.2g}"
        distance = f"{distance_to_minimum(surface, last):.2e}" if surface.minima else "-"
        lines.append(
            f"{walk.label:{width}} {rate:>8}  {start:14}{first:>7}{settled:>10}"
            f"{surface.values(last) - lowest:12.2e}{distance:>11}"
            f"  {remark(surface, walk.path)}".rstrip()
        )
    return "\n".join(lines)


# --- the command line ---


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked, with `surface` (starts, minimum and view in it) and `rates`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--function", default="beale", help=f"{', '.join(SURFACES)}, 'lambda x, y: ...' or path/to/file.py:name")
    add("--optimizers", nargs="+", default=list(CHOSEN), metavar="NAME", help=f"all, or of {', '.join(METHODS)}")
    add("--start", nargs=2, type=float, action="append", metavar=("X", "Y"), help="may be given several times")
    add("--lr", nargs="+", default=[], metavar="NAME=RATE", help="default: a table's, else the best of a grid")
    add("--find-rates", action="store_true", help="look for the best rates on a grid even where the table has some")
    add("--steps", type=int, default=500)
    add("--tolerance", type=float, default=1e-4)
    add("--minimum", nargs=2, type=float, action="append", metavar=("X", "Y"), help="of your own function, if known")
    add("--view", nargs=4, type=float, metavar=("LEFT", "RIGHT", "BOTTOM", "TOP"))
    add("--out", default="paths.png", help="the picture: png, svg or pdf; default: paths.png")
    add("--animate", metavar="FILE", help="an animation too, gif or html")
    add("--frames", type=int, default=60, help="of the animation, at most")
    options = parser.parse_args(arguments)
    if options.optimizers == ["all"]:
        options.optimizers = list(METHODS)
    try:
        options.surface = _surface(options)
        options.rates = _rates(options)
        for label in options.optimizers:
            find_method(label)
        _check(options)
    except (SurfaceError, MethodError, ValueError) as error:
        parser.error(str(error))
    return options


def _surface(options: argparse.Namespace) -> Surface:
    surface = find_surface(options.function)
    if options.start:
        surface = replace(surface, starts=tuple(map(tuple, options.start)))
        if options.function not in SURFACES:  # a view that holds what is asked for
            reach = 1.5 * max(2.0, np.abs(options.start + (options.minimum or [])).max())
            surface = replace(surface, view=(-reach, reach, -reach, reach))
    if options.minimum:
        surface = replace(surface, minima=tuple(map(tuple, options.minimum)))
    if options.view:
        left, right, bottom, top = options.view
        if not (left < right and bottom < top):
            raise ValueError(f"--view {left:g} {right:g} {bottom:g} {top:g}: expected LEFT < RIGHT and BOTTOM < TOP.")
        surface = replace(surface, view=tuple(options.view))
    return surface


def _rates(options: argparse.Namespace) -> dict[str, float]:
    """The rates that are known: those of the table, and those given."""
    rates = {} if options.find_rates else dict(RATES.get(options.function, {}))
    for pair in options.lr:
        label, _, number = pair.rpartition("=")
        if label not in options.optimizers:
            raise ValueError(f"--lr {pair}: expected NAME=RATE with one of {', '.join(options.optimizers)}.")
        try:
            rates[label] = float(number)
        except ValueError:
            raise ValueError(f"--lr {pair}: {number!r} is not a number; expected NAME=RATE, as in Adam=0.1.") from None
        if not 0 < rates[label] < math.inf:
            raise ValueError(f"--lr {pair}: expected a rate above 0.")
    return rates


def _check(options: argparse.Namespace) -> None:
    for name in ("steps", "frames"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)}: expected 1 or more.")
    if not options.tolerance > 0:
        raise ValueError(f"--tolerance {options.tolerance}: expected a number above 0.")
    for name, endings in (("out", (".png", ".svg", ".pdf")), ("animate", (".gif", ".html"))):
        path = getattr(options, name)
        if path and Path(path).suffix not in endings:
            raise ValueError(f"--{name} {path}: expected a name that ends in {' or '.join(endings)}.")


if __name__ == "__main__":
    main()
