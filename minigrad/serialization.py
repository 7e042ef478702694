"""Saving and loading tensors, state dicts and whole states of training: public as `minigrad.save` and `minigrad.load`.

Files are safetensors: a JSON header and the bytes of the arrays. There is no pickle in them, so loading one runs no
code, and other programs read them (`safetensors.torch.load_file`). After this file you know how a file is replaced so
that at every moment either the old one or the new one is complete, and how nested state, such as an optimizer's, is
stored under flat names.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from minigrad.autograd.tensor import Tensor, array_of
from minigrad.backend import Array, check_dtype, is_array, to_device

__all__ = ["CheckpointError", "load", "load_metadata", "load_state", "save", "save_state"]

PathLike = str | os.PathLike[str]
STATE_KEY = "minigrad.state"
CHECKSUM_KEY = "minigrad.sha256"
NO_CHECKSUM = "0" * 64
RESERVED = "__metadata__"


class CheckpointError(ValueError):
    """A file that is not a complete safetensors file, or does not hold what was asked for."""


# --- public ---


def save(path: PathLike, state: object, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a Tensor, a state dict, or nested state to a safetensors file; returns the file's path.

    Examples: `save("net.safetensors", model.state_dict())`, `save("x.safetensors", x)`,
    `save("run.safetensors", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})`.

    The new content is written beside `path` under another name, forced to the disk, and renamed. After a power cut or
    Ctrl-C, `path` is therefore either what it was or complete. Its SHA-256 is stored in the metadata, and `load` looks
    whether it still holds.

    Parameters
    ----------
    path : path
        Missing folders are created. The customary suffix is ".safetensors".
    state : Tensor, array, or dicts, lists and tuples of Tensors, arrays, numbers, text, True, False and None
        Tensors of any dtype, on any device. A flat dict of names and tensors is stored as it is. In other states each
        tensor is stored under a dotted name, {"model": {"fc.weight": w}} as "model.fc.weight"; everything else, and
        the structure, as JSON in the metadata.
    metadata : dict of str to str, optional
        Stored beside the tensors; `load_metadata` reads it.

    Raises
    ------
    TypeError
        A value of another type (the message says where in the state it is), or metadata that is not text.
    OSError
        The file cannot be written, because the disk is full, say; what was there before is unchanged.
    """
    path = _checked_path(path, state)
    if isinstance(state, Mapping) and all(isinstance(name, str) and _is_tensor(value) for name, value in state.items()):
        return _write(path, state, _checked_metadata(metadata))
    return save_state(path, state, metadata)


def load(path: PathLike, device: str = "cpu") -> Any:
    """Read what `save` wrote, or another program's safetensors file, with its tensors on `device`.

    Returns the Tensor, dict or nested state that was saved, with dict keys and tuples as they were; for a file of
    another program a dict of Tensors by name. Arrays come back as Tensors.

    Raises
    ------
    FileNotFoundError
        There is no such file; the message says what else is in the folder.
    CheckpointError
        The file is damaged, by a single bit even, cut short, or of another kind; or holds a dtype that minigrad does
        not have. (Files of other programs have no checksum: flipped bits are found only where they break the format.)
    """
    path = Path(path)
    arrays, metadata = _read(path)
    tensors = {name: Tensor(to_device(array, device)) for name, array in arrays.items()}
    if STATE_KEY not in metadata:
        return tensors
    try:
        return _put_together(json.loads(metadata[STATE_KEY]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"it names a tensor {error} that the file lacks" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{path}: the structure of the state, metadata {STATE_KEY!r}, is damaged: {what}. Copy the file anew."
        ) from error


def load_metadata(path: PathLike) -> dict[str, str]:
    """Read only the metadata of a safetensors file. Raises what `load` raises, but for flipped bits in the arrays."""
    with _open(Path(path)) as file:
        return {key: text for key, text in (file.metadata() or {}).items() if key != CHECKSUM_KEY}


def save_state(path: PathLike, state: object, metadata: Mapping[str, str] | None = None) -> Path:
    """`save` that stores the structure of a flat dict of tensors too. Raises what `save` raises."""
    path = _checked_path(path, state)
    tensors: dict[str, Any] = {}
    try:
        skeleton = json.dumps(_take_apart(state, "", tensors))
    except RecursionError:
        raise TypeError(
            "save: the state is nested too deep, or holds itself; expected at most some 100 levels."
        ) from None
    return _write(path, tensors, {**_checked_metadata(metadata), STATE_KEY: skeleton})


def load_state(path: PathLike, device: str = "cpu") -> Any:
    """`load` that raises CheckpointError for a file of tensors without a structure, such as another program's."""
    path = Path(path)
    if STATE_KEY not in load_metadata(path):
        raise CheckpointError(
            f"{path} holds tensors but no state of training: expected a file written by save_state or fit. "
            "Its tensors can be read with minigrad.load."
        )
    return load(path, device)


def _checked_path(path: object, state: object) -> Path:
    if isinstance(path, (str, os.PathLike)):
        return Path(path)
    swapped = isinstance(state, (str, os.PathLike))
    hint = " The path comes first and the state second; torch.save takes them the other way round." if swapped else ""
    raise TypeError(f"save: the path is a {type(path).__name__}, expected a str or Path.{hint}")


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(
                f"save: metadata must be text, got {key!r}: {type(text).__name__}; for numbers use json.dumps."
            )
        if key in (STATE_KEY, CHECKSUM_KEY):
            raise TypeError(f"save: the metadata {key!r} is minigrad's own; choose another name.")
    return dict(metadata or {})


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) or is_array(value)


# --- nested state in flat names ---


def _take_apart(value: object, place: str, tensors: dict[str, Any]) -> Any:
    """`value` with each tensor moved to `tensors` and its name left in its place; all that remains is JSON."""
    if isinstance(value, Tensor) or (is_array(value) and not isinstance(value, np.generic)):
        name = place or "value"
        while name in tensors or name == RESERVED:
            name += "_"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_take_apart(part, f"{place}.{i}".lstrip("."), tensors) for i, part in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": _take_apart(list(value), place, tensors)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                raise TypeError(f"save: keys must be str or int, got {key!r} in {place or 'the state'}.")
        return {"dict": [[k, _take_apart(v, f"{place}.{k}".lstrip("."), tensors)] for k, v in value.items()]}
    hint = " Save its state_dict()." if hasattr(value, "state_dict") else ""
    raise TypeError(
        f"save: {place or 'the state'} is a {type(value).__name__}; expected Tensors, arrays, numbers, text, "
        f"or dicts, lists and tuples of them.{hint}"
    )


def _put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_put_together(content, tensors))
    return {key: _put_together(part, tensors) for key, part in content}


# --- bytes ---


def _write(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> Path:
    if RESERVED in tensors:
        raise TypeError(f"save: {RESERVED!r} is a name of the file format itself; give the tensor another name.")
    arrays = {name: _on_host(name, value) for name, value in tensors.items()}
    content = to_bytes(arrays, {**metadata, CHECKSUM_KEY: NO_CHECKSUM})
    before, after = _around_checksum(content)
    replace_file(path, before, _sha256(before, NO_CHECKSUM.encode(), after).encode(), after)
    return path


def _around_checksum(content: bytes) -> tuple[memoryview, memoryview]:
    """What stands before the checksum in a file, and what stands after it."""
    start = content.index(f'"{CHECKSUM_KEY}":"{NO_CHECKSUM}"'.encode()) + len(f'"{CHECKSUM_KEY}":"')
    view = memoryview(content)
    return view[:start], view[start + len(NO_CHECKSUM) :]


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _check(path: Path, checksum: str) -> None:
    """Raise CheckpointError unless the file has the SHA-256 that it had when it was written.

    The sum is over the whole file with zeros in the place of the sum itself, so that it holds for the header too.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        header = file.read(8)
        header += file.read(int.from_bytes(header, "little"))
        marked = header.replace(f'"{checksum}"'.encode(), f'"{NO_CHECKSUM}"'.encode(), 1)
        digest.update(marked)
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    if digest.hexdigest() != checksum:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {digest.hexdigest()[:12]}..., but was {checksum[:12]}... when it was "
            "written. Bits have changed on the disk or on the way, or another program has rewritten it. Copy it anew; "
            "to read it as it is, use safetensors.numpy.load_file."
        )


def _on_host(name: str, value: Tensor | Array) -> np.ndarray:
    array = np.asarray(to_device(array_of(value), "cpu"))
    try:
        check_dtype(array.dtype.newbyteorder("="))
    except TypeError as error:
        raise TypeError(f"save: {name!r}: {error}") from None
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def replace_file(path: Path, *content: bytes | memoryview) -> None:
    """Write a file so that `path` is never incomplete: what was there stays until the new content is on the disk.

    Raises OSError with what to do, where it cannot be written; nothing is then left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _unwritten(path, error) from error
        raise
    with suppress(OSError):  # the new name in the folder; not every system lets a folder be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _unwritten(path: Path, error: OSError) -> OSError:
    """The same error, with what to do about it."""
    advice = {
        errno.ENOSPC: "Free some space, or choose a folder on another disk.",
        errno.EDQUOT: "Free some space, or choose a folder on another disk.",
        errno.EROFS: "Choose a folder that can be written to.",
        errno.EACCES: "Choose a folder that you may write to.",
        errno.EPERM: "Choose a folder that you may write to.",
        errno.ENOTDIR: "A part of this path is a file: choose another folder.",
        errno.EEXIST: "A part of this path is a file: choose another folder.",
        errno.EISDIR: "It is a folder: give the name of a file.",
    }.get(error.errno or 0, "Choose another place.")
    why = error.strerror or str(error) or type(error).__name__
    return OSError(
        error.errno or 0, f"cannot be written: {why}. What was there before is unchanged. {advice}", str(path)
    )


def _open(path: Path) -> Any:
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.safetensors")) if path.parent.is_dir() else None
        found = (
            f"the folder {path.parent} does not exist"
            if there is None
            else f"{path.parent} holds {', '.join(there) or 'no .safetensors file'}"
        )
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a safetensors file ({found}).")
    try:
        return safe_open(str(path), framework="numpy")
    except SafetensorError as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} ({size} bytes) is not a complete safetensors file: {error}. It was cut short, or is of another "
            "kind (a PyTorch .pt or a NumPy .npz, for instance). Copy it anew, or load its tensors with the library "
            "that wrote them and pass them to minigrad.save."
        ) from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with _open(path) as file:
        metadata = dict(file.metadata() or {})
        if CHECKSUM_KEY in metadata:
            _check(path, metadata.pop(CHECKSUM_KEY))
        tensors = {}
        for name in file.keys():  # noqa: SIM118  (a safe_open is no dict)
            try:
                array = file.get_tensor(name)
                check_dtype(array.dtype)
            except (SafetensorError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{path}: cannot read {name!r}: {error}") from error
            tensors[name] = array if array.ndim else array[()]
        return tensors, metadata


def __dir__() -> list[str]:
    return sorted(__all__)
