"""Pictures of paths: contours with lines over them, and the same growing.

After this file you know how a film is made with matplotlib: a figure, a function that moves its lines to a step, and a
writer. Nothing here needs a display.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from descent import Walk, lowest_value
from surfaces import Surface

MARGIN = 1.0  # how far out of the view, in views, a path is still drawn: far enough to leave it in the right direction


def panels(surface: Surface, walks: Sequence[Walk]) -> tuple[Any, list[tuple]]:
    """A figure with a panel for each start, and for each walk its line, the mark at its end, and its points in sight.

    Contours are evenly spaced in the logarithm of f - f*; stars are the minima. Points that are far out of the view
    are NaN: there the line breaks off.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('pictures need matplotlib: pip install "minigrad[examples]"') from None

    starts = list(dict.fromkeys(walk.start for walk in walks))
    labels = list(dict.fromkeys(walk.label for walk in walks))
    styles = {label: {"color": f"C{i % 10}", "linestyle": "-:"[i // 10 % 2]} for i, label in enumerate(labels)}
    figure = Figure(figsize=(4.6 * len(starts) + 1.6, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    points, heights, levels = _heights(surface, lowest_value(surface, walks))
    lines = []
    for start, axes in zip(starts, figure.subplots(1, len(starts), squeeze=False)[0], strict=True):
        axes.contour(
            points[..., 0], points[..., 1], heights, levels, cmap="viridis", norm=LogNorm(), linewidths=0.7, alpha=0.5
        )
        axes.plot(*start, "ko", markersize=5)
        if surface.minima:
            axes.plot(*np.transpose(surface.minima), "k*", markersize=11)
        for walk in walks:
            if walk.start == start:
                seen = np.where(surface.holds(walk.path, MARGIN)[:, None], walk.path, np.nan)
                (line,) = axes.plot(*seen.T, **styles[walk.label], linewidth=1.4, label=walk.label)
                (head,) = axes.plot(*seen[-1:].T, "o", color=line.get_color(), markersize=4)
                lines.append((line, head, seen))
        left, right, bottom, top = surface.view
        axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y")
        axes.set_title("{} from ({:g}, {:g})".format(surface.name, *start), fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure, lines


def save(figure: Any, out: str | Path) -> None:
    """Write a figure; a png with 128 colors, which are enough here and make a quarter of the size."""
    figure.savefig(out, dpi=100)
    if Path(out).suffix == ".png":
        from PIL import Image

        with Image.open(out) as picture:
            small = picture.convert("RGB").quantize(128)
        small.save(out, optimize=True)


def animate(surface: Surface, walks: Sequence[Walk], out: str | Path, frames: int = 60, fps: int = 12) -> None:
    """Write the figure with its paths growing, a GIF or an HTML page with a player, as the ending of `out` says.

    Frames get further apart as they go, by the square of their number: paths part early.
    """
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, lines = panels(surface, walks)
    title = figure.suptitle("step 0", fontsize=10)

    def show(step: int) -> None:
        title.set_text(f"step {step}")
        for line, head, path in lines:
            line.set_data(path[: step + 1].T)
            head.set_data(path[step : step + 1].T)

    steps = frame_steps(len(walks[0].path) - 1, frames)
    film = FuncAnimation(
        figure, show, frames=steps, interval=1000 / fps, init_func=lambda: None, cache_frame_data=False
    )
    if Path(out).suffix == ".gif":
        film.save(out, PillowWriter(fps), dpi=70)
    else:
        Path(out).write_text(film.to_jshtml(fps, embed_frames=True), encoding="utf-8")


def frame_steps(steps: int, frames: int) -> list[int]:
    """Which steps an animation shows: 0, the last, and some between, closer together at the beginning."""
    return np.unique((np.linspace(0, 1, frames + 1) ** 2 * steps).round().astype(int)).tolist()


def _heights(surface: Surface, lowest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid's points, how high the function is above its least there, and levels evenly spaced in logarithm."""
    points = surface.grid()
    heights = surface.values(points) - lowest
    finite = heights[np.isfinite(heights) & (heights > 0)]
    if not finite.size:
        raise SystemExit(f"{surface.name} has the same value, or none, everywhere in the view; --view sets another.")
    highest = finite.max()
    lowest_level = max(np.quantile(finite, 0.001), 1e-6 * highest)
    levels = np.geomspace(lowest_level, highest, 22)[:-1]
    return points, np.clip(heights, lowest_level / 10, None), levels
