"""What several tests of the data need: a cache of their own, and where the shared data sets lie."""

import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from minigrad.data import loader

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "data"
SEEDS = st.integers(0, 2**40)
few = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's data or cache, and none leaves a thread."""
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    yield
    assert workers() == []


def workers():
    return [thread for thread in threading.enumerate() if thread.name == loader.WORKER_NAME]


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
