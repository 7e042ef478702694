"""Text in a drawing: made safe for DOT's HTML-like labels, and short.

A label passes through three readers, each with special characters of its own: DOT (which counts < and >), XML (which
knows & and forbids most control characters), and Graphviz's escape strings (where a backslash and N mean the node's
name).
"""

from __future__ import annotations

from html import escape
from typing import Any

import graphviz
import numpy as np

LONGEST = 60


def safe(text: str) -> str:
    """`text` escaped for an HTML-like label, so that no sign in it is read as markup. Line breaks are preserved."""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return "<BR/>".join(_safe_line(line) for line in text.split("\n"))


def _safe_line(line: str) -> str:
    return escape(visible(line)).replace("\\", "&#92;&#92;")


def visible(line: str) -> str:
    """`line` with what cannot be printed, control characters and half surrogates, as Python's escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def tooltip(text: str) -> str:
    """`text` for a plain string of DOT's: as it is, or as escapes where XML has no such character."""
    return graphviz.escape("\n".join(visible(line) for line in text.split("\n")))


def lines(*rows: tuple[str, str], size: int | None = None) -> str:
    """A label of rows (text, colour), the first in the node's size, the others smaller."""
    parts = []
    for i, (text, colour) in enumerate(rows):
        points = f' POINT-SIZE="{size}"' if size else ' POINT-SIZE="9"' if i else ""
        parts.append(f'<FONT COLOR="{colour}"{points}>{safe(text) or " "}</FONT>')
    return f"<{'<BR/>'.join(parts)}>"


def value_text(array: np.ndarray) -> str:
    """A number, a few numbers, or the range of many."""
    if array.size == 1:
        return _number(array.reshape(-1)[0])
    if array.size == 0:
        return "empty"
    if array.size <= 4 and array.ndim == 1:
        return f"[{', '.join(_number(x) for x in array)}]"
    low, high = array.min(), array.max()
    return f"all {_number(low)}" if low == high else f"from {_number(low, 3)} to {_number(high, 3)}"


def _number(value: Any, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, (float, np.floating)) else str(value)


def header(title: str | None, kinds: list[tuple[str, str, str]]) -> str:
    """A label above the graph: the title, and a sample (meaning, fill, line) of each kind of node."""
    rows = []
    if title:
        rows.append(f'<TR><TD COLSPAN="{max(1, len(kinds))}"><FONT POINT-SIZE="15">{safe(title)}</FONT></TD></TR>')
    cells = [
        f'<TD BORDER="1" STYLE="ROUNDED" COLOR="{line}" BGCOLOR="{fill}">'
        f'<FONT POINT-SIZE="9">{safe(meaning)}</FONT></TD>'
        for meaning, fill, line in kinds
    ]
    if cells:
        rows.append(f"<TR>{''.join(cells)}</TR>")
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="5" CELLPADDING="3">{"".join(rows)}</TABLE>>'
