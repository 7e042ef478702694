"""Seeing a computation: `draw` makes a picture of the record behind a tensor, `save` writes it to a file."""

from minigrad.graph.drawing import draw, save
from minigrad.graph.rendering import Drawing, DrawingError

__all__ = ["Drawing", "DrawingError", "draw", "save"]
