"""File formats of data sets: IDX, CIFAR-10's binary records, JPEGs in an npz. None of them holds pickles.

Each reader checks the header and the size of what it reads, and raises `DataError` where they are wrong.
"""

import contextlib
import gzip
import io
import itertools
import tarfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .dataset import DataError
from .files import cache_folder, first_line, md5_of, whole_file

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where its name ends in ``.gz``. Raises `DataError` where the gzip is damaged."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as damage:
        raise DataError(f"{path}: the gzip file is cut short or damaged ({damage}). Get a fresh copy.") from damage


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
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_DTYPES:
        raise DataError(
            f"{path}: not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}; expected 00 00, a dtype "
            f"byte from {' '.join(f'{code:02x}' for code in IDX_DTYPES)}, and the number of axes. Get a fresh copy."
        )
    axes, header = content[3], 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path}: cut short inside its header: {len(content)} bytes, expected {header} or more.")
    found = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, offset=4))
    if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
        wanted = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
        raise DataError(f"{path}: holds an array of shape {found}; expected {wanted}. Is it another file, renamed?")
    dtype = np.dtype(IDX_DTYPES[content[2]])
    expected = header + dtype.itemsize * int(np.prod(found, dtype=np.int64))
    if len(content) != expected:
        raise DataError(
            f"{path}: {len(content)} bytes, but its header, shape {found} of {dtype.name}, calls for {expected}. "
            "Get a fresh copy."
        )
    return np.frombuffer(content, dtype, offset=header).reshape(found).astype(dtype.newbyteorder("="))


def read_cifar_records(members: list[bytes], label: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary files: a byte for the class, then 3x32x32 bytes, red plane first, 10,000 times each.

    Returns uint8 images, shape (N, 3, 32, 32), and uint8 labels, shape (N,).
    """
    size = 10_000 * 3073
    for position, member in enumerate(members):
        if len(member) != size:
            raise DataError(f"{label}: batch {position} has {len(member)} bytes; expected {size}. Get a fresh copy.")
    records = np.concatenate([np.frombuffer(member, np.uint8) for member in members]).reshape(-1, 3073)
    return _checked_images(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], label)


def read_tar_members(path: Path, names: list[str]) -> list[bytes]:
    """Files out of a tar.gz, in memory: nothing is unpacked to disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.isfile() and member.name in names:
                    found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
                if len(found) == len(names):
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error) as damage:
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            content, offsets, labels = (archive[f"{split}_{part}"] for part in ("bytes", "offsets", "labels"))
    except Exception as damage:
        raise DataError(
            f"{path}: cannot be read as an npz file of JPEGs ({first_line(damage)}). Get a fresh copy."
        ) from damage
    number = len(offsets) - 1
    if (
        len(labels) != number
        or number < 1
        or offsets[0] != 0
        or np.any(np.diff(offsets) <= 0)
        or offsets[-1] != len(content)
    ):
        raise DataError(
            f"{path}: {split}_offsets ({len(offsets)}), {split}_labels ({len(labels)}) and {split}_bytes "
            f"({len(content)}) do not fit together; expected rising offsets from 0 to the number of bytes, "
            "one more than labels. Get a fresh copy."
        )
    images = _cached(
        cache_folder() / "decoded" / f"{path.stem}-{split}-{md5_of(path)}.npy",
        (number, 3, 32, 32),
        lambda: _decode_jpegs(content.tobytes(), offsets, path),
    )
    return *_checked_images(images, labels, str(path)), _jpeg_note(content, path)


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
            picture = Image.open(io.BytesIO(content[start:end]), formats=("JPEG",))
            if picture.size != (32, 32):
                raise DataError(f"{picture.width}x{picture.height} pixels")
            images[index] = np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as damage:
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


def _checked_images(images: np.ndarray, labels: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
    if labels.max() > 9:
        raise DataError(f"{label}: holds class {labels.max()}; expected classes 0 to 9. Get a fresh copy.")
    return images, labels
