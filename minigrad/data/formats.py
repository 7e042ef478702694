"""File formats of data sets: IDX, CIFAR-10's binary records, JPEGs in an npz. None of them holds pickles.

Each reader checks the header and the size of what it reads, before it unpacks it, and raises `DataError` with the
file's name where they are wrong.
"""

import contextlib
import gzip
import io
import itertools
import math
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .dataset import DataError
from .files import cache_folder, first_line, md5_of, whole_file

LARGEST = 1 << 30
"""Bytes in an IDX file that are read at most: the largest that we know has a twentieth of it."""
BEYOND = 1 << 20
"""Bytes that are read beyond the last, since the checksum of a damaged gzip file stands at its end."""
IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def opened(path: Path) -> BinaryIO:
    """A file's content as a stream, unpacked where its name ends in ``.gz``."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


def read_at_most(path: Path, stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes of a stream: what a data set cannot hold is never unpacked, however much there is of it."""
    try:
        return stream.read(size)
    except (EOFError, OSError, zlib.error) as damage:
        kind = "gzip file is cut short or damaged" if path.suffix == ".gz" else "file cannot be read"
        raise DataError(f"{path}: the {kind} ({damage}). Get a fresh copy.") from damage


def read_idx(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    Two zero bytes, a byte for the dtype, a byte for the number of axes, each axis' length as a big-endian
    32-bit number, then the values in C order (LeCun, Cortes, Burges: "The MNIST database", file formats).

    Parameters
    ----------
    path : Path
    shape : tuple
        What is expected; None for any length of that axis.

    Returns
    -------
    array of the file's dtype, in native byte order

    Raises
    ------
    DataError
        A header that is not IDX's, another shape than expected, or another number of bytes.
    """
    try:
        stream = opened(path)
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error
    with stream:
        start = read_at_most(path, stream, 4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_DTYPES:
            raise DataError(
                f"{path}: not an IDX file: it starts with {start.hex(' ') or 'nothing'}; expected 00 00, a dtype "
                f"byte from {' '.join(f'{code:02x}' for code in IDX_DTYPES)}, and the number of axes. Get a fresh copy."
            )
        axes, header = start[3], 4 + 4 * start[3]
        lengths = read_at_most(path, stream, header - 4)
        if len(lengths) < header - 4:
            raise DataError(
                f"{path}: cut short inside its header: {4 + len(lengths)} bytes, expected {header} or more."
            )
        found = tuple(int(length) for length in np.frombuffer(lengths, ">u4", axes))
        if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
            wanted = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
            raise DataError(f"{path}: holds an array of shape {found}; expected {wanted}. Is it another file, renamed?")
        dtype = np.dtype(IDX_DTYPES[start[2]])
        expected = header + dtype.itemsize * math.prod(found)
        if expected > LARGEST:
            raise DataError(f"{path}: its header, shape {found} of {dtype.name}, calls for {expected} bytes, too many.")
        values = read_at_most(path, stream, expected - header + BEYOND)
    if header + len(values) != expected:
        more = " or more" if header + len(values) > expected else ""
        raise DataError(
            f"{path}: {header + len(values)} bytes{more}, but its header, shape {found} of {dtype.name}, calls for "
            f"{expected}. Get a fresh copy."
        )
    return np.frombuffer(values, dtype).reshape(found).astype(dtype.newbyteorder("="))


BATCH_SIZE = 10_000 * 3073
"""Bytes in one of CIFAR-10's binary files: a byte for the class, then 3x32x32 bytes, 10,000 times."""


def read_cifar_files(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary files as they were unpacked by the user, see `read_cifar_records`.

    No checksums of them are published, so they are taken as they are, but for their sizes and classes; where the
    classes are not as many of each as in CIFAR-10, there is a warning.
    """
    for path in paths:
        if (size := path.stat().st_size) != BATCH_SIZE:
            raise DataError(f"{path}: {size} bytes; expected {BATCH_SIZE}. Get a fresh copy.")
    where = str(paths[0].parent)
    images, labels = read_cifar_records([path.read_bytes() for path in paths], where)
    counts = np.bincount(labels, minlength=10)
    if len(set(counts.tolist())) > 1:
        warnings.warn(
            f"{where}: not the original files: they hold {counts.tolist()} images of the ten classes, where CIFAR-10 "
            f"has {len(labels) // 10} of each. They are used as they are; results on them are none on CIFAR-10.",
            stacklevel=4,
        )
    return images, labels


def read_cifar_records(members: list[bytes], label: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary files: a byte for the class, then 3x32x32 bytes, red plane first, 10,000 times each.

    Returns uint8 images, shape (N, 3, 32, 32), and uint8 labels, shape (N,).
    """
    for position, member in enumerate(members):
        if len(member) != BATCH_SIZE:
            raise DataError(
                f"{label}: batch {position} has {len(member)} bytes; expected {BATCH_SIZE}. Get a fresh copy."
            )
    records = np.concatenate([np.frombuffer(member, np.uint8) for member in members]).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), checked_labels(records[:, 0], label)


class _Limited:
    """A stream that ends in an error after so many bytes: an archive may unpack to far more than it holds."""

    def __init__(self, stream: BinaryIO, left: int, path: Path):
        self.stream, self.left, self.path = stream, left, path

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(content)
        if self.left < 0:
            raise DataError(f"{self.path}: unpacks to more than the data set can be. Get a fresh copy.")
        return content


def read_tar_members(path: Path, names: list[str], size: int = BATCH_SIZE) -> list[bytes]:
    """Files of `size` bytes out of a tar.gz, in memory: nothing is unpacked to disk, and no more than six can have."""
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path, "rb") as unpacked:
            limited: Any = _Limited(unpacked, 7 * size, path)  # type: ignore[arg-type]
            with tarfile.open(fileobj=limited, mode="r|") as archive:
                for member in archive:
                    if member.isfile() and member.name in names and member.name not in found:
                        if member.size != size:
                            raise DataError(
                                f"{path}: {member.name} has {member.size} bytes; expected {size}. Get a fresh copy."
                            )
                        found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
                    if len(found) == len(names):
                        break
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as damage:
        raise DataError(f"{path}: the archive is cut short or damaged ({damage}). Get a fresh copy.") from damage
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{path}: lacks {', '.join(missing)}. Is it another archive, renamed?")
    return [found[name] for name in names]


def read_jpeg_copy(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Decode CIFAR-10 from an npz file of JPEGs; the result is stored in the cache if that can be written to.

    The file holds, for each split, ``{split}_bytes`` (all JPEGs end to end), ``{split}_offsets`` (N + 1 starts)
    and ``{split}_labels``. Decoding takes some 0.5 s for 10,000 images; threads do not help, as images this
    small hold Python's lock.

    Returns
    -------
    images : uint8 array, shape (N, 3, 32, 32)
    labels : uint8 array, shape (N,)
    note : str
        What a reader of results should know: "JPEG copy", or "JPEG copy, damaged", with a warning.
        (JPEG has no checksums: a decoder turns damaged bytes into damaged squares without an error.)
    """
    content, offsets, labels = (_npz_column(path, f"{split}_{part}") for part in ("bytes", "offsets", "labels"))
    number = len(offsets) - 1
    most = {"train": 50_000, "test": 10_000}.get(split, 60_000)
    rising = number >= 1 and offsets[0] == 0 and offsets[-1] == len(content) and not np.any(offsets[1:] <= offsets[:-1])
    if content.dtype != np.uint8 or len(labels) != number or not rising:
        raise DataError(
            f"{path}: {split}_offsets ({len(offsets)}), {split}_labels ({len(labels)}) and {split}_bytes "
            f"({len(content)}) do not fit together; expected rising offsets from 0 to the number of bytes, "
            "one more than labels. Get a fresh copy."
        )
    if number > most:
        raise DataError(
            f"{path}: holds {number} images to {split} on; CIFAR-10 has {most}. Is it another file, renamed?"
        )
    labels = checked_labels(labels, str(path))
    images = _cached(
        cache_folder() / "decoded" / f"{path.stem}-{split}-{md5_of(path)}.npy",
        (number, 3, 32, 32),
        lambda: _decode_jpegs(content.tobytes(), offsets, path),
    )
    return images, labels.astype(np.uint8), _jpeg_note(content, path)


LARGEST_COLUMN = 50_000 * 4096
"""Bytes of all JPEGs: 32x32 pixels take 3 kB unpacked, and less as a JPEG."""


def _npz_column(path: Path, name: str) -> np.ndarray:
    """One whole number a row out of an npz file. Its size is looked at before it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > LARGEST_COLUMN:
                raise DataError(f"{path}: {name} unpacks to {info.file_size} bytes, more than the data set can be.")
            with archive.open(info) as stream:
                unpacked = io.BytesIO(stream.read(info.file_size))
        version = np.lib.format.read_magic(unpacked)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(unpacked)
        values = unpacked.read()
    except DataError:
        raise
    except Exception as damage:
        raise DataError(
            f"{path}: {name} cannot be read as an array of an npz file of JPEGs ({first_line(damage)}). Get a fresh "
            "copy."
        ) from damage
    if len(shape) != 1 or dtype.kind not in "iu" or len(values) != shape[0] * dtype.itemsize:
        what = "pickles, which cannot be read here" if dtype.hasobject else f"shape {shape} and dtype {dtype}"
        raise DataError(
            f"{path}: {name} has {what} in {len(values)} bytes; expected whole numbers in one dimension. Get a fresh "
            "copy."
        )
    return np.frombuffer(values, dtype)


def _jpeg_note(content: np.ndarray, path: Path) -> str:
    # Where 0x0D alone never occurs, the file was copied in text mode: by chance it would not be missing.
    if not np.array_equal(np.flatnonzero(np.bincount(content, minlength=256) == 0), [0x0D]):
        return "JPEG copy"
    warnings.warn(
        f"{path}: damaged: not one byte 0x0D in {len(content)} bytes of JPEG, as after a copy in text mode that made "
        "line feeds of carriage returns. Many images are garbled, and results from them mean little. Get a fresh copy.",
        stacklevel=4,
    )
    return "JPEG copy, damaged"


def _decode_jpegs(content: bytes, offsets: np.ndarray, path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as missing:
        raise DataError(f'{path}: decoding JPEGs needs Pillow: pip install "minigrad[examples]"') from missing
    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    for index, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pictures that say to be huge: they are refused
                picture = Image.open(io.BytesIO(content[start:end]), formats=("JPEG",))
            if picture.size != (32, 32):
                raise DataError(f"{picture.width}x{picture.height} pixels")
            images[index] = np.asarray(picture.convert("RGB"))
        except Exception as damage:  # Pillow raises errors of many kinds for damaged headers
            raise DataError(
                f"{path}: image {index} is not a 32x32 JPEG ({first_line(damage)}). Get a fresh copy."
            ) from damage
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _cached(path: Path, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array stored at `path`, or made and stored. Where reading or writing fails, it is made each time."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        stored = np.load(path, allow_pickle=False)
        if stored.shape == shape and stored.dtype == np.uint8:
            return stored
    made = make()
    with contextlib.suppress(OSError), whole_file(path) as stream:
        np.save(stream, made, allow_pickle=False)
    return made


def checked_labels(labels: np.ndarray, label: str, classes: int = 10) -> np.ndarray:
    """The labels, if they are whole numbers in one dimension that name a class; else DataError."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{label}: labels of shape {labels.shape} and dtype {labels.dtype}; expected one whole number an image. "
            "Get a fresh copy."
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        worst = labels.max() if labels.max() >= classes else labels.min()
        raise DataError(f"{label}: holds class {worst}; expected classes 0 to {classes - 1}. Get a fresh copy.")
    return labels
