"""Bundle adjustment in small: cameras and points found from pictures, by Levenberg-Marquardt without a matrix.

    python examples/bundle_adjustment.py
    python examples/bundle_adjustment.py --cameras 30 --points 3000
    python examples/bundle_adjustment.py --quick

A ring of cameras looks at a cloud of points; each picture gives the places of the points that it happened to find.
Unknown are every camera's turn, place and focal length, and every point: some thousand numbers. The residuals are how
far each seen place is from where the camera would show the point (Triggs et al. 2000, "Bundle adjustment: a modern
synthesis"). A row of the Jacobian has ten entries that are not zero; written down with all its zeros it would take
gigabytes. `method="matrix-free"` needs only its products with vectors: one walk forward through the residuals' graph,
or one back. After this file you know how such a problem is written for arrays, and what it takes to see how far a
reconstruction is from the truth, when only its shape is determined.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import optim

PIXEL = 1.0
"""The error of a seen place, one standard deviation, in pixels; a picture is some 1000 of them wide."""

Scene = dict[str, mg.Tensor]
"""turn (C, 3): axis times angle; place (C, 3): of the world's origin as the camera sees it; log_focal (C, 1);
point (P, 3). C cameras, P points."""
ERRORS = {"turn": 0.03, "place": 0.1, "log_focal": 0.05, "point": 0.1}
"""How far each kind of unknown is off at the start, one standard deviation."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Print how far pictures and points are off; returns these numbers, and seconds, MiB, and GiB of the matrix."""
    options = parse(arguments)
    rng = np.random.default_rng(options.seed)
    truth = make_scene(options.cameras, options.points, rng)
    camera, point = np.nonzero(rng.random((options.cameras, options.points)) < options.seen)
    seen = project(truth, camera, point) + PIXEL * mg.tensor(rng.standard_normal((len(camera), 2)))
    start = {name: part + mg.tensor(ERRORS[name] * rng.standard_normal(part.shape)) for name, part in truth.items()}

    unknowns = sum(part.size for part in start.values())
    matrix = start["point"].dtype.itemsize * seen.size * unknowns / 2**30
    print(f"{options.cameras} cameras, {options.points} points: {unknowns:,} unknowns, {seen.size:,} residuals")
    tracemalloc.start()
    began = time.perf_counter()
    found = optim.least_squares(
        lambda scene: (project(scene, camera, point) - seen) / PIXEL,
        start,
        method="matrix-free",
        ftol=1e-8,
        max_nfev=50,
        verbose=0 if options.quiet else 2,
    )
    seconds, memory = time.perf_counter() - began, tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    print(f"{seconds:.1f} s, {found.nit} steps, at most {memory:.0f} MiB; the Jacobian alone would be {matrix:.2f} GiB")

    print(f"\n{'median distance':48}{'before':>10}{'after':>10}{'truth':>10}")
    distances = {}
    for key, what, measure in (
        ("pixels", "in the pictures, in pixels", lambda scene: median_distance(project(scene, camera, point), seen)),
        ("points", "of the points, as a share of the cloud's size", lambda scene: points_off(scene, truth)),
    ):
        distances[key] = [measure(scene) for scene in (start, found.x, truth)]
        print(f"{what:48}" + "".join(f"{number:10.4f}" for number in distances[key]))
    return {**distances, "seconds": seconds, "memory": memory, "matrix": matrix}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, help="default: 20 (with --quick 6)")
    parser.add_argument("--points", type=int, help="default: 1500 (with --quick 100)")
    parser.add_argument("--seen", type=float, default=0.5, help="the share of the points that a picture gives")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a small scene")
    parser.add_argument("--quiet", action="store_true", help="print no line for each step")
    options = parser.parse_args(arguments)
    options.cameras = options.cameras or (6 if options.quick else 20)
    options.points = options.points or (100 if options.quick else 1500)
    if not 0 < options.seen <= 1:
        parser.error(f"--seen {options.seen:g}: expected above 0 and up to 1")
    return options


def make_scene(cameras: int, points: int, rng: np.random.Generator) -> Scene:
    """Points in a cloud of size 1 around the origin, cameras in a ring five units away that look at it."""
    angle = np.linspace(-np.pi, np.pi, cameras, endpoint=False)
    turn = np.stack([np.zeros(cameras), angle, np.zeros(cameras)], axis=1)
    parts = {
        "turn": turn + 0.1 * rng.standard_normal((cameras, 3)),
        "place": [0, 0, 5] + 0.2 * rng.standard_normal((cameras, 3)),
        "log_focal": np.log(800) + 0.05 * rng.standard_normal((cameras, 1)),
        "point": 0.6 * rng.standard_normal((points, 3)),
    }
    return {name: mg.tensor(part) for name, part in parts.items()}


def project(scene: Scene, camera: np.ndarray, point: np.ndarray) -> mg.Tensor:
    """Where each observation's camera shows its point, in pixels from the middle of the picture, (observations, 2).

    Turned (Rodrigues' formula), moved, divided by the depth, and enlarged by the focal length.
    """
    turn = scene["turn"]
    angle = mg.sqrt((turn**2).sum(axis=1, keepdims=True))
    axis, angle = (turn / angle)[camera], angle[camera]
    p, cos = scene["point"][point], mg.cos(angle)
    turned = cos * p + mg.sin(angle) * cross(axis, p) + (1 - cos) * (axis * p).sum(axis=1, keepdims=True) * axis
    moved = turned + scene["place"][camera]
    return mg.exp(scene["log_focal"])[camera] * moved[:, :2] / moved[:, 2:]


def cross(a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
    """The vector product of rows, (N, 3)."""
    (a0, a1, a2), (b0, b1, b2) = a.T, b.T
    return mg.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=1)


def median_distance(a: mg.Tensor, b: mg.Tensor) -> float:
    """The median length of the rows of a - b."""
    return float(np.median(np.linalg.norm(a.numpy() - b.numpy(), axis=1)))


def points_off(scene: Scene, truth: Scene) -> float:
    """How far the points are from the true ones, after the best turn, move and enlargement of all together.

    Pictures tell nothing of these: a scene twice as large and twice as far away looks the same. (Umeyama 1991.)
    """
    ours, theirs = (each["point"].numpy() - each["point"].numpy().mean(axis=0) for each in (scene, truth))
    u, s, vt = np.linalg.svd(ours.T @ theirs)
    size = np.linalg.norm(theirs, axis=1).mean()
    fitted = ours @ (u @ vt) * s.sum() / (ours**2).sum()
    return median_distance(mg.tensor(fitted), mg.tensor(theirs)) / float(size)


if __name__ == "__main__":
    main()
