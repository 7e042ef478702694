"""The number at which a gradient starts."""

from minigrad.backend.device import namespace

__all__ = ["one"]


def one(like):
    """The number 1 as an array of shape () and the dtype of `like`, to read only: it may be the same one each time."""
    return namespace(like).ones((), like.dtype)
