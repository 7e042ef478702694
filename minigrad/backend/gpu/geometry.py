"""The sizes of a convolution, which each way to compute it asks for."""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """A convolution of images (N, C, H, W) with a weight (O, C / groups, kh, kw); pairs are (vertical, horizontal)."""

    images: tuple[int, ...]
    weight: tuple[int, ...]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the result, (N, O, rows, columns)."""
        sizes = zip(self.images[2:], self.weight[2:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return self.images[0], self.weight[0], rows, columns

    @property
    def one_pixel(self) -> bool:
        """Whether each pixel of the result sees the one pixel in its place: a product of matrices as it is."""
        return (*self.weight[2:], *self.stride) == (1, 1, 1, 1) and self.padding == (0, 0)
