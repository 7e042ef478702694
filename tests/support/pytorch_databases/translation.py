"""Calls of PyTorch as calls of minigrad: tensors, dtypes, and arguments by the names and places they have there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Peer:
    """One of minigrad's functions, and PyTorch's parameters in their order with the names they have here.

    "x dim=axis =k stable=" says: the first is handed on by position; the second, PyTorch's `dim`, by keyword as `axis`;
    the third by keyword as `k`; the fourth is dropped, since every value of it is served. "*" hands all on as it is.
    """

    ours: Callable[..., Any]
    parameters: str
    theirs: Callable[..., Any] | None = None
    """What PyTorch is asked in place of the database's op, where that one answers more or otherwise than needed."""


class NotTaken(Exception):
    """A parameter of PyTorch's that minigrad's function does not have."""


def _parameters(peer: Peer) -> list[tuple[str, str | None]]:
    """PyTorch's name and minigrad's keyword: None to hand it on by position, empty to drop it."""
    parts = (token.partition("=") for token in peer.parameters.split())
    return [(theirs or here, here if renamed else None) for theirs, renamed, here in parts]


def bound(peer: Peer, values: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by PyTorch's names; those beyond the names that the peer lists by their place."""
    names = [name for name, _ in _parameters(peer)]
    names += [f"argument {i}" for i in range(len(names), len(values))]
    return dict(zip(names, values, strict=False)) | options


def translate(peer: Peer, values: tuple, options: dict[str, Any]) -> tuple[list, dict[str, Any]]:
    """The arguments for minigrad's function; NotTaken for a parameter that it lacks."""
    if peer.parameters == "*":
        return [ours(value) for value in values], {name: ours(value) for name, value in options.items()}
    given, positional, keywords = bound(peer, values, options), [], {}
    for name, here in _parameters(peer):
        if name not in given:
            continue
        value = ours(given.pop(name))
        if here:
            keywords[here] = value
        elif here is None:
            positional.append(value)
    unknown = [name for name, value in given.items() if value is not None]
    if unknown:
        raise NotTaken(", ".join(unknown))
    return positional, keywords


def ours(value: Any) -> Any:
    """A value of PyTorch's as minigrad's: tensors keep their values, strides, offset and need of a gradient."""
    if isinstance(value, torch.Tensor):
        return mg.from_numpy(copied(value).numpy()).requires_grad_(value.requires_grad)
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, tuple):  # torch.Size too
        return tuple(ours(part) for part in value)
    if isinstance(value, list):
        return [ours(part) for part in value]
    return value


def copied(value: torch.Tensor) -> torch.Tensor:
    """The same values, strides and offset in memory of its own, so that neither library sees what the other writes."""
    storage = value.detach().untyped_storage().clone()
    return torch.empty(0, dtype=value.dtype).set_(storage, value.storage_offset(), value.size(), value.stride())


def leaves(value: Any, kind: type) -> list:
    """The tensors of a kind in a value, in their order."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in leaves(part, kind)] if isinstance(value, (tuple, list)) else []
