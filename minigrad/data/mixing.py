"""Mixing samples: new samples between those of a batch, with labels to match.

Mixing is not a `Transform`, because it changes the labels too, into probabilities.
"""

from collections.abc import Callable

import numpy as np

from .augmentation import check_range
from .dataset import DataError

Mix = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def mixup(num_classes: int, alpha: float = 0.2, *, per_sample: bool = False) -> Mix:
    """Each sample is mixed with another of its batch, and so are their labels; for the `mix` of a DataLoader.

    With a share s from the Beta(alpha, alpha) distribution and a random partner j of sample i::

        x = s * x_i + (1 - s) * x_j             y = s * onehot(y_i) + (1 - s) * onehot(y_j)

    Zhang, Cisse, Dauphin & Lopez-Paz 2018, "mixup: beyond empirical risk minimization", section 2.

    Parameters
    ----------
    num_classes : int
    alpha : float
        0 mixes nothing, 1 makes every share equally likely; the paper uses 0.1 to 0.4 on ImageNet, 1 on CIFAR-10.
    per_sample : bool
        Draw a share for each sample; otherwise, as in the paper's code, one for the batch.

    Returns
    -------
    function
        `mix(samples, labels, rng) -> (samples, probabilities)`: samples of any shape (N, ...) in floats, labels (N,)
        integers; probabilities (N, num_classes) in the samples' dtype, as `cross_entropy` takes them.

    Examples
    --------
    >>> loader = DataLoader(digits(size=28), 128, shuffle=True, mix=mixup(10, alpha=0.4))
    """
    if not isinstance(num_classes, (int, np.integer)) or isinstance(num_classes, bool) or num_classes < 1:
        raise DataError(f"mixup: num_classes is {num_classes!r}; expected a whole number, 1 or more.")
    check_range("mixup", "alpha", alpha, 0, np.inf)
    if not isinstance(per_sample, (bool, np.bool_)):
        raise DataError(f"mixup: per_sample is {per_sample!r}; expected True or False.")

    def mix(samples: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        _check(samples, labels, num_classes)
        number = len(samples)
        shares = rng.beta(alpha, alpha, number if per_sample else 1) if alpha else np.ones(1)
        partner = rng.permutation(number)
        hot = np.eye(num_classes, dtype=samples.dtype)[labels]
        return _between(samples, samples[partner], shares), _between(hot, hot[partner], shares)

    return mix


def _between(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    shares = shares.astype(first.dtype).reshape(-1, *(1,) * (first.ndim - 1))
    return shares * first + (1 - shares) * second


def _check(samples: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    if samples.dtype.kind != "f":
        raise DataError(f"mixup: the samples are {samples.dtype}; put to_float() or normalize() before it.")
    if labels.shape != samples.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(
            f"mixup: labels of shape {labels.shape} and dtype {labels.dtype} for {len(samples)} samples; "
            "expected one integer for each."
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise DataError(f"mixup: labels go from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}.")
