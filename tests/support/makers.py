"""What many tests of the engine need."""

import numpy as np

import minigrad as mg


def leaf(*values, dtype="f8"):
    """A tracked tensor of one value, or of several in a row."""
    return mg.tensor(np.asarray(values if len(values) > 1 else values[0], dtype), requires_grad=True)
