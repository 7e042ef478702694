"""Batch normalisation layers (Ioffe & Szegedy 2015): BatchNorm1d, BatchNorm2d.

After this file you know what a layer with a memory is: in training each channel is normalised by the batch at hand, and
running averages of its mean and variance are kept in buffers; in evaluation the buffers take the batch's place.
"""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ShapeError, Tensor

from . import init
from .argument_checks import expect_floats, positive
from .functional import batch_norm_in_training
from .fusion import is_batched
from .linear import new_parameter
from .module import Module


class _BatchNorm(Module):
    layouts: ClassVar[dict[int, str]]  # number of axes -> shape, for the layers below

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        positive(self, num_features=num_features)
        if not eps > 0 or not (momentum is None or 0 <= momentum <= 1):
            raise ValueError(
                f"{type(self).__name__}: eps={eps}, momentum={momentum}; expected eps > 0 and momentum from 0 to 1, or "
                "None for the average over all batches so far."
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, wanted in {"weight": affine, "bias": affine and bias}.items():
            self.register_parameter(name, new_parameter((num_features,), device, dtype) if wanted else None)
        dtype = mg.float32 if dtype is None else dtype
        statistics = {
            "running_mean": lambda: mg.zeros(num_features, dtype=dtype, device=device),
            "running_var": lambda: mg.ones(num_features, dtype=dtype, device=device),
            "num_batches_tracked": lambda: mg.tensor(0, dtype=mg.int64, device=device),
        }
        for name, make in statistics.items():
            self.register_buffer(name, make() if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, and no batches seen."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if not self._uses_batch:
            return self._by_running_statistics(x)
        return self._by_batch(x)

    def followed_by_relu(self, x: Tensor) -> Tensor:
        """relu(self(x)), in the launches of batch-norm alone where x lies on a GPU."""
        self._check(x)
        if not self._uses_batch:
            return self._by_running_statistics(x, relu=True)
        return self._by_batch(x, relu=True)

    @property
    def _uses_batch(self) -> bool:
        return self.training or self.running_mean is None

    def _by_running_statistics(self, x: Tensor, relu: bool = False) -> Tensor:
        normalize = mg.batch_norm_inference_relu if relu else mg.batch_norm_inference
        return normalize(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def _by_batch(self, x: Tensor, relu: bool = False) -> Tensor:
        """On a GPU the kernel counts the batch, where a captured step replays it; on a CPU that is done here."""
        momentum, batches = self.momentum, self.num_batches_tracked
        if batches is not None and (x.device == "cpu" or is_batched(x)):
            momentum, batches = self._count_batch(), None
        return batch_norm_in_training(
            x, self.running_mean, self.running_var, self.weight, self.bias, momentum, self.eps, batches, relu
        )

    def _check(self, x: Tensor) -> None:
        if x.ndim not in self.layouts or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}): input {x.shape}; expected "
                + " or ".join(layout.replace("C", str(self.num_features)) for layout in self.layouts.values())
                + "."
                + (" Is the batch axis missing, as in x.unsqueeze(0)?" if self._is_one_example(x.shape) else "")
            )
        typical = self.weight if self.affine else self.running_mean
        if typical is not None:
            expect_floats(self, x, typical)

    def _is_one_example(self, shape: tuple[int, ...]) -> bool:
        return len(shape) + 1 in self.layouts and shape[0] == self.num_features

    def _count_batch(self) -> float:
        """Count this batch; returns how far the running statistics move towards it."""
        if mg.transforms.is_recomputing():
            return 0.0
        counter = self.num_batches_tracked
        counter.data = counter.data + 1
        return 1 / counter.item() if self.momentum is None else self.momentum

    def extra_repr(self) -> str:
        no_bias = "bias=False, " if self.affine and self.bias is None else ""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, {no_bias}"
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_BatchNorm):
    """Each channel of images brought to mean 0 and variance 1, then scaled and shifted by learned amounts.

    Parameters
    ----------
    num_features : int
        The number C of channels.
    eps : float
        Added to the variance.
    momentum : float or None
        How far the running statistics move towards each batch's; None averages all batches evenly.
    affine, bias : bool
        Whether there are a weight and a bias; the bias only if both are True.
    track_running_stats : bool
        Whether there are running statistics; without them evaluation uses the batch's too.

    Shapes
    ------
    x (N, C, H, W), result the same; weight, bias, running_mean and running_var (C,). The batch is normalised by its
    biased variance; running_var follows the unbiased one.

    Raises
    ------
    ShapeError
        For other shapes, and in training for a single value per channel.
    """

    layouts: ClassVar = {4: "(N, C, H, W)"}


class BatchNorm1d(_BatchNorm):
    """The same for features (N, C) or sequences (N, C, L); see BatchNorm2d."""

    layouts: ClassVar = {2: "(N, C)", 3: "(N, C, L)"}
