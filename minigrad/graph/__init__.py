"""Seeing a computation: `draw` makes a picture of its graph, `save` writes that to a file, `explain` shows the numbers.

Pictures: `rendering` (DOT text to a picture), `labels`, then `drawing`. Explanations: `values` (what the numbers of the
forward pass were), `wording`, then `explanation`.
"""

from minigrad.graph.drawing import draw, save
from minigrad.graph.explanation import Explanation, explain
from minigrad.graph.rendering import Drawing, DrawingError

__all__ = ["Drawing", "DrawingError", "Explanation", "draw", "explain", "save"]


def __dir__() -> list[str]:
    return sorted(__all__)
