"""The machine behind `laws/test_random_graphs.py`: pairs of tensors, steps that grow a graph, walks over it."""

from tests.support.random_graphs.passes import RandomGraphs

__all__ = ["RandomGraphs"]
