"""Where the wheels of NVIDIA that are installed keep their libraries and headers."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def folders(name: str) -> list[Path]:
    """The folders of this name ("lib", "include") in all of NVIDIA's wheels; none where there are no wheels."""
    try:
        nvidia = importlib.util.find_spec("nvidia")
    except ValueError:
        return []
    places = list(nvidia.submodule_search_locations or ()) if nvidia else []
    return [folder for place in places for folder in Path(place).glob(f"*/{name}")]


def headers(header: str) -> Path | None:
    """The folder that has this header."""
    return next((folder for folder in folders("include") if (folder / header).exists()), None)
