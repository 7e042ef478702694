"""Seeing a computation: `draw` makes a picture of it, `save` writes that to a file, `explain` says it in numbers."""

from minigrad.graph.drawing import draw, save
from minigrad.graph.explanation import Explanation, explain
from minigrad.graph.rendering import Drawing, DrawingError

__all__ = ["Drawing", "DrawingError", "Explanation", "draw", "explain", "save"]


def __dir__() -> list[str]:
    return sorted(__all__)
