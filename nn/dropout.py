"""Dropout and related layers, which in training leave something out at random.

What is left out differs: elements (`Dropout`, Srivastava et al. 2014), whole channels (`Dropout2d`), weights
(`DropConnect`), the whole of a residual branch (`StochasticDepth`); `GaussianNoise` adds instead. Nothing
has to be rescaled in evaluation: in training, values that are not dropped are divided by the probability of that
("inverted" dropout), so that the expectation is the same in both modes. `ScaleAtTestDropout` does the reverse, as the
first paper did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import minigrad as mg
from minigrad import Tensor

from .argument_checks import check_number, check_probability
from .functional import dropout1d, dropout2d, stochastic_depth
from .module import Module
from .stateless import functional_call


class _Dropping(Module):
    """The part that the layers with a probability of dropping share."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropping):
    """Each element zero with probability p, the others divided by 1 - p; in evaluation the identity.

    Parameters
    ----------
    p : float
        From 0 to 1.
    inplace : bool
        Accepted for PyTorch's sake; the result is always a new tensor.

    Raises
    ------
    ValueError
        For p outside of [0, 1].
    """

    def forward(self, x: Tensor) -> Tensor:
        return mg.dropout(x, self.p, self.training)


class ScaleAtTestDropout(_Dropping):
    """Dropout as in the first paper: no division in training, a multiplication by 1 - p in evaluation.

    Srivastava et al. 2014, section 4. In both modes it gives 1 - p times what `Dropout` gives, so the layers after it
    learn other weights. PyTorch has only the inverted form.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 - self.p)
        return x * (mg.dropout_mask(x, self.p) > 0).astype(x.dtype)


class Dropout1d(_Dropping):
    """Whole channels of x (N, C, L), or (C, L), zero with probability p. Otherwise as `Dropout2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout1d(x, self.p, self.training)


class Dropout2d(_Dropping):
    """Spatial dropout: whole channels of x (N, C, H, W) zero with probability p, the others divided by 1 - p.

    Tompson et al. 2015, "Efficient object localization using convolutional networks": neighbouring pixels carry
    nearly the same information, so that dropping single ones removes little of it. The channels to drop are drawn for
    each image; in evaluation the layer is the identity.

    Raises
    ------
    ValueError
        For p outside of [0, 1].
    ShapeError
        For an x without four axes.
    """

    def forward(self, x: Tensor) -> Tensor:
        return dropout2d(x, self.p, self.training)


class DropConnect(Module):
    """A layer whose weights are dropped: in training each is zero with probability p, the others divided by 1 - p.

    Wan, Zeiler, Zhang, LeCun & Fergus 2013, "Regularization of neural networks using DropConnect". Here one mask serves
    a whole batch, where the paper draws one for each sample; and evaluation uses the weights as they are, their mean,
    where the paper samples the activations from a normal distribution fitted to them.

    Parameters
    ----------
    layer : Module
        Such as `Linear(400, 120)`; its parameters appear as `layer.weight`, `layer.bias`.
    p : float
        From 0 to 1.
    names : iterable of str
        Which of the layer's parameters are dropped.

    Raises
    ------
    ValueError
        For p outside of [0, 1], or a name that is not a parameter of the layer.
    """

    def __init__(self, layer: Module, p: float = 0.5, names: Iterable[str] = ("weight",)):
        super().__init__()
        check_probability("DropConnect", p)
        self.layer, self.p, self.names = layer, p, tuple(names)
        own = dict(layer.named_parameters())
        for name in self.names:
            if name not in own:
                raise ValueError(f"DropConnect: {type(layer).__name__} has no parameter {name!r}; it has {list(own)}.")

    def forward(self, *args: Any) -> Any:
        if not self.training or self.p == 0:
            return self.layer(*args)
        own = dict(self.layer.named_parameters())
        dropped = {name: own[name] * mg.dropout_mask(own[name], self.p) for name in self.names}
        return functional_call(self.layer, dropped, args)

    def extra_repr(self) -> str:
        return f"p={self.p}, names={self.names}"


class StochasticDepth(Module):
    """For the end of a residual branch: in training the branch is left out with probability p, else divided by 1 - p.

    Huang, Sun, Liu, Sedra & Weinberger 2016, "Deep networks with stochastic depth" (who scale in evaluation instead).
    `x + StochasticDepth(0.2)(branch(x))` is a layer that is sometimes not there; p usually grows with depth.

    Parameters
    ----------
    p : float
        From 0 to 1.
    mode : {"row", "batch"}
        Whether the samples are dropped independently, or all together.

    Raises
    ------
    ValueError
        For another mode, or p outside of [0, 1].
    """

    def __init__(self, p: float, mode: str = "row"):
        super().__init__()
        stochastic_depth(mg.zeros(1), p, mode)
        self.p, self.mode = p, mode

    def forward(self, x: Tensor) -> Tensor:
        return stochastic_depth(x, self.p, self.mode, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode!r}"


class GaussianNoise(Module):
    """In training x plus normal noise of standard deviation `std`; in evaluation the identity.

    On the inputs of a linear model with squared loss it is, on average, L2 regularization (Bishop 1995, "Training with
    noise is equivalent to Tikhonov regularization").
    """

    def __init__(self, std: float = 0.1):
        super().__init__()
        check_number("GaussianNoise", "std", std)
        if not 0 <= std < float("inf"):
            raise ValueError(f"GaussianNoise: std={std}; expected a number, 0 or more.")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * mg.randn_like(x) if self.training and self.std else x

    def extra_repr(self) -> str:
        return f"std={self.std}"
