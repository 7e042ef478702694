"""Losses as modules: a function of `functional` with its options, and class weights as buffers.

The losses differ in what they take: scores, log-probabilities, probabilities or numbers. All of them take (input,
target) and `reduction`: "mean", "sum" or "none".
"""

from __future__ import annotations

from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import Tensor

from . import functional
from .argument_checks import check_ignore_index, check_number, check_reduction, check_smoothing
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        check_reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def _register_weight(self, name: str, weight: ArrayLike | None) -> None:
        """Class weights given as a Tensor, array or list, as a buffer that moves with the model."""
        if weight is not None:
            weight = mg.as_tensor(weight)
            if weight.dtype.kind != "f":
                weight = weight.astype(mg.float32)
            weight = weight.detach()
        self.register_buffer(name, weight)


# --- scores and classes ---


class CrossEntropyLoss(_Loss):
    """-log softmax(scores)[class]: from the scores of the classes, and the right class, to a loss.

    Parameters
    ----------
    weight : (C,), optional
        How much each class counts; the mean divides by the sum of the weights of the labels.
    ignore_index : int
        Samples with this label do not count.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        The share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Shapes
    ------
    Scores (N, C) with integer labels (N,); or (N, C, d...) with (N, d...), as for images labelled pixel by pixel; or
    (C,) with a single label. Targets of the scores' shape and a floating-point dtype are probabilities of the classes.

    Raises
    ------
    IndexError
        For a label that names no class; ShapeError (a ValueError) for shapes that do not fit.
    TypeError
        For labels that are not integers.
    ValueError
        For an empty batch, or one in which every label is ignored, under "mean".

    Notes
    -----
    A GPU is not waited for. A label that names no class gives the loss NaN there, as does a batch in which every label
    is ignored, and the error is raised when a number or an array is next read from the device.
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction)
        check_smoothing("CrossEntropyLoss", label_smoothing)
        check_ignore_index("CrossEntropyLoss", ignore_index)
        self._register_weight("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """-input[class], for log-probabilities such as LogSoftmax gives; shapes, weight and errors as CrossEntropyLoss."""

    def __init__(self, weight: ArrayLike | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        check_ignore_index("NLLLoss", ignore_index)
        self._register_weight("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MultiMarginLoss(_Loss):
    """The multiclass hinge loss: sum over the wrong classes j of max(0, margin - x[y] + x[j])^p, over C.

    Crammer & Singer 2001 take the largest term; this sum is Weston & Watkins 1999, as in PyTorch.

    Parameters
    ----------
    p : 1 or 2
    margin : float
        How far the right class should lie ahead.
    weight : (C,), optional
        A factor for each class y; the mean still divides by N.

    Shapes
    ------
    Scores (N, C) with integer labels (N,), or (C,) with a single label.
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: ArrayLike | None = None, *, reduction: str = "mean"):
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p={p}; expected 1 or 2.")
        check_number("MultiMarginLoss", "margin", margin)
        self._register_weight("weight", weight)
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


# --- two classes ---


class BCELoss(_Loss):
    """Binary cross-entropy -(t log(p) + (1 - t) log(1 - p)) of probabilities p, logarithms cut off at -100.

    `weight` broadcasts to the losses. ValueError for a probability outside of [0, 1]; on a GPU, which is not waited
    for, it is raised when the host next reads from the device. After a Sigmoid, prefer BCEWithLogitsLoss on the scores:
    it keeps every digit.
    """

    def __init__(self, weight: ArrayLike | None = None, *, reduction: str = "mean"):
        super().__init__(reduction)
        self._register_weight("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of sigmoid(x) against t, computed from the scores x without overflow.

    `weight` broadcasts to the losses; `pos_weight` multiplies the loss of the positive class, and broadcasts too.
    """

    def __init__(
        self, weight: ArrayLike | None = None, *, reduction: str = "mean", pos_weight: ArrayLike | None = None
    ):
        super().__init__(reduction)
        self._register_weight("weight", weight)
        self._register_weight("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


# --- numbers ---


class MSELoss(_Loss):
    """(input - target)^2, for two tensors of one shape (ShapeError otherwise: nothing is broadcast)."""

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|input - target|, for two tensors of one shape."""

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.l1_loss(input, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """d^2 / 2 where d = |input - target| is at most delta, delta (d - delta / 2) beyond (Huber 1964)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta={delta}; expected a positive number.")
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.huber_loss(input, target, self.reduction, self.delta)


class SmoothL1Loss(_Loss):
    """HuberLoss of delta `beta`, divided by beta: slope 1 far from the target. L1Loss for beta 0 (Girshick 2015)."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: beta={beta}; expected at least 0.")
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)
