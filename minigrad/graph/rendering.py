"""From DOT text to a picture: which program draws it, and what happens if none is installed.

A `Drawing` is a `graphviz.Digraph`. Its DOT text needs no program; a picture is drawn by Graphviz's `dot` or, if that
is not installed, by the pip package graphviz-pure, a program that does the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import graphviz

INSTALL_DOT = (
    'Install a program that draws it: `pip install "minigrad[viz]"`, or Graphviz itself (`apt install graphviz`, '
    "`brew install graphviz`, or https://graphviz.org/download)."
)
TEXT_SUFFIXES = (".dot", ".gv")
PICTURE_SUFFIXES = (".svg", ".png", ".pdf", ".jpg", ".jpeg")


class DrawingError(RuntimeError):
    """A drawing that cannot be turned into a picture here; the message says what to install."""


class Drawing(graphviz.Digraph):
    """A `graphviz.Digraph` that shows itself in notebooks, with `dot` or without.

    `source` is its DOT text. `pipe(format="svg")` and `render(...)` are Graphviz's; they fall back to graphviz-pure,
    and raise DrawingError if neither is installed. `save_as(path)` writes text or a picture, by the suffix.
    """

    def pipe(self, format: str | None = None, *args: Any, encoding: str | None = None, **options: Any) -> Any:
        """The picture as bytes, or as text with `encoding`, in `format` ('svg', 'png'...)."""
        if shutil.which("dot"):
            return super().pipe(format, *args, encoding=encoding, **options)
        picture = _draw_pure(self.source, format or self.format, options.get("engine") or self.engine)
        return picture if encoding is None else picture.decode(encoding)

    def render(
        self,
        filename: str | os.PathLike[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str | None = None,
        **options: Any,
    ) -> str:
        """Write the DOT text and, beside it, the picture; returns the picture's path."""
        if shutil.which("dot"):
            return super().render(filename, directory, view, cleanup, format, **options)
        outfile = options.get("outfile")
        format = format or (Path(outfile).suffix[1:] if outfile else None) or self.format
        picture = self.pipe(format)
        source = Path(self.save(filename, directory=directory))
        path = Path(outfile) if outfile else source.with_name(f"{source.name}.{format}")
        path.write_bytes(picture)
        if cleanup:
            source.unlink()
        if view:
            self._view(str(path), format=format, quiet=False)
        return str(path)

    def save_as(self, path: str | Path) -> Path:
        """Write DOT text (.dot, .gv) or a picture (.svg, .png; with Graphviz also .pdf, .jpg) to `path`."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in TEXT_SUFFIXES:
            path.write_text(self.source, encoding="utf-8")
        elif suffix in PICTURE_SUFFIXES:
            path.write_bytes(self.pipe(suffix[1:]))
        else:
            expected = ", ".join((*TEXT_SUFFIXES, *PICTURE_SUFFIXES))
            raise ValueError(f"save: {path.name!r} has the suffix {suffix!r}; expected one of {expected}.")
        return path

    def _repr_svg_(self) -> str | None:
        """The picture for a notebook; None if no program that draws is installed."""
        try:
            return self.pipe("svg", encoding="utf-8")
        except DrawingError:
            return None

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None, **options: Any
    ) -> dict[str, Any]:
        try:
            return super()._repr_mimebundle_(include, exclude, **options)
        except DrawingError as error:
            return {"text/plain": f"{error}\nUntil then, here is the graph as DOT text:\n\n{self.source}"}


def _draw_pure(source: str, format: str, engine: str) -> bytes:
    program = shutil.which("graphviz-pure") or shutil.which("graphviz-pure", path=sysconfig.get_path("scripts"))
    if program is None:
        raise DrawingError(f"no picture: neither `dot` nor `graphviz-pure` is on the PATH. {INSTALL_DOT}")
    done = subprocess.run([program, f"-K{engine}", f"-T{format}"], input=source.encode(), capture_output=True)
    if done.returncode:
        raise DrawingError(f"graphviz-pure could not draw {format}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
