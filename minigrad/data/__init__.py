"""Data: datasets, loaders, the well-known data sets, and augmentation.

>>> from minigrad.data import DataLoader, digits
>>> loader = DataLoader(digits(train=True, size=28), batch_size=64, shuffle=True, seed=0)
>>> for images, labels in loader: ...

Everything public is named here.
"""

from .augmentation import (
    Compose,
    Transform,
    cutout,
    gaussian_noise,
    normalize,
    random_affine,
    random_crop,
    random_horizontal_flip,
    random_rotation,
    random_shift,
    to_float,
)
from .dataset import (
    ArrayDataset,
    DataError,
    Dataset,
    Subset,
    TensorDataset,
    random_split,
    stratified_split,
)
from .loader import DataLoader
from .microbatching import micro_batches
from .mixing import Mix, mixup
from .sources import DATASETS, cifar10, digits, fashion_mnist, mnist, mnist_t10k

__all__ = [
    "DATASETS",
    "ArrayDataset",
    "Compose",
    "DataError",
    "DataLoader",
    "Dataset",
    "Mix",
    "Subset",
    "TensorDataset",
    "Transform",
    "cifar10",
    "cutout",
    "digits",
    "fashion_mnist",
    "gaussian_noise",
    "micro_batches",
    "mixup",
    "mnist",
    "mnist_t10k",
    "normalize",
    "random_affine",
    "random_crop",
    "random_horizontal_flip",
    "random_rotation",
    "random_shift",
    "random_split",
    "stratified_split",
    "to_float",
]


def __dir__() -> list[str]:
    return sorted(__all__)
