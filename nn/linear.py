"""Linear layers and those that only look up or reshape: Linear, Embedding, Flatten, Identity.

A layer is its parameters, their first values, and one line of forward.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ShapeError, Tensor

from . import init
from .argument_checks import expect_floats, positive
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """y = x @ weight.T + bias.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether a bias is added.

    Shapes
    ------
    x (..., in_features) gives (..., out_features); weight (out_features, in_features), bias (out_features,).
    Both start uniform on +-1/sqrt(in_features), PyTorch's default.

    Raises
    ------
    ShapeError
        If the size of the last axis of x is not in_features.
    TypeError
        If the dtype of x is not that of the weight.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        positive(self, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        reset_weight_and_bias(self)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if not isinstance(x, Tensor) or x.data.dtype is not weight.data.dtype:
            expect_floats(self, x, weight)
        return mg.linear(x, weight, self.bias)

    def followed_by_relu(self, x: Tensor) -> Tensor:
        """relu(self(x)), with bias and ReLU in one launch where x lies on a GPU."""
        if self.bias is None or x.ndim != 2:
            return mg.relu(self(x))
        expect_floats(self, x, self.weight)
        return mg.bias_relu(mg.linear(x, self.weight), self.bias)

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.in_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def new_parameter(shape: tuple[int, ...], device: str | None = None, dtype: DTypeLike | None = None) -> Parameter:
    """A parameter of zeros, for an initialiser to fill."""
    return Parameter(mg.zeros(shape, dtype=mg.float32 if dtype is None else dtype, device=device))


class Weighted(Protocol):
    """A layer with a weight and perhaps a bias."""

    weight: Parameter
    bias: Parameter | None


def reset_weight_and_bias(layer: Weighted) -> None:
    """PyTorch's default for linear and convolution layers: both uniform on +-1/sqrt(fan_in).

    It is kaiming_uniform with a = sqrt(5): gain sqrt(2 / (1 + 5)) times sqrt(3 / fan_in).
    """
    init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
    if layer.bias is not None:
        bound = 1 / math.sqrt(init.fan_in_and_out(layer.weight)[0])
        init.uniform_(layer.bias, -bound, bound)


class Embedding(Module):
    """A table of vectors, looked up by number.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows of the table, and the length of each.
    padding_idx : int, optional
        A row that starts at zero and gets no gradient, so that training leaves it; counted from the end if negative.

    Shapes
    ------
    Integers of any shape (...) give (..., embedding_dim); weight (num_embeddings, embedding_dim), starting N(0, 1).

    Raises
    ------
    IndexError
        For a number that names no row.
    TypeError
        For numbers that are not integers.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        positive(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if not isinstance(padding_idx, (int, type(None))) or isinstance(padding_idx, bool):
            raise TypeError(f"Embedding: padding_idx={padding_idx!r}; expected an integer or None.")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx={padding_idx} names none of the {num_embeddings} rows.")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = new_parameter((num_embeddings, embedding_dim), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.copy_(mg.index_update(self.weight.detach(), self.padding_idx, 0.0))

    def forward(self, indices: Tensor) -> Tensor:
        if not isinstance(indices, (Tensor, np.ndarray)):
            indices = mg.tensor(indices)
        rows = mg.embedding(indices, self.weight)
        if self.padding_idx is None:
            return rows
        padding = mg.as_tensor(indices == self.padding_idx).unsqueeze(-1)
        return mg.where(padding, self.weight.detach()[self.padding_idx], rows)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Flatten(Module):
    """The axes start_dim to end_dim, both included, joined into one; by default all but the batch's."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        for name, axis in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not isinstance(axis, int) or isinstance(axis, bool):
                raise TypeError(f"Flatten: {name}={axis!r}; expected an integer, an axis.")
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim <= self.start_dim:
            raise ShapeError(f"Flatten: input {x.shape} has no axis {self.start_dim}; is the batch axis missing?")
        return mg.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Returns its input: a placeholder. Arguments of the constructor are accepted and ignored."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
