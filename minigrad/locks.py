"""Locks that a forked child finds open: the thread that may hold one in the parent does not exist there."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from typing import Any


def lock() -> AbstractContextManager[Any]:
    """A lock for `with`; the thread that holds it may take it again, as a finalizer may that runs in between."""
    made: Any = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made._at_fork_reinit)
    return made  # type: ignore[no-any-return]
