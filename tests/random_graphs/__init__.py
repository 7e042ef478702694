"""The machine behind `test_random_graphs.py`: pairs of tensors, steps that grow a graph, walks over it."""

from random_graphs.passes import RandomGraphs

__all__ = ["RandomGraphs"]
