"""Files of tensors: safetensors, written so that nothing is lost, read without running anything.

A safetensors file is a JSON header and the bytes of the arrays, nothing else: no pickle, hence no code. Other programs
read it (`safetensors.torch.load_file`). After this file you know how a file is replaced without a moment in which
neither the old one nor the new one is whole, and how nested state (an optimizer's, say) fits into flat names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from minigrad.autograd.tensor import Tensor
from minigrad.backend import check_dtype, is_array, to_device

PathLike = str | os.PathLike[str]
STATE_KEY = "minigrad.state"
RESERVED = "__metadata__"


class CheckpointError(ValueError):
    """A file that is no whole safetensors file, or does not hold what was asked for."""


# --- flat: names and tensors ---


def save(path: PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors to a safetensors file; returns its path.

    The file is written beside `path` under another name, forced to the disk, and renamed: whatever happens, a power cut
    or Ctrl-C, `path` is either what it was or complete.

    Parameters
    ----------
    path : path
        Its folder is made if need be. The customary suffix is ".safetensors".
    tensors : dict of str to Tensor or array
        Of any shape and dtype that a Tensor can have, on any device.
    metadata : dict of str to str, optional
        Stored with them.

    Raises
    ------
    TypeError
        A name that is not a str, or a value that is not an array; metadata that is not text.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    arrays = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"save: names must be str, got {name!r}; for nested state use save_state.")
        if name == RESERVED:
            raise TypeError(f"save: {RESERVED!r} is the file format's own name; give the tensor another.")
        arrays[name] = _on_host(name, value)
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(
                f"save: metadata must be text, got {key!r}: {type(text).__name__}; for numbers use json.dumps."
            )
    _replace(path, to_bytes(arrays, dict(metadata) if metadata else None))
    return path


def load(path: PathLike, device: str = "cpu") -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, onto `device`.

    Raises
    ------
    FileNotFoundError
        No such file; the message says what else is in the folder.
    CheckpointError
        The file is damaged, cut short, or of another kind; or holds a dtype that minigrad does not.
    """
    tensors, _ = _read(Path(path))
    return {name: Tensor(to_device(array, device)) for name, array in tensors.items()}


def load_metadata(path: PathLike) -> dict[str, str]:
    """Read only the metadata of a safetensors file. Raises what `load` raises."""
    path = Path(path)
    with _open(path) as file:
        return dict(file.metadata() or {})


# --- nested: dicts and lists of tensors, numbers, text ---


def save_state(path: PathLike, state: Any, metadata: Mapping[str, str] | None = None) -> Path:
    """Write nested state: dicts, lists and tuples of Tensors, arrays, numbers, text, True, False and None.

    Tensors are stored under dotted names, {"model": {"fc.weight": w}} as "model.fc.weight"; the rest, and what is
    where, as JSON in the metadata. `load_state` gives back the same, with dict keys and tuples as they were.

    Raises
    ------
    TypeError
        Something of another type; the message says where it stands.
    """
    tensors: dict[str, Any] = {}
    skeleton = _take_apart(state, "", tensors)
    return save(path, tensors, {**(metadata or {}), STATE_KEY: json.dumps(skeleton)})


def load_state(path: PathLike, device: str = "cpu") -> Any:
    """Read what `save_state` wrote. Raises what `load` raises, and CheckpointError for a file that `save` wrote."""
    path = Path(path)
    tensors, metadata = _read(path)
    if STATE_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but no state of training: expected a file written by save_state or fit. "
            "Its tensors can be read with minigrad.serialization.load."
        )
    return _put_together(json.loads(metadata[STATE_KEY]), {n: Tensor(to_device(a, device)) for n, a in tensors.items()})


def _take_apart(value: Any, place: str, tensors: dict[str, Any]) -> Any:
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
                raise TypeError(f"save_state: keys must be str or int, got {key!r} in {place or 'the state'}.")
        return {"dict": [[k, _take_apart(v, f"{place}.{k}".lstrip("."), tensors)] for k, v in value.items()]}
    raise TypeError(
        f"save_state: {place or 'the state'} is a {type(value).__name__}; expected Tensors, arrays, numbers, text, "
        "or dicts, lists and tuples of them."
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


def _on_host(name: str, value: Any) -> np.ndarray:
    array = value.data if isinstance(value, Tensor) else value
    if not is_array(array):
        raise TypeError(f"save: {name!r} is a {type(value).__name__}, expected a Tensor or an array.")
    array = np.asarray(to_device(array, "cpu"))
    try:
        check_dtype(array.dtype.newbyteorder("="))
    except TypeError as error:
        raise TypeError(f"save: {name!r}: {error}") from None
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # the new name in the folder; not every system lets a folder be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
            f"{path} ({size} bytes) is no whole safetensors file: {error}. It was cut short, or is of another kind "
            "(a PyTorch .pt or a NumPy .npz, for instance). Copy it anew, or load its tensors with the library that "
            "wrote them and pass them to minigrad.serialization.save."
        ) from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with _open(path) as file:
        tensors = {}
        for name in file.keys():  # noqa: SIM118  (a safe_open is no dict)
            try:
                array = file.get_tensor(name)
                check_dtype(array.dtype)
            except (SafetensorError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{path}: cannot read {name!r}: {error}") from error
            tensors[name] = array if array.ndim else array[()]
        return tensors, dict(file.metadata() or {})
