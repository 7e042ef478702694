"""Early stopping gives the best weights back, whatever metrics come, and its state can be saved."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.serialization import load_state, save_state
from minigrad.training.early_stopping import EarlyStopping
from tests.support.regularization_makers import Weights, arrays

# --- early stopping ---


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=12), st.integers(1, 4), st.booleans())
def test_early_stopping_gives_back_the_best_weights_of_those_seen(metrics, patience, rising):
    model = Weights([0.0])
    stopping = EarlyStopping(model, patience, mode="max" if rising else "min")
    seen = []
    for i, metric in enumerate(metrics):
        if stopping.exhausted:
            break
        model.w.copy_(mg.tensor(np.array([float(i)])))
        best = stopping.step(metric)
        seen.append(metric)
        assert best == (stopping.since == 0)
    sign = 1 if rising else -1
    ranked = [(sign * f, -i) for i, f in enumerate(seen) if not math.isnan(f)]
    best = -max(ranked)[1] if ranked else None
    stopped = len(seen) - 1 - (best if best is not None else -1) >= patience
    assert stopping.exhausted == stopped
    stopping.restore()
    assert arrays(model)["w"][0] == (len(seen) - 1 if best is None else best)


def test_small_gains_do_not_count_and_the_state_can_be_saved(tmp_path):
    model = Weights([0.0])
    stopping = EarlyStopping(model, patience=2, min_delta=0.1)
    assert [stopping.step(f) for f in (1.0, 0.95, 0.85)] == [True, False, True]
    stopping.step(0.84)
    save_state(tmp_path / "s.safetensors", stopping.state_dict())
    other = EarlyStopping(Weights([3.0]), patience=2, min_delta=0.1)
    other.load_state_dict(load_state(tmp_path / "s.safetensors"))
    other.step(0.83)
    assert other.exhausted and other.best == 0.85
    other.restore()
    assert arrays(other.model)["w"][0] == 0.0
