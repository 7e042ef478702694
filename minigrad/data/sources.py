"""The data sets, as a table: digits, MNIST, Fashion-MNIST, CIFAR-10.

`digits` comes with the package. The others are looked for in a folder of yours (``root=``, or the environment
variable ``MINIGRAD_DATA``), then in the cache, then downloaded into the cache, and their checksums verified, where the
authors' files have one.
The table and the functions say where each data set comes from, under which terms, and how it is split.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import DTypeLike

from . import formats
from .dataset import ArrayDataset, DataError
from .files import DataFile, Places

PathLike = str | os.PathLike[str]

DIGIT_NAMES = tuple("0123456789")
CIFAR_PARTS = {
    True: [f"data_batch_{number}.bin" for number in range(1, 6)],
    False: ["test_batch.bin"],
}


@dataclass(frozen=True)
class Source:
    """A data set: its name, its classes, where its files are found, and their checksums."""

    title: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: dict[str, DataFile]

    def places(self, root: PathLike | None, download: bool) -> Places:
        return Places(self.title, self.folders, self.mirrors, root, download)


SOURCES = {
    # Y. LeCun, C. Cortes, C. Burges: "The MNIST database of handwritten digits", 1998. CC BY-SA 3.0.
    "mnist": Source(
        title="MNIST",
        classes=DIGIT_NAMES,
        folders=("mnist", "MNIST/raw"),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files={
            "train images": DataFile(
                "train-images-idx3-ubyte.gz",
                md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
                unpacked_md5="6bbc9ace898e44ae57da46a324031adb",
            ),
            "train labels": DataFile(
                "train-labels-idx1-ubyte.gz",
                md5="d53e105ee54ea40749a09fcbcd1e9432",
                unpacked_md5="a25bea736e30d166cdddb491f175f624",
            ),
            "test images": DataFile(
                "t10k-images-idx3-ubyte.gz",
                md5="9fb629c4189551a2d022fa330f9573f3",
                unpacked_md5="2646ac647ad5339dbf082846283269ea",
            ),
            "test labels": DataFile(
                "t10k-labels-idx1-ubyte.gz",
                md5="ec29112dd5afa0611ce80d1b7f02629c",
                unpacked_md5="27ae3e4e09519cfbb04c329615203637",
            ),
        },
    ),
    # H. Xiao, K. Rasul, R. Vollgraf: "Fashion-MNIST", arXiv:1708.07747, 2017. MIT licence.
    "fashion_mnist": Source(
        title="Fashion-MNIST",
        classes=(
            "T-shirt/top", "trouser", "pullover", "dress", "coat",
            "sandal", "shirt", "sneaker", "bag", "ankle boot",
        ),
        folders=("fashion_mnist", "FashionMNIST/raw"),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files={
            "train images": DataFile(
                "train-images-idx3-ubyte.gz",
                md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                unpacked_md5="f4a8712d7a061bf5bd6d2ca38dc4d50a",
            ),
            "train labels": DataFile(
                "train-labels-idx1-ubyte.gz",
                md5="25c81989df183df01b3e8a0aad5dffbe",
                unpacked_md5="9018921c3c673c538a1fc5bad174d6f9",
            ),
            "test images": DataFile(
                "t10k-images-idx3-ubyte.gz",
                md5="bef4ecab320f06d8554ea6380940ec79",
                unpacked_md5="8181f5470baa50b63fa0f6fddb340f0a",
            ),
            "test labels": DataFile(
                "t10k-labels-idx1-ubyte.gz",
                md5="bb300cfdad3c16e7a12a480ee83cd310",
                unpacked_md5="15d484375f8d13e6eb1aabb0c3f46965",
            ),
        },
    ),
    # A. Krizhevsky: "Learning Multiple Layers of Features from Tiny Images", 2009.
    "cifar10": Source(
        title="CIFAR-10",
        classes=(
            "airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck",
        ),
        folders=("cifar10",),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files={"archive": DataFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")},
    ),
}  # fmt: skip


def digits(train: bool = True, size: int = 8) -> ArrayDataset:
    """The 1,797 handwritten digits that come with the package; nothing is downloaded.

    Parameters
    ----------
    train : bool
        The 1,438 training images, or the 359 (20 % of every class) kept for testing; always the same ones.
    size : int
        Height and width: 8 as scanned, or larger (28 as MNIST, 32 as LeNet and CIFAR-10), enlarged
        by bicubic interpolation.

    Returns
    -------
    ArrayDataset
        ``images`` float32 in [0, 1], ink bright, shape (N, 1, size, size); ``labels`` int64, shape (N,).

    Raises
    ------
    DataError
        A size below 8.

    Notes
    -----
    The test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0 (see ``DIGITS_LICENSE.txt``), as scikit-learn
    ships it. The same 13 people wrote both our parts, so accuracies are better than for a new writer.
    """
    if not isinstance(size, (int, np.integer)) or size < 8:
        raise DataError(f"digits: size is {size!r}; expected 8, the size they were scanned at, or more (28, 32).")
    values, labels, in_test = _embedded_digits()
    chosen = in_test != train
    images = values[chosen, None].astype(np.float32) / 16
    if size != 8:
        images = np.clip(enlarge(images, size), 0, 1)
    return ArrayDataset(images, labels[chosen].astype(np.int64), classes=DIGIT_NAMES, name=f"digits {_part(train)}")


def mnist(
    train: bool = True, root: PathLike | None = None, *, download: bool = True, dtype: DTypeLike = np.float32
) -> ArrayDataset:
    """MNIST: 60,000 handwritten digits to train on, 10,000 to test on, 28x28, grey.

    Parameters
    ----------
    train : bool
    root : path, optional
        A folder with the original files, or with a subfolder ``mnist`` of them; gzipped or not. Without
        it, the environment variable ``MINIGRAD_DATA`` may name one. Only read, never written to.
    download : bool
        Whether files found neither there nor in the cache may be downloaded (needs ``minigrad[examples]``).
    dtype : numpy dtype
        float32 for images in [0, 1]; uint8 for the bytes as they are, 0 to 255, in a quarter of the memory.

    Returns
    -------
    ArrayDataset
        ``images`` shape (N, 1, 28, 28), ink bright; ``labels`` int64, shape (N,); ``classes``; ``name``.

    Raises
    ------
    DataError
        A file is missing, damaged, or could not be downloaded; the message says what to do.

    Notes
    -----
    Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    return _idx_dataset("mnist", train, root, download, dtype)


def fashion_mnist(
    train: bool = True, root: PathLike | None = None, *, download: bool = True, dtype: DTypeLike = np.float32
) -> ArrayDataset:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes in MNIST's format, and harder.

    Parameters, result and errors are those of `mnist`; the subfolder is ``fashion_mnist``.

    Notes
    -----
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms", arXiv:1708.07747, 2017.
    """
    return _idx_dataset("fashion_mnist", train, root, download, dtype)


def mnist_t10k(
    train: bool = True, root: PathLike | None = None, *, download: bool = True, dtype: DTypeLike = np.float32
) -> ArrayDataset:
    """MNIST's 10,000 test images alone: the first 8,000 to train on, the last 2,000 to test on.

    A seventh of the download, for quick runs. Results on it are not results on MNIST: say "MNIST t10k, 8,000/2,000".
    Parameters, result and errors are those of `mnist`.
    """
    whole = _idx_dataset("mnist", False, root, download, dtype)
    part = slice(0, 8000) if train else slice(8000, None)
    return ArrayDataset(
        whole.images[part], whole.labels[part], classes=whole.classes, name=f"MNIST t10k {_part(train)}",
        note="MNIST's test images, split 8,000/2,000",
    )  # fmt: skip


def cifar10(
    train: bool = True, root: PathLike | None = None, *, download: bool = True, dtype: DTypeLike = np.float32
) -> ArrayDataset:
    """CIFAR-10: 50,000 + 10,000 small colour photographs, 32x32, of ten things.

    Parameters
    ----------
    train, download, dtype
        As for `mnist`. float32 training images take 614 MB, uint8 ones 154 MB.
    root : path, optional
        A folder, or one with a subfolder ``cifar10``, with ``cifar-10-binary.tar.gz``; or with the files unpacked
        from it, in ``cifar-10-batches-bin``; or with ``cifar10_jpeg.npz``, a JPEG copy, decoded with Pillow. They
        are taken in this order, and only then is the archive downloaded. The archive's checksum is verified; of
        unpacked files and JPEG copies none is published: they are yours, and only their form is checked. Unpacked files
        whose classes are not as many of each as in CIFAR-10 give a warning.

    Returns
    -------
    ArrayDataset
        ``images`` shape (N, 3, 32, 32), RGB; ``labels`` int64, shape (N,). From a JPEG copy, ``name`` and ``note``
        say so: the images differ a little from the original's, so say it beside results. For a damaged copy there is
        a warning, and "JPEG copy, damaged" stands there.

    Raises
    ------
    DataError
        As for `mnist`. The archive of the Python version is refused: it holds pickles, which can run any code.

    Notes
    -----
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    source = SOURCES["cifar10"]
    images, labels, note = _cifar10_bytes(source.places(root, download), source.files["archive"], train)
    name = f"CIFAR-10 {_part(train)}" + (f" ({note})" if note else "")
    return ArrayDataset(_as_dtype(images, dtype), labels.astype(np.int64), classes=source.classes, name=name, note=note)


DATASETS: dict[str, Callable[..., ArrayDataset]] = {
    "digits": digits,
    "mnist": mnist,
    "mnist_t10k": mnist_t10k,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}
"""Every data set by name, for a program that lets its user choose."""


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Square images, shape (..., n, n), enlarged to (..., size, size) by bicubic interpolation.

    Each new pixel is a mean of four by four old ones, weighted by Keys' cubic with a = -1/2 (R. Keys, "Cubic
    Convolution Interpolation for Digital Image Processing", 1981, eq. 15); the border pixel repeats outside.
    The cubic may overshoot the range of the values a little.
    """
    old = images.shape[-1]
    centres = (np.arange(size) + 0.5) * old / size - 0.5
    nearest = np.floor(centres).astype(int)
    weights = np.zeros((size, old))
    for neighbour in range(-1, 3):
        distance = np.abs(centres - (nearest + neighbour))
        inner = 1.5 * distance**3 - 2.5 * distance**2 + 1
        outer = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        column = np.clip(nearest + neighbour, 0, old - 1)
        np.add.at(weights, (np.arange(size), column), np.where(distance <= 1, inner, outer))
    weights = weights.astype(images.dtype)
    return weights @ images @ weights.T


@lru_cache(maxsize=1)
def _embedded_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with (
        resources.files(__package__).joinpath("digits.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as archive,
    ):
        return archive["images"], archive["labels"], archive["in_test"]


def _idx_dataset(key: str, train: bool, root: PathLike | None, download: bool, dtype: DTypeLike) -> ArrayDataset:
    source = SOURCES[key]
    places = source.places(root, download)
    part, number = ("train", 60_000) if train else ("test", 10_000)
    images = formats.read_idx(places.get(source.files[f"{part} images"]), (number, 28, 28))
    labels = formats.read_idx(places.get(source.files[f"{part} labels"]), (number,))
    labels = formats.checked_labels(labels, f"{source.title}, {part} labels", len(source.classes))
    if images.dtype != np.uint8:
        raise DataError(f"{source.title}: the {part} images are {images.dtype}; expected bytes. Get a fresh copy.")
    return ArrayDataset(
        _as_dtype(images[:, None], dtype),
        labels.astype(np.int64),
        classes=source.classes,
        name=f"{source.title} {part}",
    )


def _cifar10_bytes(places: Places, archive: DataFile, train: bool) -> tuple[np.ndarray, np.ndarray, str]:
    folder = "cifar-10-batches-bin"
    parts = [f"{folder}/{part}" for part in CIFAR_PARTS[bool(train)]]
    if not places.find(archive.name):
        unpacked = [places.find(part) for part in parts]
        if all(unpacked):
            return *formats.read_cifar_files([paths[0] for paths in unpacked]), ""
        if jpeg_copies := places.find("cifar10_jpeg.npz"):
            return formats.read_jpeg_copy(jpeg_copies[0], _part(train))
        if not places.download and (pickled := places.find("cifar-10-python.tar.gz")):
            raise places.error(
                f"{pickled[0]} is the Python version, which holds pickles, and minigrad reads none", archive,
                details="The same images are in the binary version, with no code in it.",
            )  # fmt: skip
    path = places.get(archive)
    return *formats.read_cifar_records(formats.read_tar_members(path, parts), str(path)), ""


def _as_dtype(images: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    if np.dtype(dtype) == np.uint8:
        return images
    if np.dtype(dtype).kind == "f":
        return np.divide(images, 255, dtype=dtype)
    raise DataError(f"dtype is {np.dtype(dtype)}; expected a float dtype for images in [0, 1], or uint8 for raw bytes.")


def _part(train: bool) -> str:
    return "train" if train else "test"
